"""The values that cells of CSV and TSV files stand for: such files hold nothing but text."""

from __future__ import annotations

import re
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


class Cells(dict[str, str]):
    """A record of a CSV or TSV file, by the names in its header."""


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
