"""`dupmae index`, `dupmae info`: build an index, describe it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console

if TYPE_CHECKING:
    from dupmae_toolkit.index.build import BuildOptions
    from dupmae_toolkit.index.manifest import Manifest

IndexFolder = Annotated[Path, typer.Option("--index", "-i", help="The index's folder.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
SkipInvalid = Annotated[
    bool, typer.Option("--skip-invalid", help="Leave out lines that are no documents.")
]
CORPORA = (
    "A BEIR folder or zip, JSON lines (plain, .gz, .xz; with _id, id, docid or doc_id; title; "
    "text, contents or body), a TSV of id and text, an ir_datasets id"
)
Texts = Annotated[
    str,
    typer.Argument(
        metavar="CORPUS|ENCODED",
        help=f"{CORPORA}, or a folder that `dupmae encode` wrote.",
    ),
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("index")(index)
    app.command("info")(info)


def index(
    source: Texts,
    index: Annotated[
        Path, typer.Option("--index", "-i", help="The folder to build in, or to continue in.")
    ],
    model: Annotated[
        str | None, typer.Option("--model", help="builtin (the default), a folder, or a hub id.")
    ] = None,
    faiss: Annotated[
        str, typer.Option(help="A FAISS factory string: Flat, HNSW32, IVF1024,Flat, PQ64 …")
    ] = "Flat",
    max_impact: Annotated[
        int, typer.Option(help="The largest impact that a weight becomes.")
    ] = 255,
    segment_size: Annotated[
        int, typer.Option(help="Documents in a segment; one segment at a time is in memory.")
    ] = 100_000,
    max_length: Annotated[
        int | None,
        typer.Option(help="Tokens kept of a text, special ones included; default: the model's."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    skip_invalid: SkipInvalid = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the index that stands there.")
    ] = False,
    json: Json = False,
) -> None:
    """Build an index: dense vectors into FAISS, lexical ones into Lucene, side by side.

    A run that was interrupted continues when it is called again in the same way; until the index is
    whole, one that stood there before stays as it was.

    [bold]Examples:[/bold]

      dupmae index scifact.zip --index indexes/scifact

      dupmae index notes.jsonl.gz --index indexes/notes --model my-model --faiss HNSW32

      dupmae index encoded/notes --index indexes/notes --overwrite --json
    """
    import time

    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.build import BuildOptions
    from dupmae_toolkit.index.info import index_info
    from dupmae_toolkit.index.manifest import BUILDING_FOLDER, MANIFEST_FILE
    from dupmae_toolkit.index.staging import check_target

    began = time.perf_counter()
    check_target(index, overwrite)
    stood = (index / MANIFEST_FILE).exists()

    def what_stands() -> str:
        said = console.kept(index / BUILDING_FOLDER)
        building = stood and (index / BUILDING_FOLDER).exists()
        return f"{said}; the index that stands there is as it was" if building else said

    console.if_interrupted(what_stands)
    options = BuildOptions(faiss, max_impact, segment_size)
    if EncodedCorpus.is_one(source):
        if max_length is not None or skip_invalid:
            raise InputError(
                f"{source}: is encoded already; leave out --max-length, --skip-invalid"
            )
        manifest = _from_encoded(source, index, model, options, overwrite)
    else:
        loading = {"max_length": max_length, "device": device, "precision": precision}
        manifest = _from_corpus(source, index, model, options, overwrite, skip_invalid, loading)
    seconds = time.perf_counter() - began
    console.say(_report(index, manifest, seconds))
    if json:
        console.print_json(index_info(index) | {"seconds": round(seconds, 3)})


def info(index: IndexFolder, json: Json = False) -> None:
    """Describe an index: documents, encoder, quantisation error, sizes.

    Whether it is whole, `dupmae verify` tells.

    [bold]Examples:[/bold]

      dupmae info --index indexes/scifact

      dupmae info --index indexes/scifact --json
    """
    from dupmae_toolkit.index.info import index_info

    values = index_info(index)
    if json:
        console.print_json(values)
        return
    for name, text in _described(values):
        print(f"{name:<12} {text}")


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
    skip_invalid: bool,
    loading: dict[str, Any],
) -> Manifest:
    from dupmae_toolkit.collection.opening import open_corpus
    from dupmae_toolkit.encoding.source import read_beginning
    from dupmae_toolkit.errors import InputError

    if loading["precision"] not in ("auto", "fp32", "bf16"):
        raise InputError(f"precision {loading['precision']!r}: choose one of auto, fp32, bf16")
    corpus = open_corpus(source, skip_invalid=skip_invalid)
    read_beginning(corpus)
    # Only now, because it takes seconds: what is wrong with the corpus is said at once.
    from dupmae_toolkit.index.corpus import index_corpus
    from dupmae_toolkit.model.loading import load_encoder

    encoder = load_encoder(model or "builtin", **loading)
    manifest = index_corpus(
        index, corpus, encoder, options, overwrite=overwrite, progress=console.bar
    )
    console.say_left_out(corpus)
    return manifest


def _report(index: Path, manifest: Manifest, seconds: float) -> str:
    error = manifest.error
    parts = [
        f"{index}: {manifest.count:,} documents indexed in {seconds:,.1f} s",
        f"mean error of a weight {error.mean_absolute:.2g}",
    ]
    if error.clipped:
        parts.append(f"{error.clipped:,} weights clipped")
    if manifest.truncated:
        parts.append(
            f"{manifest.truncated:,} texts were cut at {manifest.encoder.max_length} tokens"
        )
    return "; ".join(parts)


def _described(values: dict[str, Any]) -> list[tuple[str, str]]:
    """The lines of `dupmae info`: a name and a text each."""
    encoder, impacts, sizes = values["encoder"], values["impacts"], values["bytes"]
    error = impacts["error"]
    lines = [
        ("index", f"{values['index']} (format {values['format_version']})"),
        ("documents", f"{values['documents']:,}, {values['deleted']:,} deleted"),
        ("source", _source(values)),
        (
            "encoder",
            f"{encoder['name']}: {encoder['dense_dim']} dimensions, "
            f"{encoder['vocabulary_size']:,} terms, texts of up to {encoder['max_length']} tokens, "
            f"queries of {encoder['query_max_length']}; weights {encoder['weights_sha256'][:12]}",
        ),
        (
            "score",
            f"{encoder['dense_weight']:g} × dense + {encoder['lexical_weight']:g} × lexical",
        ),
        ("dense", f"FAISS {values['faiss']}, inner product"),
        (
            "lexical",
            f"{values['terms_per_document']:,.1f} terms a document; impacts up to "
            f"{impacts['max_impact']}, a step is {impacts['step']:.3g}, error "
            f"{error['mean_absolute']:.2g} on average, {error['max_absolute']:.2g} at most, "
            f"{error['clipped']:,} clipped",
        ),
        (
            "segments",
            ", ".join(f"{s['name']} ({s['documents']:,})" for s in values["segments"]),
        ),
        ("bytes", ", ".join(f"{name} {size:,}" for name, size in sizes.items())),
    ]
    if values["truncated"]:
        lines.insert(3, ("cut", f"{values['truncated']:,} texts at the encoder's limit"))
    lines += [("leftover", f"{name}: {_about_leftover(name)}") for name in values["leftovers"]]
    return lines


def _source(values: dict[str, Any]) -> str:
    source, changes = values["source"] or "not known", values["generation"]
    if not changes:
        return source
    return f"{source}, for what was built; {changes:,} change{'s' * (changes > 1)} since"


def _about_leftover(name: str) -> str:
    """What is to be said of something in an index's folder that is no part of the index."""
    from dupmae_toolkit.index.manifest import ADDING_FOLDER, BUILDING_FOLDER

    if name == BUILDING_FOLDER:
        return "of a build, under way or interrupted; the same `dupmae index` goes on"
    if name == ADDING_FOLDER:
        return "of an addition, under way or interrupted; the same `dupmae add` goes on"
    return "of no use, unless a search that is under way reads it; gone with a later change"
