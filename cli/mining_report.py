"""The report of `dupmae mine` as a table on stderr."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dupmae_cli import console

if TYPE_CHECKING:
    from dupmae_toolkit.mining.report import MiningReport


def show(report: MiningReport, output: Path) -> None:
    """What was taken, what was left out and why, and how ranks and scores are spread."""
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
    row(report.positives_not_listed, "positives beyond the lists")
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
    console.say(f"{output}: {report.written:,} queries, {report.negatives:,} negatives")
