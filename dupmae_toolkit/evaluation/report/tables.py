"""The tables of a report. A table that is wider than the page scrolls in its own box."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from dupmae_toolkit.evaluation.report.comparing import Measured, mean_intervals
from dupmae_toolkit.evaluation.report.svg import escaped
from dupmae_toolkit.evaluation.significance import (
    COLUMNS,
    LEVEL,
    MARK,
    TESTS,
    cell_text,
    is_marked,
    row_of,
)

#: Texts of more characters get a wide column.
_LONG = 30
#: No command took so many seconds, and larger integers may be no floats.
_HUGE = 10**12


class Html(str):
    """A text that is HTML already; everything else is escaped."""


def table(
    caption: str,
    names: Sequence[str],
    rows: Sequence[Sequence[Any]],
    texts: int = 1,
    blank: str = "",
) -> str:
    """A table; the first cell of a row names it.

    texts: how many columns, from the left, hold text; the others hold numbers, aligned to the
    right. blank: what is shown for None.
    """
    lines = [
        '<div class="box" tabindex="0"><table>',
        f"<caption><span>{escaped(caption)}</span></caption>",
    ]
    heads = "".join(
        f'<th scope="col"{_kind(place < texts, "")}>{_cell(name, "")}</th>'
        for place, name in enumerate(names)
    )
    lines.append(f"<thead><tr>{heads}</tr></thead><tbody>")
    for row in rows:
        first, *rest = row
        cells = "".join(
            f"<td{_kind(place < texts, cell)}>{_cell(cell, blank)}</td>"
            for place, cell in enumerate(rest, 1)
        )
        lines.append(f'<tr><th scope="row">{_cell(first, blank)}</th>{cells}</tr>')
    return "\n".join([*lines, "</tbody></table></div>"])


def _kind(text: bool, value: Any) -> str:
    if not text:
        return ""
    long = not isinstance(value, Html) and len(str(value)) > _LONG
    return ' class="text long"' if long else ' class="text"'


def _cell(value: Any, blank: str) -> str:
    if value is None:
        return blank
    if isinstance(value, Html):
        return value
    if isinstance(value, float):
        return f"{value:.4f}"
    return f"{value:,}" if isinstance(value, int) else escaped(value)


def means(measured: Measured) -> str:
    """The means of all runs, with intervals for the main measure, and marks for significance."""
    names = measured.measures
    spreads = {each.label: each for each in mean_intervals(measured.scores, measured.main)}
    marked = {(row.run, row.measure) for row in measured.rows if is_marked(row)}
    rows: list[list[Any]] = []
    largest = {name: max(s.means[name] for s in measured.scores.values()) for name in names}
    for label, scores in measured.scores.items():
        row: list[Any] = [label]
        for name in names:
            value = f"{scores.means[name]:.4f}"
            if scores.means[name] == largest[name] and len(measured.scores) > 1:
                value = f"<strong>{value}</strong>"
            row.append(Html(value + (MARK if (label, name) in marked else "")))
        spread = spreads[label]
        bounds = "" if spread.low is None else f"{spread.low:.4f} to {spread.high:.4f}"
        row.insert(2, bounds)
        rows.append(row)
    heads = ["run", names[0], "95% interval", *names[1:]]
    caption = "Means over topics; the best of each column is bold"
    if measured.rows:
        caption += (
            f"; {MARK} differs from {measured.baseline}: p < {LEVEL:g} by Fisher's randomisation, "
            "after Holm's correction"
        )
    return table(caption, heads, rows)


def significance_rows(measured: Measured) -> str:
    """The table that ``dupmae compare`` prints."""
    rows = [
        [cell_text(name, cell) for name, cell in zip(COLUMNS, row_of(each), strict=True)]
        for each in measured.rows
    ]
    caption = (
        f"Differences from {measured.baseline}, with 95% bootstrap intervals; p-values of "
        f"{', '.join(TESTS)} after Holm's correction; Cohen's d; topics better and worse"
    )
    return table(caption, COLUMNS, rows, texts=2)


def cards_html(cards: Mapping[str, Mapping[str, Any]]) -> str:
    """The command, versions, machine and time of each card."""
    lines = []
    for name, card in cards.items():
        command = shlex.join(map(str, card.get("command", ())))
        lines += [f"<p>{escaped(name)}</p>", f"<pre><code>{escaped(command)}</code></pre>"]
        facts = [_listed(card.get(key)) for key in ("versions", "machine")]
        seconds = card.get("seconds")
        if isinstance(seconds, float) or (isinstance(seconds, int) and abs(seconds) < _HUGE):
            facts.append(f"started {card.get('started')}, took {seconds:.1f} seconds")
        lines.append(f"<p>{'; '.join(escaped(fact) for fact in facts if fact)}.</p>")
    return "\n".join(lines)


def _listed(values: Any) -> str:
    if not isinstance(values, Mapping):
        return ""
    return ", ".join(f"{name} {value}" for name, value in values.items() if value is not None)
