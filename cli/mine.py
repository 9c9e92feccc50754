"""`dupmae mine`: take hard negatives from a search or from a run."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    CORPORA,
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    HeaderOption,
    HybridWeightsOption,
    IdFieldOption,
    JsonOption,
    MarginOption,
    MarginRatioOption,
    Mode,
    Precision,
    PrecisionOption,
    QueryLengthOption,
    SkipInvalidOption,
    TextFieldOption,
    TitleFieldOption,
    model_option,
    reading_of,
    split_option,
)
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.mining.report import MiningReport


class Pick(StrEnum):
    RANDOM = "random"
    TOP = "top"


def mine(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The file to write: .jsonl (.gz, .bz2, .xz, .zst)."),
    ],
    corpus: Annotated[
        str | None,
        typer.Argument(
            metavar="CORPUS",
            help=f"{CORPORA}. Not needed with --index and either --queries or --pairs.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index", "-i", help="The index to search.", show_default="a temporary index of CORPUS"
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Take candidates from this TREC run instead of a search."),
    ] = None,
    split: Annotated[str | None, split_option("train")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            help="Other queries than those of CORPUS: a BEIR data set, or a file with --qrels."
        ),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="The judgements of --queries, in TREC's or BEIR's columns.")
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Use titles as queries, and their texts as positives."),
    ] = False,
    grade: Annotated[
        int, typer.Option(help="The lowest grade that makes a document a positive.")
    ] = 1,
    mode: Annotated[Mode, typer.Option(help="Which scores to rank by.")] = Mode.HYBRID,
    weights: HybridWeightsOption = None,
    depth: Annotated[
        int | None,
        typer.Option(help="Candidates for each query.", show_default="--to-rank, or 200"),
    ] = None,
    from_rank: Annotated[int, typer.Option(help="The first rank to take negatives from.")] = 1,
    to_rank: Annotated[
        int | None,
        typer.Option(help="The last rank to take negatives from.", show_default="--depth"),
    ] = None,
    negatives: Annotated[
        int, typer.Option("--negatives", "-n", help="Negatives for each query, at most.")
    ] = 15,
    pick: Annotated[
        Pick,
        typer.Option(
            help="Which candidates to take of those that pass the filters: a random sample, or the "
            "top."
        ),
    ] = Pick.RANDOM,
    seed: Annotated[int, typer.Option(help="The seed of the random sample.")] = 1,
    margin: MarginOption = None,
    margin_ratio: MarginRatioOption = None,
    same_text: Annotated[
        bool,
        typer.Option(
            "--drop-same-text/--keep-same-text",
            help="Whether to leave out documents whose text is that of a positive, or the query.",
        ),
    ] = True,
    same_title: Annotated[
        bool | None,
        typer.Option(
            "--drop-same-title/--keep-same-title",
            help="Whether to leave out documents whose title is that of a positive, or the query.",
            show_default="keep, but drop with --pairs",
        ),
    ] = None,
    drop_self: Annotated[
        bool, typer.Option("--drop-self", help="Leave out the document that has the query's id.")
    ] = False,
    teacher_run: Annotated[
        Path | None,
        typer.Option(
            help="A TREC run with another model's scores, to filter by; see --teacher-margin."
        ),
    ] = None,
    teacher_margin: Annotated[
        float,
        typer.Option(
            help="Leave out negatives that --teacher-run scores above the best positive's score "
            "minus this."
        ),
    ] = 0.0,
    keep_bare: Annotated[
        bool, typer.Option("--keep-bare", help="Also write queries that have no negatives.")
    ] = False,
    query_length: QueryLengthOption = None,
    model: Annotated[str | None, model_option("the one that --index names, else builtin")] = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    duplicates: DuplicatesOption = Duplicates.ERROR,
    skip_invalid: SkipInvalidOption = False,
    json: JsonOption = False,
) -> None:
    """Mine hard negatives: documents that score high for a query but do not answer it.

    OUTPUT gets a line for each query: its positives, its negatives, and their
    scores. Settings and counts go to OUTPUT.json. `dupmae finetune` reads OUTPUT as
    data of the kind `groups`; `dupmae teach` replaces its scores by a teacher's.

    Documents that look like unjudged answers are left out: by their text, by
    --margin, by --teacher-run. Without --index or --run, CORPUS is encoded and
    indexed in a temporary folder first.

    [bold]Examples:[/bold]

      dupmae mine scifact.zip --output mined.jsonl.gz

      dupmae mine scifact.zip --index indexes/scifact --output mined.jsonl --from-rank 5 -n 30

      dupmae mine --index indexes/notes --queries q.tsv --qrels q.qrels --output m.jsonl --margin 1

      dupmae mine abstracts.jsonl --pairs --output mined.jsonl --mode lexical --margin-ratio 0.05

      dupmae mine scifact.zip --run bm25.trec --output mined.jsonl --pick top
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.mining.job import (
        DEPTH,
        SPLIT,
        CandidateOptions,
        TopicOptions,
        mine_corpus,
    )
    from dupmae_toolkit.mining.negative_filters import MiningOptions
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    if to_rank is not None and depth is not None and to_rank > depth:
        raise InputError(f"--to-rank {to_rank} is beyond --depth {depth}; raise --depth")
    depth = depth or to_rank or DEPTH
    options = MiningOptions(
        negatives=negatives,
        from_rank=from_rank,
        to_rank=to_rank or depth,
        pick=pick.value,
        seed=seed,
        margin=margin,
        margin_ratio=margin_ratio,
        same_text=same_text,
        same_title=pairs if same_title is None else same_title,
        drop_self=drop_self,
        teacher_margin=teacher_margin,
        texts_only=pairs,
        keep_bare=keep_bare,
    )
    _check(corpus, index, split, queries, qrels, pairs)
    if run is not None and (weights or mode != Mode.HYBRID or model or query_length is not None):
        raise InputError(
            "--run replaces the search; leave out --mode, --weights, --model and --query-length"
        )
    fusion = Fusion("sum", parse_weights(weights))
    if weights is not None and mode != Mode.HYBRID:
        raise InputError(f"--weights is for mode hybrid, not for mode {mode.value}; leave it out")
    console.if_interrupted(console.whether_written(output))
    mined = mine_corpus(
        corpus,
        output,
        options,
        TopicOptions(queries, qrels, split or SPLIT, grade, pairs),
        CandidateOptions(
            index,
            run,
            depth,
            mode.value,
            fusion,
            model,
            device,
            precision.value,
            query_max_length=query_length,
        ),
        teacher_run=teacher_run,
        **reading_of(id_field, title, text, header, duplicates, skip_invalid),
        progress=console.bar,
    )
    for note in mined.notes:
        console.say(note)
    if json:
        console.print_json(mined.metadata)
    else:
        _show(mined.report, output)


def _check(
    corpus: str | None,
    index: Path | None,
    split: str | None,
    queries: str | None,
    qrels: Path | None,
    pairs: bool,
) -> None:
    """Refuse options that do not go together, before the work begins."""
    from dupmae_toolkit.errors import InputError

    if corpus is None and index is None:
        raise InputError("name a CORPUS, or an index with --index")
    if pairs and (queries or qrels or split):
        raise InputError("--pairs makes the queries; leave out --queries, --qrels and --split")
    if qrels is not None and (queries is None or split is not None):
        raise InputError("--qrels goes with --queries, and not with --split")
    if corpus is None and queries is None and not pairs:
        raise InputError("name the queries: --queries with --qrels or --split, or --pairs")


def _show(report: MiningReport, output: Path) -> None:
    """Print what was taken, what was left out and why, and the spread of ranks and scores."""
    from rich.console import Console
    from rich.table import Table

    from dupmae_toolkit.mining.report import REASONS

    values = report.to_dict()
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")

    def row(count: int, text: str) -> None:
        if count:
            table.add_row(f"{count:,}", text)

    row(report.queries, "queries")
    row(report.without_positives, "without a positive document, left out")
    row(report.without_negatives, "without negatives")
    row(report.with_fewer, "with fewer negatives than asked for")
    row(report.candidates, "candidates")
    for reason, text in REASONS.items():
        row(report.dropped[reason], f"left out: {text}")
    row(report.not_needed, "not needed")
    row(report.negatives, "negatives")
    row(report.positives, "positives")
    row(report.positives_not_listed, "positives that are not among the candidates")
    row(values["negatives_above_positive"], "negatives that score above the best positive")
    shown = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    shown.print(table)
    names = {"positive_ranks": "positive's rank", "ranks": "negative's rank"}
    names |= {"margins": "positive − negative"}
    spread = Table(box=None, padding=(0, 1), pad_edge=False)
    spread.add_column("", no_wrap=True)
    columns = ("min", "p10", "p25", "median", "p75", "p90", "max")
    for name in columns:
        spread.add_column(name, justify="right", no_wrap=True)
    for key, text in names.items():
        if values[key]:
            spread.add_row(text, *(f"{values[key][name]:.4g}" for name in columns))
    shown.print(spread)
    negatives = counted(report.negatives, "negative")
    console.say(f"{output}: {counted(report.written, 'query')}, {negatives}")
