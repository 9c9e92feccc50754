"""A study's tables, as files and at the top of its page."""

from __future__ import annotations

from typing import Any

from dupmae_toolkit.evaluation.report.svg import escaped
from dupmae_toolkit.evaluation.report.tables import Html, table
from dupmae_toolkit.evaluation.significance import LEVEL, MARK
from dupmae_toolkit.evaluation.sweep.results import LONG, Results
from dupmae_toolkit.evaluation.table_texts import csv_text, latex, markdown

#: Where a run could not be made.
FAILED = "failed"


def cells_of(results: Results, measure: str) -> tuple[list[str], list[list[str]]]:
    """The wide table of a measure as texts: the columns, and a row for each run of the grid."""
    columns, rows = results.wide(measure)
    labels = [cell.label for cell in results.grid.cells]
    texts = [
        [label, *(_text(value, marked) for value, marked in row)]
        for label, row in zip(labels, rows, strict=True)
    ]
    return ["run", *columns], texts


def caption_of(results: Results, measure: str) -> str:
    """What the wide table shows."""
    text = f"{measure} of each run on each collection"
    if results.comparisons:
        text += (
            f"; {MARK} differs from {results.grid.baseline}: p < {LEVEL:g} by Fisher's "
            "randomisation, after Holm's correction over all runs and collections"
        )
    return text


def long_table(results: Results) -> str:
    """A row for each run, collection and measure, as CSV."""
    return csv_text(LONG, results.long_rows())


def markdown_tables(results: Results) -> str:
    """The wide table of each measure, and the notes."""
    pieces = []
    for measure in results.study.measures:
        columns, rows = cells_of(results, measure)
        pieces.append(f"{caption_of(results, measure)}.\n\n{markdown(columns, rows, 1)}")
    return "\n".join([*pieces, *(f"{note}\n" for note in results.notes())])


def latex_tables(results: Results) -> str:
    """A tabular for each measure; what it shows, and the notes, are comments."""
    pieces = []
    for measure in results.study.measures:
        columns, rows = cells_of(results, measure)
        pieces.append(f"% {caption_of(results, measure)}.\n{latex(columns, rows, 1)}")
    return "\n".join([*pieces, *(f"% {note}\n" for note in results.notes())])


def lead(results: Results) -> list[str]:
    """What stands first on the page: the wide tables, the notes, and what failed, as HTML."""
    pieces = [f"<p>{escaped(note)}</p>" for note in results.notes()]
    pieces += [_wide_html(results, measure) for measure in results.study.measures]
    if results.made.failures:
        rows = [[each.collection, each.run, each.why] for each in results.made.failures]
        pieces.append(table("Runs that failed", ["collection", "run", "why"], rows, texts=3))
    return pieces


def _wide_html(results: Results, measure: str) -> str:
    columns, rows = results.wide(measure)
    best = [
        max((value for value, _ in column if value is not None), default=None)
        for column in zip(*rows, strict=True)
    ]
    lines: list[list[Any]] = []
    for cell, row in zip(results.grid.cells, rows, strict=True):
        shown = []
        for (value, marked), highest in zip(row, best, strict=True):
            text = _text(value, marked)
            is_best = value is not None and value == highest and len(rows) > 1
            shown.append(Html(f"<strong>{text}</strong>" if is_best else text))
        lines.append([cell.label, *shown])
    return table(caption_of(results, measure) + "; the best is bold", ["run", *columns], lines)


def _text(value: float | None, marked: bool) -> str:
    return FAILED if value is None else f"{value:.4f}{MARK if marked else ''}"
