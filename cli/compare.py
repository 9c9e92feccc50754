"""`dupmae compare`: whether runs are better than a baseline, with tests over topics."""

from __future__ import annotations

from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.formats import form_of, format_option
from dupmae_cli.options import (
    DropSelfOption,
    JsonOption,
    MeasuresOption,
    QrelsOption,
    RunsArgument,
    measure_names,
    split_option,
)
from dupmae_cli.runs import say_missed, say_self_matches

if TYPE_CHECKING:
    from collections.abc import Sequence

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
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            help="Also draw plots into this SVG file: intervals and the differences of all topics "
            "for the first measure, precision by recall.",
        ),
    ] = None,
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
    better and worse. Holm's correction is applied to the p-values over the runs of a
    measure; JSON also has the p-values before it. Means are over all judged topics, as in
    `dupmae eval`: a topic that a run lacks counts as 0.

    [bold]Examples:[/bold]

      dupmae compare --qrels qrels.txt bm25.trec dense.trec hybrid.trec

      dupmae compare --qrels scifact.zip --split test a.trec b.trec --format latex

      dupmae compare --qrels qrels.txt a.trec b.trec --measures nDCG@10 --topics 5

      dupmae compare --qrels qrels.txt bm25.trec hybrid.trec --plot hybrid.svg
    """
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation import significance
    from dupmae_toolkit.evaluation.judging import read_judging
    from dupmae_toolkit.evaluation.report.comparing import curve_of
    from dupmae_toolkit.files import check_file_output

    form = form_of(format, json, TableFormat.TABLE)
    if topics and form not in (TableFormat.TABLE, TableFormat.JSON):
        raise InputError("--topics goes with the table; JSON has the differences of all topics")
    if plot is not None:
        if plot.suffix.lower() != ".svg":
            raise InputError(f"--plot {plot}: a plot is SVG; name a file that ends in .svg")
        check_file_output(plot, "the plot")
    judging = read_judging(qrels, split, measure_names(measures), drop_self)
    measured: list[tuple[str, Measured]] = []
    curves: list[list[float]] = []
    for path in (baseline, *runs):
        run = read_run(path)
        try:
            measured.append((str(path), judging.measured(run)))
            if plot is not None:
                curves.append(curve_of(judging.kept(run), judging.qrels))
        except InputError as error:
            raise InputError.at(path, None, str(error)) from error
    found = [(label, each.scores) for label, each in measured]
    rows = significance.compare(found[0][1], found[1:])
    if plot is not None:
        _draw(plot, [baseline, *runs], curves, [scores for _, scores in found], rows)
    if form == TableFormat.JSON:
        document = {
            "baseline": str(baseline),
            "baseline_means": found[0][1].means,
            "self_matches": "removed" if judging.drop_self else "kept",
            "runs": [significance.entry_of(row) for row in rows],
        }
        console.print_json(document)
    else:
        _print(_table(str(baseline), found[0][1], rows), form)
        if topics and form == TableFormat.TABLE:
            _print_topics(rows, topics)
    for label, each in measured:
        say_missed(label, each.scores, each.missed)
        say_self_matches(label, each.self_matches)


def _draw(
    plot: Path,
    paths: Sequence[Path],
    curves: Sequence[Sequence[float]],
    scores: Sequence[Scores],
    rows: Sequence[Comparison],
) -> None:
    """Draw the runs under short names, the baseline first."""
    from dupmae_toolkit.evaluation.report.comparing import Measured, drawn
    from dupmae_toolkit.evaluation.report.folder import labels_of
    from dupmae_toolkit.files import atomic_file

    labels = labels_of(paths)
    by_label = dict(zip(labels, scores, strict=True))
    each = len(rows) // max(1, len(labels) - 1)  # rows of a run; a path may come twice
    named = [replace(row, run=labels[1 + n // each]) for n, row in enumerate(rows)]
    drawing = drawn(Measured(dict(zip(labels, curves, strict=True)), by_label, named))
    with atomic_file(plot) as temporary:
        temporary.write_text(drawing, "utf-8")
    console.say(f"wrote {plot}")


def _table(baseline: str, scores: Scores, rows: list[Comparison]) -> list[list[Any]]:
    """The rows below ``significance.COLUMNS``; None where there is no value."""
    from dupmae_toolkit.evaluation.significance import COLUMNS, row_of

    blank = [None] * (len(COLUMNS) - 3)
    return [
        *([baseline, name, value, *blank] for name, value in scores.means.items()),
        *map(row_of, rows),
    ]


def _print(rows: list[list[Any]], form: TableFormat) -> None:
    from dupmae_toolkit.evaluation.significance import COLUMNS, cell_text
    from dupmae_toolkit.evaluation.table_texts import csv_text, latex, markdown

    out = console.results()
    if form == TableFormat.CSV:
        out.write(csv_text(COLUMNS, rows))
        return
    cells = [
        [cell_text(name, cell) for name, cell in zip(COLUMNS, row, strict=True)] for row in rows
    ]
    if form == TableFormat.TABLE:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for place, name in enumerate(COLUMNS):
            table.add_column(name, no_wrap=True, justify="right" if place > 1 else "left")
        for row in cells:
            table.add_row(*row)
        console.print_whole(table)
    else:
        out.write((markdown if form == TableFormat.MARKDOWN else latex)(COLUMNS, cells, 2))


def _print_topics(rows: list[Comparison], most: int) -> None:
    for row in rows:
        ranked = sorted(row.differences.items(), key=lambda item: (-item[1], item[0]))
        gains = [item for item in ranked if item[1] > 0][:most]
        losses = [item for item in ranked if item[1] < 0][-most:]
        for topic, value in gains + losses:
            print(f"{row.run}\t{topic}\t{row.measure}\t{value:+.4f}")
