"""Reads the values of a manifest, and checks them.

An index may come from anybody. Its checksums are not a signature: they show damage, not malice.
So every name must be that of a file in the index, and every number must be within bounds.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

_PRECISION = re.compile("[a-z0-9]{1,16}")


def integer(values: Mapping[str, Any], key: str, least: int = 0, most: int = 2**62) -> int:
    """An integer within bounds.

    Like all functions here, raises ValueError for a bad value and KeyError for a missing one.
    """
    value = values[key]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise ValueError(f"{key} is {value!r}")
    return value


def positive(values: Mapping[str, Any], key: str) -> float:
    """A finite number above 0."""
    value = values[key]
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 < value <= 1.7e308 or not math.isfinite(value):
        raise ValueError(f"{key} is {value!r}")
    return float(value)


def text(values: Mapping[str, Any], key: str) -> str:
    """A string that UTF-8 can encode."""
    value = values[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}")
    value.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return value


def mapping(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """An object, which is shown and not used."""
    value = values[key]
    if not isinstance(value, dict):
        raise ValueError(f"{key} is {value!r}")
    return value


def one_of(values: Mapping[str, Any], key: str, choices: Sequence[str]) -> str:
    """One of several strings."""
    value = values[key]
    if not isinstance(value, str) or value not in choices:
        raise ValueError(f"{key} is {value!r}")
    return value


def name(values: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
    """The name of a file or folder, in a form that ``layout`` defines."""
    value = values[key]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{key} is {value!r}, which is not a valid name in an index")
    return value


def numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mapping from names to finite numbers of at least 0."""
    for key, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1.7e308:
            raise ValueError(f"{key} is {value!r}")
    return values


def precisions(values: Any, default: int) -> dict[str, int]:
    """Counts of documents by the precision that they were encoded in.

    values: None in the manifests of earlier versions: then all ``default`` documents are unknown.
    """
    if values is None:
        return {"unknown": default}
    for key in values:
        if not _PRECISION.fullmatch(key):
            raise ValueError(f"precision names {key!r}")
    return {key: integer(values, key) for key in values}


def file_checksums(values: Any) -> dict[str, dict[str, Any]]:
    """Checksums and sizes by path; every path is within the index."""
    for path, stated in values.items():
        parts = PurePosixPath(path).parts
        odd = "\\" in path or "\0" in path or ":" in path or ".." in parts or not parts
        if odd or path.startswith("/") or "/".join(parts) != path:
            raise ValueError(f"checksums name {path!r}, which is not a valid name in an index")
        integer(stated, "bytes")
        text(stated, "sha256")
    return dict(values)
