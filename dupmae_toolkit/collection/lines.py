"""Parse and check one line of a corpus or of a topics file."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Any

from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError

ID_KEYS = ("_id", "id", "docid", "doc_id")
#: Lucene limits an indexed term to 32,766 bytes; real ids are far shorter.
MAX_ID_LENGTH = 2000
MAX_SCORE = 3.4028234663852886e38  # float32's largest
JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
TSV_SUFFIXES = (".tsv",)
FORMATS = "JSON lines (.jsonl, .json) or id TAB text (.tsv), plain, .gz or .xz"


def check_id(value: str, source: object, line: int | None, what: str = "id") -> str:
    """Return ``value`` if TREC files can hold it as an id; raise InputError if not.

    An id has no white space and no control characters. Ids are never parsed: ``001``, ``NA`` and
    ``1e5`` stay strings.
    """
    if value.isascii() and value.isprintable() and " " not in value and value:
        if len(value) <= MAX_ID_LENGTH:
            return value
        raise InputError.at(source, line, f"{what} of more than {MAX_ID_LENGTH} characters")
    if not value:
        raise InputError.at(source, line, f"empty {what}")
    if len(value) > MAX_ID_LENGTH:
        raise InputError.at(source, line, f"{what} of more than {MAX_ID_LENGTH} characters")
    for character in value:
        if character.isspace():
            fault = "white space"
        elif character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs"):
            fault = "a control character"
        else:
            continue
        raise InputError.at(
            source,
            line,
            f"{fault} in {what} {value[:80]!r}, not allowed in TREC files; rename it",
        )
    return value


def id_text(value: Any) -> Any:
    """An integer as a decimal string; any other value unchanged."""
    is_integer = isinstance(value, int) and not isinstance(value, bool)
    return str(value) if is_integer else value


def two_ids(values: Mapping[str, Any]) -> str:
    """What is wrong with an object whose ``_id`` and ``id`` differ; "" if they agree.

    ``docid`` may differ from both: in a passage it can be the id of the document.
    """
    one, other = id_text(values.get("_id")), id_text(values.get("id"))
    if one is None or other is None or one == other:
        return ""
    found = f"_id is {repr(one)[:80]} and id is {repr(other)[:80]}"
    return f"{found}; remove one of them, or make them equal"


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


class _RepeatedKey(ValueError):  # noqa: N818
    """JSON allows a repeated key, and Python would silently keep the last value."""


def _pairs(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                raise _RepeatedKey(key[:80])
            seen.add(key)
    return values


_parse = json.JSONDecoder(object_pairs_hook=_pairs).decode


class JsonLine:
    """The JSON object on a line; its getters raise InputError with file and line."""

    def __init__(self, text: str, source: object, line: int | None) -> None:
        self.source = source
        self.line = line
        try:
            self.values = _parse(text)
        except _RepeatedKey as error:
            raise self.error(f"the key {error.args[0]!r} occurs twice; remove one") from error
        except (ValueError, RecursionError) as error:
            reason = getattr(error, "msg", None) or "nested too deeply or a number too long"
            place = f", column {error.colno}" if isinstance(error, json.JSONDecodeError) else ""
            raise self.error(f"broken JSON ({reason}{place})") from error
        if not isinstance(self.values, dict):
            kind = type(self.values).__name__
            raise self.error(f"not a JSON object but a {kind}; write one object per line")

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
            raise self.error(f"{key} is {_kind(value)}; an id is a string")
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
            raise self.error(f"{key} is {_kind(value)}; a string is expected")
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


def tsv_pairs(source: TextSource) -> Iterator[tuple[int, str, str]]:
    """Line number, id and text of every line of a TSV. Quotation marks are ordinary characters."""
    for number, line in source.lines():
        yield number, *split_tsv(line, source, number)


def split_tsv(line: str, source: object, number: int) -> tuple[str, str]:
    columns = line.split("\t")
    if len(columns) != 2:
        count = f"{len(columns)} column{'s' if len(columns) > 1 else ''}"
        raise InputError.at(source, number, f"{count}; expected two, id TAB text")
    return check_id(columns[0], source, number), columns[1]


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "true or false", float: "a fraction", int: "a number", list: "a list"}
    return names.get(type(value), "an object")
