"""`dupmae encode`: encode a corpus or queries into both vectors, written as Parquet."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    CorpusArgument,
    DenseOption,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    HeaderOption,
    IdFieldOption,
    JsonOption,
    MaxLengthOption,
    ModelOption,
    OverlapOption,
    PassagesOption,
    Precision,
    PrecisionOption,
    SkipInvalidOption,
    TextFieldOption,
    TitleFieldOption,
    reading_of,
)
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus


class DenseDtype(StrEnum):
    FLOAT32 = "float32"
    FLOAT16 = "float16"


def encode(
    corpus: CorpusArgument,
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder to write to; an interrupted run continues in it."
        ),
    ],
    model: ModelOption = "builtin",
    max_length: MaxLengthOption = None,
    dense: DenseOption = None,
    passages: PassagesOption = None,
    overlap: OverlapOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    queries: Annotated[
        bool, typer.Option("--queries", help="CORPUS holds queries: encode them as queries.")
    ] = False,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    duplicates: DuplicatesOption = Duplicates.ERROR,
    skip_invalid: SkipInvalidOption = False,
    part_size: Annotated[
        int | None,
        typer.Option(
            metavar="<int>",
            min=1,
            help="Texts per Parquet file. An interruption loses at most one file.",
            show_default="2048",
        ),
    ] = None,
    dense_dtype: Annotated[
        DenseDtype, typer.Option(help="float16 halves the size of the dense vectors.")
    ] = DenseDtype.FLOAT32,
    json: JsonOption = False,
) -> None:
    """Encode texts into dense and lexical vectors, and write them as Parquet.

    Both vectors of a text come from one pass of the model. OUTPUT is a folder of Parquet files and
    a manifest. Pass it to `dupmae index` in place of a corpus or, if it holds queries, to
    `dupmae search --queries`. Texts longer than the model's limit are cut and counted.

    If interrupted, run the same command to continue. A finished folder is used as it is.

    [bold]Examples:[/bold]

      dupmae encode scifact.zip --output encoded/scifact

      dupmae encode notes.jsonl.gz --output encoded/notes --model my-model --max-length 512

      dupmae encode books.jsonl --output encoded/books --passages 200 --overlap 50

      dupmae encode queries.tsv --queries --output encoded/queries --json
    """
    import time

    from dupmae_toolkit.collection.opening import open_corpus, read_topics
    from dupmae_toolkit.collection.passages import passages_of
    from dupmae_toolkit.encoding.source import Memory, Source, read_beginning
    from dupmae_toolkit.encoding.stream import PART_SIZE, encode_corpus

    source: Source
    reading = reading_of(id_field, title, text, header, duplicates, skip_invalid)
    cutting = passages_of(passages, overlap)
    for_documents = skip_invalid or duplicates != Duplicates.ERROR or title is not None or cutting
    if queries and for_documents:
        raise typer.BadParameter(
            "--skip-invalid, --duplicates, --title and --passages are for documents, not for "
            "--queries."
        )
    if queries:
        topics = read_topics(corpus, columns=reading["columns"])
        notes = topics.reading.notes
        source = Memory(topics.queries, corpus)
    else:
        source = documents = open_corpus(corpus, **reading)
        notes = documents.notes
    read_beginning(source)
    # Imported late, because it takes seconds: errors in the corpus are reported first.
    from dupmae_toolkit.model.loading import load_encoder

    limit = "query_max_length" if queries else "max_length"
    changes: dict[str, Any] = {limit: max_length, "pooling": dense.value if dense else None}
    encoder = load_encoder(model, device=device, precision=precision.value, **changes)
    console.say_remarks(encoder)
    kept = getattr(encoder.info, limit)
    if max_length is not None and kept != max_length:
        console.say(f"{model}: has room for {kept} tokens, not for --max-length {max_length}")
    console.if_interrupted(lambda: console.kept(output))
    began = time.perf_counter()
    encoded = encode_corpus(
        source,
        encoder,
        output,
        part_size=part_size or PART_SIZE,
        dense_dtype=dense_dtype.value,
        kind="queries" if queries else "documents",
        passages=cutting,
        progress=console.bar,
    )
    seconds = time.perf_counter() - began
    skipped = getattr(source, "skipped", 0)
    for note in notes():
        console.say(note)
    console.say(_report(encoded, seconds, kept))
    if json:
        console.print_json(_summary(encoded, seconds) | {"skipped": skipped})


def _report(encoded: EncodedCorpus, seconds: float, limit: int) -> str:
    total, newly = len(encoded), encoded.newly_encoded
    word = "query" if encoded.kind == "queries" else "text"
    if encoded.passages is not None:
        word = "passage"
    if not newly:
        done = f"{encoded.folder}: {counted(total, word)} already encoded, in the same way"
    else:
        before = f" ({total - newly:,} of {total:,} were already encoded)" if newly < total else ""
        rate = newly / max(seconds, 1e-9)
        done = (
            f"{encoded.folder}: {counted(newly, word)} encoded in {seconds:,.1f} s, "
            f"{rate:,.1f} a second{before}"
        )
    cut = encoded.manifest["truncated"]
    more = cut and word == "text"
    said = f"{done}; {cut:,} cut at {limit} tokens"
    return f"{said} ({console.UNCUT})" if more else said


def _summary(encoded: EncodedCorpus, seconds: float) -> dict[str, Any]:
    keys = ("format_version", "kind", "source", "count", "truncated", "dense_dtype", "part_size")
    return {
        "output": str(encoded.folder),
        **{key: encoded.manifest[key] for key in keys},
        "passages": encoded.manifest.get("passages"),
        "parts": len(encoded.manifest["parts"]),
        "bytes": sum(path.stat().st_size for path in encoded.folder.iterdir()),
        "newly_encoded": encoded.newly_encoded,
        "seconds": round(seconds, 3),
        "precision": encoded.manifest["precision"],
        "encoder": encoded.manifest["encoder"],
    }
