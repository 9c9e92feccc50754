"""Ids: which strings can be one, and how TREC files, whose columns end at white space, write them.

An id is any string that one line of a file can hold: FAISS folders have a line for each id. White
space within it is allowed. In TREC files alone, each byte of a white-space character becomes ``%%``
and two hexadecimal digits: ``notes/a b.md`` is written ``notes/a%%20b.md``. A single ``%`` is an
ordinary character, so ids such as ``100%`` and ``http://x/a%20b`` stay as they are, in our files
and in other tools'. An id that holds ``%%41`` itself has its first ``%`` written as ``%%25``.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from numbers import Integral
from typing import Any

from dupmae_toolkit.errors import InputError

#: Lucene's limit for an indexed term, in bytes of UTF-8.
MAX_ID_BYTES = 32_766

_LINE_BREAKS = "\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
_WHITE = re.compile(r"\s")
#: What looks like an escape without being one.
_LITERAL = re.compile(r"%(?=%[0-9A-F]{2})")
_ESCAPES = re.compile(r"(?:%%[0-9A-F]{2})+")


def check_id(value: str, source: object, line: int | None, what: str = "id") -> str:
    """Return ``value`` if it can be an id; raise InputError, with the place, if not.

    Refused are: the empty string, white space at either end, control characters,
    line breaks, tabs and half surrogate pairs, and more than ``MAX_ID_BYTES`` bytes. Ids are never
    parsed: ``001``, ``NA`` and ``1e5`` stay strings.
    """
    plain = value.isascii() and value.isprintable()
    if plain and value and value[0] != " " != value[-1] and len(value) <= MAX_ID_BYTES:
        return value
    fault = _fault(value, plain, what)
    if fault:
        raise InputError.at(source, line, fault)
    return value


def _fault(value: str, plain: bool, what: str) -> str:
    """What forbids ``value`` as an id; "" if nothing does. plain: only printable ASCII."""
    if not value:
        return f"empty {what}"
    for character in "" if plain else value:
        if character in _LINE_BREAKS:
            found = "a line break"
        elif character == "\ufeff" or unicodedata.category(character) in ("Cc", "Cs"):
            found = "a control character"
        else:
            continue
        return f"{found} in {what} {value[:80]!r}, which no id can hold; rename it"
    if value != value.strip():
        return f"white space at an end of {what} {value[:80]!r}; remove it"
    if len(value.encode("utf-8")) > MAX_ID_BYTES:
        return f"{what} of more than {MAX_ID_BYTES:,} bytes, Lucene's limit; shorten it"
    return ""


def id_text(value: Any) -> Any:
    """An integer, numpy's too, as a decimal string; any other value unchanged."""
    if isinstance(value, str):
        return value
    is_integer = isinstance(value, Integral) and not isinstance(value, bool)
    return str(int(value)) if is_integer else value


def two_ids(values: Mapping[str, Any]) -> str:
    """What is wrong with an object whose ``_id`` and ``id`` differ; "" if they agree.

    ``docid`` may differ from both: in a passage it can be the id of the document.
    """
    one, other = id_text(values.get("_id")), id_text(values.get("id"))
    if one is None or other is None or one == other:
        return ""
    found = f"_id is {repr(one)[:80]} and id is {repr(other)[:80]}"
    return f"{found}; remove one of them, or make them equal"


def to_trec(name: str) -> str:
    """An id as a column of a TREC file; ``from_trec`` gives it back."""
    if "%%" in name:
        name = _LITERAL.sub("%%25", name)
    return _WHITE.sub(_escaped, name)


def from_trec(column: str) -> str:
    """The id that a column of a TREC file stands for.

    Only escapes that ``to_trec`` writes are undone, so other tools' ids stay as they are.
    """
    return _ESCAPES.sub(_unescaped, column) if "%%" in column else column


def _escaped(found: re.Match[str]) -> str:
    return "".join(f"%%{byte:02X}" for byte in found[0].encode("utf-8"))


def _unescaped(found: re.Match[str]) -> str:
    try:
        text = bytes.fromhex(found[0].replace("%%", "")).decode("utf-8")
    except UnicodeDecodeError:
        return found[0]
    ours = all(character == "%" or unicodedata.category(character) == "Zs" for character in text)
    return text if ours else found[0]
