"""Parse and check JSON objects: the lines of a corpus, of topics or of training data."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from dupmae_toolkit.collection.identifiers import check_id, id_text, two_ids
from dupmae_toolkit.errors import InputError, type_of

#: The usual names of an id, the first that occurs counts.
ID_KEYS = ("_id", "id", "docid", "doc_id", "docno", "pid", "identifier")
MAX_SCORE = 3.4028234663852886e38  # float32's largest


def check_text(value: str, source: object, line: int | None, what: str) -> str:
    """Return ``value`` if UTF-8 can encode it; raise InputError if not.

    JSON's escapes can make unpaired surrogates, which UTF-8 cannot encode.
    """
    if not value.isascii():
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            raise InputError.at(
                source, line, f"half a surrogate pair (\\u{ord(value[error.start]):04x}) in {what}"
            ) from error
    return value


class RepeatedKey(ValueError):  # noqa: N818
    """JSON allows a repeated key, and Python would silently keep the last value."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise RepeatedKey(key[:80])
            seen.add(key)
    return values


#: Decodes JSON, and raises an error for a repeated key.
DECODER = json.JSONDecoder(object_pairs_hook=_pairs)


class JsonLine:
    """The JSON object on a line; its getters raise InputError with file and line."""

    def __init__(self, text: str, source: object, line: int | None) -> None:
        self.source = source
        self.line = line
        try:
            self.values = DECODER.decode(text)
        except RepeatedKey as error:
            raise self.error(f"the key {error.args[0]!r} occurs twice; remove one") from error
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or "nested too deeply or a number too long"
            place = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise self.error(f"broken JSON ({reason}{place})") from error
        if not isinstance(self.values, dict):
            raise self.error(
                f"not a JSON object but {type_of(self.values)}; write one object per line"
            )

    @classmethod
    def of(cls, values: dict[str, Any], source: object, line: int | None) -> JsonLine:
        """An object nested in the line's object."""
        inner = cls.__new__(cls)
        inner.values, inner.source, inner.line = values, source, line
        return inner

    def error(self, message: str) -> InputError:
        return InputError.at(self.source, self.line, message)

    def get_id(self, keys: tuple[str, ...] = ID_KEYS) -> str:
        """The id; a JSON integer counts as its decimal string."""
        key = self._first(keys)
        if key is None:
            raise self.error(f"no id (one of {', '.join(keys)})")
        if {"_id", "id"} <= set(keys) and (wrong := two_ids(self.values)):
            raise self.error(wrong)
        value = id_text(self.values[key])
        if not isinstance(value, str):
            raise self.error(f"{key} is {kind_of(value)}; an id is a string")
        return check_id(value, self.source, self.line, key)

    def get_text(self, keys: tuple[str, ...], *, required: bool) -> str:
        """The value of the first of ``keys`` that exists; "" if none does and none is required."""
        key = self._first(keys)
        value = None if key is None else self.values[key]
        if key is None or (value is None and not required):
            if required:
                raise self.error(f"no text (one of {', '.join(keys)})")
            return ""
        if not isinstance(value, str):
            raise self.error(f"{key} is {kind_of(value)}; a string is expected")
        return check_text(value, self.source, self.line, key)

    def score(self, value: Any, what: str = "score") -> float | None:
        """``value`` as a score; None for null."""
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if number and abs(value) <= MAX_SCORE:
            return float(value)
        raise self.error(f"{what} is {repr(value)[:40]}, not a number that float32 can hold")

    def _first(self, keys: tuple[str, ...]) -> str | None:
        return next((key for key in keys if key in self.values), None)


def kind_of(value: Any) -> str:
    """What a value is, in a word that people use, for messages."""
    if value is None:
        return "null"
    if isinstance(value, Mapping):
        return "an object"
    names = {bool: "true or false", float: "a fraction", int: "a number", list: "a list"}
    return names.get(type(value), type_of(value))
