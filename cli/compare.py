"""`dupmae compare`: whether runs are better than a baseline, with tests over topics."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.formats import form_of, format_option, write_csv
from dupmae_cli.options import (
    DropSelfOption,
    JsonOption,
    MeasuresOption,
    QrelsOption,
    RunsArgument,
    measure_names,
    split_option,
)
from dupmae_cli.runs import say_self_matches, say_unjudged
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.judging import Measured
    from dupmae_toolkit.evaluation.measures import Scores
    from dupmae_toolkit.evaluation.significance import Comparison


class TableFormat(StrEnum):
    TABLE = "table"
    MARKDOWN = "markdown"
    LATEX = "latex"
    CSV = "csv"
    JSON = "json"


def compare(
    baseline: Annotated[Path, typer.Argument(metavar="BASELINE", help="The run to beat.")],
    runs: RunsArgument,
    qrels: QrelsOption,
    measures: MeasuresOption = None,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    topics: Annotated[
        int,
        typer.Option(
            min=0,
            help="In the table, also list up to this many topics with the largest gains, and with "
            "the largest losses.",
        ),
    ] = 0,
    drop_self: DropSelfOption = None,
    format: Annotated[
        TableFormat | None,
        format_option("table", "How results are written: a table, Markdown, LaTeX, CSV, or JSON."),
    ] = None,
    json: JsonOption = False,
) -> None:
    """Compare runs with a baseline, topic by topic, and test the differences.

    Prints a row for each run and measure: the mean, its difference from the baseline
    with a 95% bootstrap interval, two-sided p-values of the paired t-test, of Fisher's
    randomisation and of Wilcoxon's signed-rank test, Cohen's d, and how many topics are
    better and worse. The p-values are after Holm's correction over the runs of a measure;
    JSON also has those before it. Means are over all judged topics, as in `dupmae eval`: a
    topic that a run lacks counts as 0.

    [bold]Examples:[/bold]

      dupmae compare --qrels qrels.txt bm25.trec dense.trec hybrid.trec

      dupmae compare --qrels scifact.zip --split test a.trec b.trec --format latex

      dupmae compare --qrels qrels.txt a.trec b.trec --measures nDCG@10 --topics 5
    """
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation import significance
    from dupmae_toolkit.evaluation.judging import read_judging

    form = form_of(format, json, TableFormat.TABLE)
    judging = read_judging(qrels, split, measure_names(measures), drop_self)
    measured: list[tuple[str, Measured]] = []
    for path in (baseline, *runs):
        try:
            measured.append((str(path), judging.measured(read_run(path, ties="trec_eval"))))
        except InputError as error:
            raise InputError.at(path, None, str(error)) from error
    found = [(label, each.scores) for label, each in measured]
    rows = significance.compare(found[0][1], found[1:])
    if form == TableFormat.JSON:
        document = {
            "baseline": str(baseline),
            "self_matches": "removed" if judging.drop_self else "kept",
            "runs": [_entry(row) for row in rows],
        }
        console.print_json(document)
    else:
        _print(_table(str(baseline), found[0][1], rows), form)
        if topics and form == TableFormat.TABLE:
            _print_topics(rows, topics)
    for label, each in measured:
        _say_counted(label, each.scores)
        say_self_matches(label, each.self_matches)


def _say_counted(label: str, scores: Scores) -> None:
    if lacking := scores.judged - scores.returned:
        console.say(f"{label}: lacks {counted(lacking, 'judged topic')}, counted as 0")
    say_unjudged(label, scores.unjudged)


def _entry(row: Comparison) -> dict[str, Any]:
    return {
        "run": row.run,
        "measure": row.measure,
        "mean": row.mean,
        "difference": row.difference,
        "interval": row.interval and list(row.interval),
        "tests": {test: {"p": p, "holm": row.holm[test]} for test, p in row.p.items()},
        "effect_size": row.effect,
        "gains": row.gains,
        "losses": row.losses,
        "topics": len(row.differences),
    }


_NAMES = (
    *("run", "measure", "mean", "difference", "low", "high"),
    *("t", "randomisation", "wilcoxon", "d", "gains", "losses"),
)


def _table(baseline: str, scores: Scores, rows: list[Comparison]) -> list[list[Any]]:
    """The rows below ``_NAMES``; None where there is no value."""
    blank = [None] * (len(_NAMES) - 3)
    table: list[list[Any]] = [
        [baseline, name, value, *blank] for name, value in scores.means.items()
    ]
    for row in rows:
        low, high = row.interval or (None, None)
        numbers = [row.mean, row.difference, low, high, *row.holm.values(), row.effect]
        table.append([row.run, row.measure, *numbers, row.gains, row.losses])
    return table


def _print(rows: list[list[Any]], form: TableFormat) -> None:
    out = console.results()
    if form == TableFormat.CSV:
        write_csv(out, _NAMES, rows)
        return
    cells = [[_shown(name, cell) for name, cell in zip(_NAMES, row, strict=True)] for row in rows]
    if form == TableFormat.TABLE:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for place, name in enumerate(_NAMES):
            table.add_column(name, overflow="fold", justify="right" if place > 1 else "left")
        for row in cells:
            table.add_row(*row)
        console.screen().print(table)
    elif form == TableFormat.MARKDOWN:
        aligned = ["---", "---", *["---:"] * (len(_NAMES) - 2)]
        for row in (list(_NAMES), aligned, *cells):
            print("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |", file=out)
    else:
        print(f"\\begin{{tabular}}{{ll{'r' * (len(_NAMES) - 2)}}}\n\\hline", file=out)
        for place, row in enumerate([list(_NAMES), *cells]):
            rule = " \\hline" if place == 0 else ""
            print(" & ".join(map(_latex, row)) + " \\\\" + rule, file=out)
        print("\\hline\n\\end{tabular}", file=out)


def _shown(name: str, cell: Any) -> str:
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    if name in ("t", "randomisation", "wilcoxon") and 0 < cell < 0.0001:
        return f"{cell:.0e}"
    return f"{cell:+.4f}" if name in ("difference", "low", "high") else f"{cell:.4f}"


_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _latex(text: str) -> str:
    return "".join(
        _LATEX.get(letter, f"\\{letter}" if letter in "&%$#_{}" else letter) for letter in text
    )


def _print_topics(rows: list[Comparison], most: int) -> None:
    for row in rows:
        ranked = sorted(row.differences.items(), key=lambda item: (-item[1], item[0]))
        gains = [item for item in ranked if item[1] > 0][:most]
        losses = [item for item in ranked if item[1] < 0][-most:]
        for topic, value in gains + losses:
            print(f"{row.run}\t{topic}\t{row.measure}\t{value:+.4f}")
