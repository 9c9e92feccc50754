"""Tables as Markdown, LaTeX and CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from io import StringIO
from typing import Any

_LATEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
_LATEX |= {letter: f"\\{letter}" for letter in "&%$#_{}"} | {"†": r"$^\dagger$"}


def markdown(names: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table in Markdown. texts: how many columns from the left are text, not numbers."""
    aligned = ["---" if place < texts else "---:" for place in range(len(names))]
    lines = (names, aligned, *rows)
    return "".join(
        "| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines
    )


def latex(names: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A tabular in LaTeX; arguments as of ``markdown``."""
    columns = "l" * texts + "r" * (len(names) - texts)
    lines = [" & ".join(map(_in_latex, line)) + " \\\\" for line in (names, *rows)]
    lines[0] += " \\hline"
    return "\n".join(
        [f"\\begin{{tabular}}{{{columns}}}", "\\hline", *lines, "\\hline", "\\end{tabular}", ""]
    )


def csv_text(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A header and rows, as RFC 4180 has them but with line feeds alone; None is empty."""
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)
    return text.getvalue()


def _in_latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in text)
