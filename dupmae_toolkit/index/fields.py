"""The metadata of a segment's documents as typed columns, which filters read.

A field has a column for each kind of value that documents have there, so documents may disagree
about its type. Each value is in the column of its own kind:

    bool, int, float, str    the value
    time                     a date (its midnight) or a time, as microseconds since 1970; one
                             without an offset counts as UTC
    list                     true for a list; its items are in the columns of lists
    bools, ints, floats, strs, times     those items of a list that are of one kind
    other                    true for an object, or an integer beyond 64 bits
    none                     true for None, which filters do not tell from a lacking field

The metadata themselves are stored as JSON (`collection/metadata.py`); these
columns only repeat them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import numpy as np

from dupmae_toolkit.collection.metadata import OWN_FIELDS

#: The kinds of single values; a list of them has the same name with an s.
SINGLE = ("bool", "int", "float", "str", "time")
KINDS = (*SINGLE, "list", *(f"{kind}s" for kind in SINGLE), "other", "none")
#: The fields of a segment that get columns, the most frequent ones.
MOST_FIELDS = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

#: The column of a kind of value of a field, by both.
Columns = dict[tuple[str, str], Any]


def kind_of(value: Any) -> tuple[str, Any]:
    """The kind of a value, and what its column holds."""
    if value is None:
        return "none", True
    if isinstance(value, bool):
        return "bool", value
    if isinstance(value, int):
        return ("int", value) if -(2**63) <= value < 2**63 else ("other", True)
    if isinstance(value, float):
        return "float", value
    if isinstance(value, str):
        return "str", value
    if isinstance(value, date):
        return "time", microseconds(value)
    return ("list", True) if isinstance(value, list) else ("other", True)


def microseconds(value: date) -> int:
    """A date or time as microseconds since 1970; one without an offset counts as UTC."""
    if not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return (value - _EPOCH) // _MICROSECOND


def frequent_fields(rows: Iterable[Mapping[str, Any]]) -> tuple[set[str], bool]:
    """The names of the ``MOST_FIELDS`` most frequent fields, and whether there are others.

    Fields with the names of ``OWN_FIELDS`` do not count. Of equally frequent ones, the first names
    by code point.
    """
    counts = Counter(name for row in rows for name in row if name not in OWN_FIELDS)
    kept = sorted(counts, key=lambda name: (-counts[name], name))[:MOST_FIELDS]
    return set(kept), len(kept) < len(counts)


def columns_of(rows: Sequence[Mapping[str, Any]], without: Iterable[str] = ()) -> Columns:
    """The columns of n documents, each an Arrow array of length n with nulls, sorted by name.

    without: fields to leave out.
    """
    left_out = set(without)
    places: dict[tuple[str, str], list[int]] = {}
    values: dict[tuple[str, str], list[Any]] = {}

    def put(key: tuple[str, str], row: int, value: Any) -> None:
        places.setdefault(key, []).append(row)
        values.setdefault(key, []).append(value)

    for number, row in enumerate(rows):
        for name, value in row.items():
            if name in left_out:
                continue
            kind, held = kind_of(value)
            put((name, kind), number, held)
            if kind == "list":
                items: dict[str, list[Any]] = {}
                for item_kind, item in map(kind_of, value):
                    items.setdefault(f"{item_kind}s", []).append(item)
                for items_kind, of_kind in items.items():
                    if items_kind in KINDS:
                        put((name, items_kind), number, of_kind)
    return {key: _spread(key[1], values[key], places[key], len(rows)) for key in sorted(places)}


def arrow_type(kind: str) -> Any:
    """The Arrow type of the columns of a kind."""
    import pyarrow as pa

    if kind.removesuffix("s") in SINGLE and kind.endswith("s"):
        return pa.large_list(arrow_type(kind.removesuffix("s")))
    types = {"int": pa.int64(), "float": pa.float64(), "str": pa.large_string(), "time": pa.int64()}
    return types.get(kind, pa.bool_())


def _spread(kind: str, values: list[Any], places: list[int], count: int) -> Any:
    """``values`` at these places of an array of length ``count``; null elsewhere."""
    import pyarrow as pa

    held = pa.array(values, arrow_type(kind))
    if len(values) == count:
        return held
    index, missing = np.zeros(count, np.int64), np.ones(count, bool)
    index[places] = np.arange(len(values))
    missing[places] = False
    return held.take(pa.array(index, mask=missing))
