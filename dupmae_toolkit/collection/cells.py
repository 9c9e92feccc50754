"""The values that cells of CSV and TSV files stand for: such files hold nothing but text."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date, datetime
from typing import Any

_WHOLE = re.compile(r"-?(?:0|[1-9][0-9]{0,17})")
_DECIMAL = re.compile(r"-?(?:0|[1-9][0-9]*)\.[0-9]+(?:[eE][-+]?[0-9]{1,3})?")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
_TIME = re.compile(
    _DAY.pattern + r"[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]+)?)?(?:Z|[-+][0-9]{2}:[0-9]{2})?"
)
_TRUTH = {
    form: value
    for value, word in ((True, "true"), (False, "false"))
    for form in (word, word.title(), word.upper())
}
_LONGEST = 40  # no number or time is longer


#: Cells that mean "no value" in a column of numbers, dates or truth values, as for pandas.
MISSING = frozenset(
    ("NA", "N/A", "n/a", "na", "NaN", "nan", "NULL", "null", "None", "none", "-", "--", "?", "")
)
#: What ``Column`` calls the values of a cell.
_NAMES = {int: "numbers", float: "numbers", bool: "truth values", date: "dates", datetime: "dates"}
_SHOWN = 20  # characters of an example


class Cells(dict[str, str]):
    """A record of a CSV or TSV file, by the names in its header; columns: how they are read."""

    columns: Mapping[str, Column] = {}

    def value(self, name: str) -> Any:
        """The value of a cell, of its column's type."""
        column = self.columns.get(name)
        return value_of(self[name]) if column is None else column.value(self[name])


class Column:
    """The kinds of a column's cells, so that all its values get one type.

    Only if all its cells are numbers, all are dates and times, or all are truth values, cells stand
    for these; else all are text. Otherwise the postal codes 98765 and 01234 would be a number and a
    text, and a filter would find one of them.
    """

    def __init__(self, cells: Iterable[str] = ()) -> None:
        self._counts: Counter[str] = Counter()
        self._examples: dict[str, str] = {}
        for cell in cells:
            self.add(cell)

    def add(self, cell: str) -> None:
        """Count one more cell."""
        if not cell:
            return
        kind = _NAMES.get(type(value_of(cell)), "missing" if cell in MISSING else "text")
        self._counts[kind] += 1
        self._examples.setdefault(kind, cell)

    def update(self, other: Column) -> None:
        """Count the cells of a column of the same name in another file."""
        self._counts.update(other._counts)
        self._examples = other._examples | self._examples

    @property
    def kinds(self) -> list[str]:
        """The kinds of its cells, the most frequent first."""
        return [kind for kind, _ in self._counts.most_common() if kind != "missing"]

    @property
    def is_text(self) -> bool:
        return self.kinds in (["text"], []) or len(self.kinds) > 1

    @property
    def missing(self) -> int:
        """How many cells, not empty ones, are read as missing."""
        return 0 if self.is_text else self._counts["missing"]

    def value(self, cell: str) -> Any:
        if self.is_text:
            return cell or None
        return None if cell in MISSING else value_of(cell)

    def mixture(self) -> str:
        """An example of each kind of cell, if they are of several kinds; else ""."""
        if len(self.kinds) < 2:
            return ""
        return ", ".join(repr(self._examples[kind][:_SHOWN]) for kind in self.kinds)


def remarks_on(columns: Mapping[str, Column]) -> list[str]:
    """What a user should know of how columns were read, at most two lines."""
    found = []
    mixed = [f"{name} ({shown})" for name, each in columns.items() if (shown := each.mixture())]
    if mixed:
        found.append(f"columns of several kinds of values, all kept as text: {', '.join(mixed)}")
    missing = [f"{name} {each.missing:,}" for name, each in columns.items() if each.missing]
    if missing:
        found.append(f"cells such as NA, read as missing: {', '.join(missing)}")
    return found


def value_of(cell: str) -> Any:
    """The number, date, time or truth value that a cell states in its usual form; else its text.

    A number with leading zeros, such as a postal code, is text. An empty cell is None.
    """
    if not cell or len(cell) > _LONGEST:
        return cell or None
    if _WHOLE.fullmatch(cell):
        return int(cell)
    if _DECIMAL.fullmatch(cell):
        number = float(cell)
        return number if abs(number) < float("inf") else cell
    try:
        if _DAY.fullmatch(cell):
            return date.fromisoformat(cell)
        if _TIME.fullmatch(cell):
            return datetime.fromisoformat(cell)
    except ValueError:  # no such day
        return cell
    return _TRUTH.get(cell, cell)
