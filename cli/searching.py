"""`dupmae search` and `dupmae fuse`."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.hits import print_table

if TYPE_CHECKING:
    from dupmae_toolkit.records import Hit, Run
    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.searcher import Searcher


class Mode(StrEnum):
    HYBRID = "hybrid"
    DENSE = "dense"
    LEXICAL = "lexical"


class Method(StrEnum):
    SUM = "sum"
    LINEAR = "linear"
    RRF = "rrf"
    COMBSUM = "combsum"
    COMBMNZ = "combmnz"


class Norm(StrEnum):
    NONE = "none"
    MIN_MAX = "min-max"
    Z_SCORE = "z-score"


class Missing(StrEnum):
    ZERO = "zero"
    MIN = "min"


class Precision(StrEnum):
    AUTO = "auto"
    FP32 = "fp32"
    BF16 = "bf16"


NormOption = Annotated[
    Norm | None, typer.Option("--norm", help="Scores on a common footing; default: the method's.")
]
WeightsOption = Annotated[
    str | None, typer.Option("--weights", help="One for each list, as in 0.3,0.7.")
]
RrfOption = Annotated[float, typer.Option("--rrf-k", help="The k of 1 / (k + rank).")]
TagOption = Annotated[str | None, typer.Option("--tag", help="The last column of the run.")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, nothing else.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("search")(search)
    app.command("fuse")(fuse)


def search(
    index: Annotated[
        Path,
        typer.Option(
            "--index", help="The index to search; a FAISS or Lucene folder of Pyserini's too."
        ),
    ],
    query: Annotated[str | None, typer.Argument(help="A question, in quotes.")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            help="Many queries: a BEIR folder or zip, JSON lines, a TSV, an ir_datasets id, or a "
            "folder that `dupmae encode --queries` wrote."
        ),
    ] = None,
    split: Annotated[
        str | None, typer.Option(help="Of a BEIR data set, the queries judged in this split.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="The TREC run to write for --queries.")
    ] = None,
    k: Annotated[
        int | None, typer.Option("-k", help="Hits; default 10 for a question, 1000 in a run.")
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="Which of the two indexes; default: hybrid.")
    ] = None,
    fusion: Annotated[Method, typer.Option(help="How the two scores become one.")] = Method.SUM,
    norm: NormOption = None,
    weights: WeightsOption = None,
    rrf_k: RrfOption = 60.0,
    depth: Annotated[
        int | None,
        typer.Option(
            help="Hits of each index that are fused; default 4 k, from 100 to 1000, at least k."
        ),
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Look deeper until every ranking is proven.")
    ] = False,
    tag: TagOption = None,
    model: Annotated[
        str | None,
        typer.Option(help="builtin, a folder, or a hub id; default: the index's own encoder."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto: bf16 where the hardware has it, else fp32.")
    ] = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Search an index: one question for a table, many queries for a TREC run.

    Both indexes are searched side by side. A document that only one of them
    returned gets its other score from the stored vectors; the sum of both, with
    the model's weights, ranks. Ties break by document id.

    [bold]Examples:[/bold]

      dupmae search --index indexes/notes "how do I parse a date"

      dupmae search --index indexes/notes "how do I parse a date" --mode lexical -k 3 --json

      dupmae search --index indexes/scifact --queries scifact.zip --split test --output run.trec

      dupmae search --index indexes/scifact --queries encoded/queries --output run.trec --exact

      dupmae search --index lucene-index.impact --model my-model "a folder of stock Pyserini's"
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.interop.pyserini_index import open_searcher
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    if query is not None and queries is not None:
        raise InputError(
            f"the question {query!r} and --queries {queries} do not go together; give one of them"
        )
    if query is None and queries is None:
        raise InputError('give a question in quotes, as in "how do I parse a date", or --queries')
    if query is not None and not query.strip():
        raise InputError("the question has no text; give it some words")
    if query is not None and (output or tag or split):
        raise InputError("--output, --tag and --split go with --queries; a question gives a table")
    if queries is not None and output is None:
        raise InputError("--queries writes a TREC run; name its file with --output")
    how = Fusion(fusion.value, parse_weights(weights), norm.value if norm else None, rrf_k=rrf_k)
    if output is not None:
        _check_output(output, tag)
    fuses = how != Fusion(rrf_k=rrf_k) or depth is not None
    if mode is not None:
        _check_fuses(mode.value, fuses)
    opened = open_searcher(index, model, device=device, precision=precision.value)
    chosen = mode.value if mode else opened.mode
    _check_fuses(chosen, fuses)
    hits = k if k is not None else (10 if query is not None else 1000)
    request = opened.request(hits, chosen, how, depth, exact)
    if query is not None:
        _search_one(opened, query, request, json)
        return
    assert queries is not None
    assert output is not None
    _search_many(opened, queries, split, request, output, tag, json)


def fuse(
    runs: Annotated[list[Path], typer.Argument(help="TREC runs, two or more; .gz is read too.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The TREC run to write.")],
    method: Annotated[Method, typer.Option(help="How scores become one.")] = Method.RRF,
    weights: WeightsOption = None,
    norm: NormOption = None,
    missing: Annotated[
        Missing,
        typer.Option(help="What a document counts as in a run that lacks it, after --norm."),
    ] = Missing.ZERO,
    k: Annotated[int, typer.Option("-k", "--k", help="Documents kept of each topic.")] = 1000,
    rrf_k: RrfOption = 60.0,
    tag: TagOption = None,
    json: JsonOption = False,
) -> None:
    """Fuse TREC runs into one.

    rrf: Σ weight / (60 + rank), ranks from 1. sum: Σ weight × score. linear: Σ
    weight × normalised score. combsum: Σ normalised score. combmnz: that times
    the number of runs that hold the document. linear, combsum and combmnz
    normalise by min-max unless told otherwise. Ties break by document id.

    [bold]Examples:[/bold]

      dupmae fuse dense.trec lexical.trec --output fused.trec

      dupmae fuse a.trec b.trec c.trec --output fused.trec --method linear --weights 0.5,0.3,0.2

      dupmae fuse a.trec b.trec.gz --output fused.trec --method combmnz --missing min -k 100
    """
    from dupmae_toolkit.collection.trec import read_run, write_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.fusion import Fusion, fuse_runs, parse_weights

    how = Fusion(
        method.value, parse_weights(weights), norm.value if norm else None, missing.value, rrf_k
    )
    _check_output(output, tag)
    if output.exists() and any(path.exists() and path.samefile(output) for path in runs):
        raise InputError(f"{output}: is one of the runs to be fused; name another output")
    how.describe(len(runs), completed=False)  # refuses a wrong number of weights before reading
    fused = fuse_runs([read_run(path) for path in runs], how, k, tag)
    fused.metadata["runs"] = [str(path) for path in runs]
    write_run(fused, output)
    _report(fused, output, {"method": method.value}, json)


def _check_fuses(mode: str, fuses: bool) -> None:
    """Refuse, in a mode of one index, options that say how two are fused."""
    from dupmae_toolkit.errors import InputError

    if fuses and mode != Mode.HYBRID:
        raise InputError(
            f"mode {mode} fuses nothing; leave out --fusion, --norm, --weights, --depth"
        )


def _search_one(index: Searcher, query: str, request: Request, json: bool) -> None:
    answer = index.answer(query, request)
    hits = index.hits(answer)
    proven = answer.certificate.certified
    if json:
        console.print_json(
            {
                "query": query,
                "k": request.k,
                "mode": request.mode,
                "fusion": request.fusion.describe(2, True) if request.mode == "hybrid" else None,
                "certificate": answer.certificate.to_dict(),
                "hits": [_as_dict(hit) for hit in hits],
            }
        )
        return
    if hits:
        print_table(query, hits, request.mode)
    where = "proven to be the best" if proven else "not proven to be the best; --exact proves it"
    if not proven and request.mode == "hybrid" and not request.fusion.is_sum:
        where = f"fused by {request.fusion.method}"
    console.say(f"{len(hits):,} of {len(index):,} documents, {request.mode}, {where}")


def _search_many(
    index: Searcher,
    source: str,
    split: str | None,
    request: Request,
    output: Path,
    tag: str | None,
    json: bool,
) -> None:
    from dupmae_toolkit.collection.opening import read_queries
    from dupmae_toolkit.collection.trec import write_run
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError

    topics: Any
    if EncodedCorpus.is_one(source):
        if split is not None:
            raise InputError(f"{source}: holds encoded queries; --split goes with a BEIR data set")
        topics = EncodedCorpus.open(source)
    else:
        topics = read_queries(source, split)
    run = index.run(topics, request, tag, console.bar)
    run.metadata["queries"] = source
    run.metadata["split"] = split
    write_run(run, output)
    _report(run, output, {"mode": request.mode}, json)


def _report(run: Run, output: Path, how: dict[str, Any], json: bool) -> None:
    hits = sum(len(ranking) for ranking in run.topics.values())
    certificate = run.metadata.get("certificate")
    if json:
        summary = {"output": str(output), "tag": run.tag, "topics": len(run), "hits": hits}
        console.print_json(summary | how | run.metadata)
        return
    line = f"{output}: {len(run):,} topics, {hits:,} hits, {', '.join(how.values())}"
    if certificate:
        line += f", {certificate['certified']:,} of {certificate['topics']:,} rankings proven exact"
    console.say(line)


def _as_dict(hit: Hit) -> dict[str, Any]:
    return {name: getattr(hit, name) for name in hit.__slots__}


def _check_output(path: Path, tag: str | None) -> None:
    """Refuse, before the work, a file or a tag that could not be written after it."""
    from dupmae_toolkit.collection.lines import check_id
    from dupmae_toolkit.files import check_file_output

    if tag is not None:
        check_id(tag, path, None, "tag")
    check_file_output(path, "the run")
