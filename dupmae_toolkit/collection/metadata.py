"""Metadata: the fields of a document beside its id, title and text, and their form on disk.

Values are true or false, whole numbers, numbers, strings, dates, times, lists, objects with string
keys, and None. On disk, a document's metadata is one JSON object. JSON has no dates: they are
written as {"$date": "2024-05-01"} and {"$time": "2024-05-01T10:00:00+02:00"}. A key of the user's
that begins with $ gets a second one.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError

#: What a document has anyway. Filters know these by their names; a field of the metadata that has
#: the same name is kept and returned, but no filter reads it.
OWN_FIELDS = ("id", "title", "text")
LONGEST_NAME = 1000
DEEPEST = 32
_DATE, _TIME = "$date", "$time"


def metadata_text(metadata: Mapping[str, Any], source: object, place: int | None) -> str:
    """The JSON of a document's metadata, keys sorted; "" if it has none.

    numpy's, pandas' and tuples become the plain types; a NaN becomes None, a Decimal a float. A
    time keeps its offset from UTC, not the name of its zone, and no more than microseconds. Raises
    InputError, which names ``source`` and ``place``, for any other type, for an infinite number,
    for a name that is no string or too long, and for lists and objects more than 32 deep.
    """
    if not metadata:
        return ""
    try:
        values = {_name(name): _plain(value, 1) for name, value in metadata.items()}
        text = json.dumps(values, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InputError.at(source, place, "half a surrogate pair in its metadata") from error
    except (TypeError, ValueError) as error:
        raise InputError.at(source, place, f"its metadata cannot be kept: {error}") from error
    return text


def read_metadata_text(text: str) -> dict[str, Any]:
    """The metadata that ``metadata_text`` wrote; ValueError for anything else."""
    if not text:
        return {}
    try:
        values = json.loads(text, object_hook=_read)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    if not isinstance(values, dict):
        raise ValueError("it is no JSON object")
    return values


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise TypeError(f"the field {name!r} is not named by a string")
    if not name or len(name) > LONGEST_NAME:
        raise ValueError(f"a field's name has 1 to {LONGEST_NAME} characters, not {len(name)}")
    return _escaped(name)


def _escaped(key: str) -> str:
    return f"${key}" if key.startswith("$") else key


def _plain(value: Any, depth: int) -> Any:
    """A value as JSON has it."""
    if value is None or type(value) in (bool, str, int):
        return value
    if isinstance(value, np.generic | np.ndarray):
        value = value.astype("datetime64[us]") if value.dtype.kind == "M" else value
        value = value.tolist()
    if isinstance(value, Mapping | list | tuple):
        if depth == DEEPEST:
            raise ValueError(f"it is nested more than {DEEPEST} deep")
        if not isinstance(value, Mapping):
            return [_plain(each, depth + 1) for each in value]
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"the key {key!r} of an object is no string")
        return {_escaped(key): _plain(each, depth + 1) for key, each in value.items()}
    return _single(value)


def _single(value: Any) -> Any:
    if isinstance(value, float | Decimal):
        value = float(value)
        if math.isinf(value):
            raise ValueError("it holds an infinite number")
        return None if math.isnan(value) else value
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, str):
        return str(value)
    if type(value).__name__ in ("NAType", "NaTType"):  # what pandas has for a missing value
        return None
    if isinstance(value, datetime):  # perhaps pandas', which has nanoseconds
        return {_TIME: datetime.combine(value.date(), value.timetz()).isoformat()}
    if isinstance(value, date):
        return {_DATE: value.isoformat()}
    raise TypeError(f"{repr(value)[:40]} is of the type {type(value).__name__}")


def _read(values: dict[str, Any]) -> Any:
    """The object hook of the JSON reader, called for the innermost objects first."""
    if len(values) == 1:
        ((key, value),) = values.items()
        if key == _DATE:
            return date.fromisoformat(value)
        if key == _TIME:
            return datetime.fromisoformat(value)
    if any(key.startswith("$") for key in values):
        return {key.removeprefix("$"): value for key, value in values.items()}
    return values
