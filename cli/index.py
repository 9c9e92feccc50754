"""`dupmae index`: build an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    DenseOption,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    FaissOption,
    HeaderOption,
    IdFieldOption,
    JsonOption,
    MaxLengthOption,
    NoBm25Option,
    OverlapOption,
    PassagesOption,
    Precision,
    PrecisionOption,
    SkipInvalidOption,
    TextFieldOption,
    TextsArgument,
    TitleFieldOption,
    VectorsOption,
    model_option,
    reading_of,
)
from dupmae_cli.vectors import say_unused, texts_of
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.collection.passages import Passages
    from dupmae_toolkit.index.build import BuildOptions
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.records import Encoder


def index(
    source: TextsArgument,
    index: Annotated[
        Path,
        typer.Option(
            "--index", "-i", help="The folder for the index; an interrupted build continues in it."
        ),
    ],
    model: Annotated[
        str | None, model_option("builtin; for ENCODED, the one that encoded it")
    ] = None,
    faiss: FaissOption = "Flat",
    passages: PassagesOption = None,
    overlap: OverlapOption = None,
    max_impact: Annotated[
        int, typer.Option(help="Lexical weights are stored as integers from 1 to this.")
    ] = 255,
    segment_size: Annotated[
        int, typer.Option(help="Documents per segment. One segment at a time is held in memory.")
    ] = 100_000,
    no_bm25: NoBm25Option = False,
    mean_length: Annotated[
        float | None,
        typer.Option(
            help="The mean length of documents in words, with which BM25 compares each document.",
            show_default="that of the documents",
        ),
    ] = None,
    max_length: MaxLengthOption = None,
    dense: DenseOption = None,
    vectors: VectorsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    duplicates: DuplicatesOption = Duplicates.ERROR,
    skip_invalid: SkipInvalidOption = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the existing index.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build an index: dense vectors in FAISS, lexical vectors and words in Lucene.

    CORPUS is encoded first; ENCODED already is. The index is a folder: search it with
    `dupmae search`, change it with `dupmae add` and `dupmae delete`.

    The model reads only the beginning of a text, up to its limit. With --passages, all of a long
    text can be found: texts are cut into passages, and a document is ranked by its passages.

    With --vectors, nothing is encoded. --model then names the model that made the vectors, to
    encode queries; without it, searches need --query-vectors.

    If interrupted, run the same command to continue. With --overwrite, the existing index stays as
    it is until the new one is complete.

    [bold]Examples:[/bold]

      dupmae index scifact.zip --index indexes/scifact

      dupmae index notes.jsonl.gz --index indexes/notes --model my-model --faiss HNSW32

      dupmae index books.jsonl --index indexes/books --passages 200 --overlap 50

      dupmae index encoded/notes --index indexes/notes --overwrite --json
    """
    import time

    from dupmae_toolkit.collection.passages import passages_of
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.build import BuildOptions
    from dupmae_toolkit.index.info import index_info
    from dupmae_toolkit.index.layout import BUILDING_FOLDER, MANIFEST_FILE
    from dupmae_toolkit.index.mistaken import EXPORT_FILE
    from dupmae_toolkit.index.staging import check_target

    began = time.perf_counter()
    cutting = passages_of(passages, overlap)
    check_target(index, overwrite)
    replaces = (index / MANIFEST_FILE).exists()

    def describe_kept_work() -> str:
        kept = console.kept(index / BUILDING_FOLDER)
        unchanged = replaces and (index / BUILDING_FOLDER).exists()
        return f"{kept}; the existing index is unchanged" if unchanged else kept

    console.if_interrupted(describe_kept_work)
    options = BuildOptions(faiss, max_impact, segment_size, not no_bm25, mean_length)
    reading = reading_of(id_field, title, text, header, duplicates, skip_invalid)
    if EncodedCorpus.is_one(source):
        given = dense is not None or vectors is not None or cutting is not None
        if max_length is not None or reading != reading_of() or given:
            raise InputError(
                f"{source}: is encoded already; leave out --max-length, --skip-invalid, "
                "--duplicates, --id, --title, --text, --header, --dense, --vectors, --passages"
            )
        manifest = _from_encoded(source, index, model, options, overwrite)
    elif (Path(source) / EXPORT_FILE).is_file():
        raise InputError(
            f"{source}: holds exported vectors; `dupmae import` builds an index of them"
        )
    else:
        _check_vectors(vectors, max_length, cutting)
        loading = {"max_length": max_length, "device": device, "precision": precision.value}
        loading["pooling"] = dense.value if dense else None
        manifest = _from_corpus(
            source, index, model, options, overwrite, reading, loading, vectors, cutting
        )
    seconds = time.perf_counter() - began
    console.say(_report(index, manifest, seconds))
    if json:
        console.print_json(index_info(index) | {"seconds": round(seconds, 3)})


def _from_encoded(
    source: str, index: Path, model: str | None, options: BuildOptions, overwrite: bool
) -> Manifest:
    from dataclasses import asdict

    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.index.build import build_index

    encoded = EncodedCorpus.open(source)
    vocabulary = encoded.vocabulary() if model is None else None
    if vocabulary is None:
        from dupmae_toolkit.model.loading import load_encoder

        vocabulary = load_encoder(model or encoded.info.name).vocabulary
    return build_index(
        index,
        encoded,
        vocabulary=vocabulary,
        progress=console.bar,
        overwrite=overwrite,
        **asdict(options),
    )


def _from_corpus(
    source: str,
    index: Path,
    model: str | None,
    options: BuildOptions,
    overwrite: bool,
    reading: dict[str, Any],
    loading: dict[str, Any],
    vectors: Path | None = None,
    passages: Passages | None = None,
) -> Manifest:
    from dupmae_toolkit.collection.opening import open_corpus
    from dupmae_toolkit.encoding.source import read_beginning

    corpus = open_corpus(source, **reading)
    read_beginning(corpus)
    # Imported late, because it takes seconds: errors in the corpus are reported first.
    from dupmae_toolkit.index.build import index_corpus
    from dupmae_toolkit.model.loading import load_encoder

    encoder: Encoder
    if vectors is None:
        encoder = load_encoder(model or "builtin", **loading)
        console.say_remarks(encoder)
    else:
        from dupmae_toolkit.encoding.vectors import StoredVectors

        made_by = load_encoder(model, **loading) if model else None
        encoder = StoredVectors(
            vectors, made_by.info if made_by else None, made_by.vocabulary if made_by else ()
        )
        corpus = texts_of(corpus, source, vectors)
    manifest = index_corpus(
        index,
        corpus,
        encoder,
        options,
        passages=passages,
        overwrite=overwrite,
        progress=console.bar,
    )
    console.say_notes(corpus)
    if vectors is not None:
        say_unused(encoder, manifest.count)  # type: ignore[arg-type]
    return manifest


def _check_vectors(vectors: Path | None, max_length: int | None, passages: Passages | None) -> None:
    from dupmae_toolkit.errors import InputError

    if vectors is not None and passages is not None:
        raise InputError(f"{vectors}: holds vectors of whole documents; leave out --passages")

    if vectors is not None and max_length is not None:
        raise InputError(f"{vectors}: nothing is encoded; leave out --max-length")


def _report(index: Path, manifest: Manifest, seconds: float) -> str:
    parts = [
        f"{index}: {_held(manifest)} indexed in {seconds:,.1f} s",
        console.rounding(manifest.error),
    ]
    if manifest.bm25:
        parts.append(f"mean length {manifest.bm25.mean_length:,.1f} words")
    if manifest.truncated:
        length = manifest.encoder.max_length
        cut = f"{counted(manifest.truncated, 'text')} cut at {length} tokens"
        parts.append(cut if manifest.passages else f"{cut} ({console.UNCUT})")
    return "; ".join(parts)


def _held(manifest: Manifest) -> str:
    """How many documents an index holds, and how many passages of them, if any."""
    documents = counted(manifest.documents, "document")
    if manifest.passages is None:
        return documents
    return f"{documents} in {counted(manifest.live, 'passage')}"
