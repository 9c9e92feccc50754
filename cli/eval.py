"""`dupmae eval`: measure runs, with the values that trec_eval gives."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import MEASURES, JsonOption, MeasuresOption, split_option

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.measures import Scores


def evaluate(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN", help="TREC runs, plain, .gz or .xz.")
    ],
    qrels: Annotated[
        str,
        typer.Option(
            help="Judgements: a file with BEIR's three or TREC's four columns; with --split, a "
            "BEIR folder or zip; or irds:NAME, a data set of ir_datasets."
        ),
    ],
    measures: MeasuresOption = MEASURES,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    per_topic: Annotated[
        bool, typer.Option("--per-topic", help="Also print the values of each topic.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Measure runs against judgements, with the values that trec_eval gives.

    Prints a table with a row for each run. Means are over all judged topics, as with
    `trec_eval -c`: a topic that a run lacks counts as 0.

    [bold]Examples:[/bold]

      dupmae eval --qrels scifact/qrels/test.tsv runs/scifact.hybrid.trec

      dupmae eval --qrels scifact.zip --split test runs/*.trec --measures "nDCG@10 P(rel=2)@5"

      dupmae eval --qrels qrels.txt run.trec.gz --per-topic --json
    """
    from dupmae_toolkit.collection.opening import read_qrels
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.measures import evaluate, parse_measures, split_measures

    names = split_measures(measures)
    parse_measures(names)
    judged = read_qrels(qrels, split)
    found: dict[str, Scores] = {}
    for path in runs:
        run = read_run(path, ties="trec_eval")
        try:
            found[str(path)] = evaluate(judged, run, names)
        except InputError as error:
            raise InputError.at(path, None, str(error)) from error
    if json:
        console.print_json(_document(qrels, len(judged), found, per_topic))
    else:
        _print_table(found, per_topic)


def _document(qrels: str, judged: int, found: dict[str, Scores], per_topic: bool) -> Any:
    runs = []
    for path, scores in found.items():
        entry: dict[str, Any] = {
            "run": path,
            "returned": scores.returned,
            "unjudged": scores.unjudged,
            "measures": scores.means,
        }
        if per_topic:
            entry["per_topic"] = scores.per_topic
        runs.append(entry)
    return {"qrels": qrels, "judged": judged, "runs": runs}


def _print_table(found: dict[str, Scores], per_topic: bool) -> None:
    from rich.console import Console
    from rich.table import Table

    for path, scores in found.items() if per_topic else ():
        for topic in next(iter(scores.per_topic.values())):
            for name, values in scores.per_topic.items():
                print(f"{path}\t{topic}\t{name}\t{values[topic]:.4f}")
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in next(iter(found.values())).means:
        table.add_column(name, justify="right")
    table.add_column("topics", justify="right")
    for path, scores in found.items():
        cells = [f"{value:.4f}" for value in scores.means.values()]
        table.add_row(path, *cells, f"{scores.returned:,}/{scores.judged:,}")
        if scores.unjudged:
            console.say(f"{path}: {scores.unjudged:,} topics without judgements are ignored")
    Console(soft_wrap=True, highlight=False, markup=False).print(table)
