"""Which documents a filter matches: its tests, computed by Arrow over typed columns.

Logic has three values, as in SQL. A test of a field that a document lacks, or whose value is of
another kind than the filter's, is neither true nor false but unknown. ``not`` of unknown is
unknown, and a document is found only if the whole filter is true. So ``year < 2020`` and
``not year < 2020`` both leave out documents without a year; ``year is None`` finds them.

Numbers compare by value, without rounding. Strings compare by code point. Dates and times compare
with strings in ISO 8601; a date is its midnight, and a time without an offset is UTC.
"""

from __future__ import annotations

import difflib
import math
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from functools import reduce
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.documents import TypedColumns
from dupmae_toolkit.index.fields import microseconds
from dupmae_toolkit.search.filters import Junction, Negation, Node, Test, Value

#: How messages name the kinds of values.
_NAMES = {
    "bool": "true or false",
    "int": "whole numbers",
    "float": "numbers",
    "str": "text",
    "time": "dates",
    "list": "lists",
    "other": "objects",
}
_FAULTS = {
    "in": "cannot equal",
    "contains": "cannot contain",
    "startswith": "cannot start with",
    "endswith": "cannot end with",
    "true": "is no condition without a comparison",
}
_RANGE = range(-(2**63), 2**63)


def resolved(node: Node, kinds: Mapping[str, set[str]]) -> Node:
    """The filter with the names that fields have in the index.

    kinds: the kinds of the values of each field. Raises InputError for a field that no document
    has, and for a test that the values of no document allow.
    """
    if isinstance(node, Junction):
        return Junction(node.operator, tuple(resolved(part, kinds) for part in node.parts))
    if isinstance(node, Negation):
        return Negation(resolved(node.part, kinds))
    name = check_field(node.field, kinds)
    _check_kinds(node, kinds[name])
    return Test(name, node.operator, node.values)


def check_field(name: str, known: Iterable[str]) -> str:
    """The name as the index has it; InputError, with near names, for a field that it lacks."""
    names = sorted(known)
    if name in names:
        return name
    # Python's parser normalises identifiers, as in filters.
    same = [each for each in names if unicodedata.normalize("NFKC", each) == name]
    if len(same) == 1:
        return same[0]
    near = difflib.get_close_matches(name, names, 3, 0.6)
    shown = near or [each for each in names if each not in ("id", "title", "text")][:10]
    if near:
        end = f"did you mean {' or '.join(map(repr, near))}?"
    elif shown:
        end = (
            f"there are {', '.join(map(repr, shown))}{' …' if len(names) > len(shown) + 3 else ''}"
        )
    else:
        end = "the documents have no metadata"
    raise InputError(f"no document has a field {name[:80]!r}; {end}")


def _check_kinds(test: Test, kinds: set[str]) -> None:
    """Raise InputError if no document's value can pass the test or fail it."""
    if test.operator == "missing" or kinds == {"none"}:
        return
    if test.operator == "true":
        good = "bool" in kinds
    elif test.operator == "contains":
        items = {kind.removesuffix("s") for kind in kinds if kind.endswith("s")}
        (value,) = test.values
        in_list = "list" in kinds and (not items or _comparable(value, items))
        good = in_list or (isinstance(value, str) and "str" in kinds)
    elif test.operator in ("startswith", "endswith"):
        good = "str" in kinds
    else:
        good = all(_comparable(value, kinds) for value in test.values)
    if good:
        return
    held = " and ".join(_NAMES[kind] for kind in _NAMES if kind in kinds)
    way_out = ""
    if kinds == {"list"} | {kind for kind in kinds if kind.endswith("s")}:
        way_out = f"; write 'x' in {test.field}"
    elif "time" in kinds and not any(isinstance(value, bool) for value in test.values):
        way_out = "; write dates as '2024-01-31'"
    wrong = [value for value in test.values if not _comparable(value, kinds)] or test.values
    shown = ", ".join(repr(value)[:40] for value in wrong[:3])
    fault = f"{_FAULTS.get(test.operator, 'cannot be compared with')} {shown}".strip()
    raise InputError(f"the field {test.field[:80]!r} holds {held}; it {fault}{way_out}")


def leaves(node: Node) -> Iterator[Test]:
    """The tests of a filter."""
    if isinstance(node, Test):
        yield node
    elif isinstance(node, Negation):
        yield from leaves(node.part)
    else:
        for part in node.parts:
            yield from leaves(part)


def unread_kinds(test: Test, kinds: set[str]) -> set[str]:
    """Those kinds of a field's values that a test says nothing of."""
    single = {kind for kind in kinds if kind != "none" and not kind.endswith("s")}
    if test.operator == "missing":
        return set()
    if test.operator == "true":
        return single - {"bool"}
    if test.operator in ("startswith", "endswith"):
        return single - {"str"}
    if test.operator == "contains":
        return single - {"list", "str" if isinstance(test.values[0], str) else ""}
    return {kind for kind in single if not any(_comparable(each, {kind}) for each in test.values)}


def of_kinds(name: str, kinds: set[str], fields: TypedColumns) -> np.ndarray:
    """Which documents of a segment have a value of one of ``kinds`` in a field, bool [n]."""
    found = np.zeros(len(fields), bool)
    for kind, column in fields.columns(name).items():
        if kind in kinds:
            found |= column.is_valid().to_numpy(zero_copy_only=False)
    return found


def _comparable(value: Value, kinds: set[str]) -> bool:
    if isinstance(value, bool):
        return "bool" in kinds
    if isinstance(value, int | float):
        return bool(kinds & {"int", "float"})
    return "str" in kinds or ("time" in kinds and _time(value) is not None)


def matching(node: Node, fields: TypedColumns) -> np.ndarray:
    """Which documents of a segment a resolved filter matches, bool [n]."""
    found = _evaluated(node, fields).fill_null(False)
    return np.asarray(found.to_numpy(zero_copy_only=False), bool)


def _evaluated(node: Node, fields: TypedColumns) -> Any:
    """True, false or null for each document, as an Arrow array."""
    import pyarrow.compute as pc

    if isinstance(node, Junction):
        join = pc.and_kleene if node.operator == "and" else pc.or_kleene
        return reduce(join, (_evaluated(part, fields) for part in node.parts))
    if isinstance(node, Negation):
        return pc.invert(_evaluated(node.part, fields))
    columns = fields.columns(node.field)
    if node.operator == "missing":
        return _missing(columns, len(fields))
    answers = [found for found in _answers(node, columns) if found is not None]
    if not answers:
        return _unknown(len(fields))
    return pc.coalesce(*answers)  # a document has a value of one kind


def _unknown(count: int) -> Any:
    import pyarrow as pa

    return pa.nulls(count, pa.bool_())


def _missing(columns: Mapping[str, Any], count: int) -> Any:
    import pyarrow as pa

    there = np.zeros(count, bool)
    for kind, column in columns.items():
        if kind != "none":
            there |= column.is_valid().to_numpy(zero_copy_only=False)
    return pa.array(~there)


def _answers(test: Test, columns: Mapping[str, Any]) -> Iterator[Any]:
    """What the test says of the values of each kind; null for documents without one."""
    import pyarrow.compute as pc

    (value, *_) = (*test.values, None)
    if test.operator == "true":
        yield columns.get("bool")
    elif test.operator in ("startswith", "endswith", "contains"):
        text = columns.get("str")
        if text is not None and isinstance(value, str):
            functions = {"startswith": pc.starts_with, "endswith": pc.ends_with}
            yield functions.get(test.operator, pc.match_substring)(text, value)
        if test.operator == "contains" and "list" in columns:
            yield _in_lists(test.values, columns)
    else:
        for kind, column in columns.items():
            if test.operator == "in":
                yield _among(column, kind, test.values)
            else:
                assert value is not None
                yield _ordered(column, kind, test.operator, value)


def _in_lists(values: Sequence[Value], columns: Mapping[str, Any]) -> Any:
    """Whether any of the values is an item of each document's list."""
    import pyarrow as pa
    import pyarrow.compute as pc

    lists = columns["list"]
    found = np.zeros(len(lists), bool)
    for kind in ("bool", "int", "float", "str", "time"):
        column = columns.get(f"{kind}s")
        if column is None:
            continue
        equal = _among(pc.list_flatten(column), kind, values)
        if equal is not None:
            owners = pc.list_parent_indices(column).filter(equal)
            found[owners.to_numpy(zero_copy_only=False)] = True
    lacking = lists.is_null().to_numpy(zero_copy_only=False)
    return pa.array(found, mask=lacking)


def _among(column: Any, kind: str, values: Sequence[Value]) -> Any:
    """Whether each value of a column equals one of ``values``; None for kinds without values."""
    import pyarrow as pa
    import pyarrow.compute as pc

    exactly: dict[str, Callable[[Value], Any]] = {
        "bool": lambda value: value if isinstance(value, bool) else None,
        "int": _as_int,
        "float": _as_float,
        "str": lambda value: value if isinstance(value, str) else None,
        "time": _time,
    }
    if kind not in exactly:
        return None
    wanted = [found for value in values if (found := exactly[kind](value)) is not None]
    if kind == "float" and 0.0 in wanted:
        wanted.append(-0.0)  # is_in tells them apart
    if not wanted and not any(_comparable(value, {kind}) for value in values) and values:
        return None
    equal = pc.is_in(column, value_set=pa.array(wanted, column.type))
    return pc.if_else(column.is_valid(), equal, pa.scalar(None, pa.bool_()))


def _ordered(column: Any, kind: str, operator: str, value: Value) -> Any:
    """Whether each value of a column is less or greater; None for kinds that do not compare."""
    if isinstance(value, str):
        limit: Any = value if kind == "str" else _time(value) if kind == "time" else None
        return None if limit is None else _compared(column, operator, limit)
    if kind == "int":
        return _ints(column, operator, value)
    return _floats(column, operator, value) if kind == "float" else None


def _compared(column: Any, operator: str, limit: Any) -> Any:
    import pyarrow as pa
    import pyarrow.compute as pc

    compare = {"<": pc.less, "<=": pc.less_equal, ">": pc.greater, ">=": pc.greater_equal}
    return compare[operator](column, pa.scalar(limit, column.type))


def _ints(column: Any, operator: str, value: int | float) -> Any:
    """Compare whole numbers with any number, by a whole number that divides them alike."""
    whole = math.floor(value)
    if whole != value:  # nothing lies between it and the whole number below
        operator = {"<": "<=", ">=": ">"}.get(operator, operator)
    if whole not in _RANGE:
        whole = _RANGE[0] if whole < 0 else _RANGE[-1]
        operator = {"<": "<=", ">=": ">"}.get(operator, operator) if value > 0 else operator
        operator = {"<=": "<", ">": ">="}.get(operator, operator) if value < 0 else operator
    return _compared(column, operator, whole)


def _floats(column: Any, operator: str, value: int | float) -> Any:
    """Compare floats with any number, by the float next to it."""
    try:
        near = float(value)
    except OverflowError:
        near = math.inf if value > 0 else -math.inf
    if near < value:
        operator = {"<": "<=", ">=": ">"}.get(operator, operator)
    elif near > value:
        operator = {"<=": "<", ">": ">="}.get(operator, operator)
    return _compared(column, operator, near)


def _as_int(value: Value) -> int | None:
    """The 64-bit integer that equals a value, or None."""
    if isinstance(value, bool | str) or value != math.floor(value):
        return None
    whole = int(value)
    return whole if whole in _RANGE else None


def _as_float(value: Value) -> float | None:
    """The float that equals a value, or None."""
    if isinstance(value, bool | str):
        return None
    try:
        near = float(value)
    except OverflowError:
        return None
    return near if near == value else None


def _time(value: Value) -> int | None:
    """A date or time in ISO 8601 as microseconds since 1970, or None."""
    if not isinstance(value, str):
        return None
    for kind in (date, datetime):
        try:
            return microseconds(kind.fromisoformat(value))
        except ValueError:
            continue
    return None
