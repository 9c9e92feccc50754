"""Grades of judgements: integers, or numbers that may be fractions; topics without any."""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from dupmae_toolkit.collection.identifiers import id_text
from dupmae_toolkit.errors import InputError, InputWarning, counted

#: trec_eval counts documents by grade in an array of this length.
MAX_GRADE = 10_000

_INTEGER = re.compile(r"[+-]?[0-9]+(?:\.0*)?", re.ASCII)
_FRACTION = re.compile(
    r"[+-]?(?:[0-9]*\.[0-9]+|(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+)", re.ASCII
)


def is_number(text: str) -> bool:
    """Whether a text looks like a grade, which may be a fraction."""
    return bool(_INTEGER.fullmatch(text) or _FRACTION.fullmatch(text))


def grade_of(value: Any, path: object, line: int | None, *, fractions: bool = False) -> int | float:
    """A grade: an integer, of a number without a fraction too; with ``fractions`` also a float.

    path, line: where the grade is, for the message of InputError.
    """
    if isinstance(value, np.floating):
        value = float(value)
    text = value if isinstance(value, str) else repr(id_text(value)).strip("'")
    is_fraction = isinstance(value, str | float) and _FRACTION.fullmatch(text)
    if isinstance(value, bool) or not (_INTEGER.fullmatch(text) or (fractions and is_fraction)):
        fault = "is not a number" if fractions else "is not an integer"
        if is_fraction:
            fault = "is a fraction; grades are integers, so round it (`dupmae eval` takes fractions"
            fault += " with nDCG, ERR, RBP and Compat)"
        raise InputError.at(path, line, f"grade {text[:40]!r} {fault}")
    if _INTEGER.fullmatch(text):
        whole = text.partition(".")[0]
        if len(whole) <= 8 and abs(int(whole)) <= MAX_GRADE:
            return int(whole)
    elif abs(number := float(text)) <= MAX_GRADE:
        return int(number) if number.is_integer() else number
    raise InputError.at(path, line, f"grade {text[:40]} is beyond {MAX_GRADE:,}")


def warn_of_empty(source: object, topics: Sequence[object]) -> None:
    """Warn of topics that are named in ``source``, but have no judgements, so that none counts."""
    if topics:
        more = ", …" if len(topics) > 1 else ""
        warnings.warn(
            f"{source}: {counted(len(topics), 'topic')} without judgements ignored "
            f"({topics[0]!r}{more})",
            InputWarning,
            stacklevel=2,
        )
