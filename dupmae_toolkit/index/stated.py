"""Values of a manifest, each checked before anything is made of it.

An index may come from anybody, and its checksums are no signature: they only tell damage from what
was written. So names lead nowhere but into the index, and numbers are what they must be.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

SEGMENT = re.compile(r"[0-9]{1,12}", re.ASCII)
DELETIONS = re.compile(r"deletions/[0-9]{1,12}-[0-9]{1,18}\.npy", re.ASCII)
VOCABULARY = re.compile(r"vocabulary[0-9a-f-]{0,64}\.json", re.ASCII)


def whole(values: Mapping[str, Any], key: str, least: int = 0, most: int = 2**62) -> int:
    """A whole number within bounds. Raises ValueError as all of these do, KeyError if missing."""
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
    """A string that can be written again."""
    value = values[key]
    if not isinstance(value, str):
        raise ValueError(f"{key} is {value!r}")
    value.encode("utf-8")  # UnicodeEncodeError is a ValueError
    return value


def name(values: Mapping[str, Any], key: str, form: re.Pattern[str]) -> str:
    """A string of a form that leads to one place in the index."""
    value = values[key]
    if not isinstance(value, str) or not form.fullmatch(value):
        raise ValueError(f"{key} is {value!r}, no name of the index's own")
    return value


def numbers(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """A mapping from names to finite numbers of at least 0."""
    for key, value in values.items():
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or not 0 <= value <= 1.7e308:
            raise ValueError(f"{key} is {value!r}")
    return values


def sums(values: Any) -> dict[str, dict[str, Any]]:
    """Checksums by path: of files inside of the index, each with its size."""
    for path, stated in values.items():
        parts = PurePosixPath(path).parts
        odd = "\\" in path or "\0" in path or ":" in path or ".." in parts or not parts
        if odd or path.startswith("/") or "/".join(parts) != path:
            raise ValueError(f"checksums name {path!r}, no file of the index's own")
        whole(stated, "bytes")
        text(stated, "sha256")
    return dict(values)
