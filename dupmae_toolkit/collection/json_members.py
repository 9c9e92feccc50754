"""JSON that is one array or one object, read member by member with a block of it in memory."""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

from dupmae_toolkit.collection.lines import DECODER, RepeatedKey
from dupmae_toolkit.collection.rows import FileRows, JsonLines, Row
from dupmae_toolkit.collection.sources import MAX_LINE_BYTES, TextSource
from dupmae_toolkit.errors import InputError, type_of

#: Bytes to read at a time; more while a member is longer.
BLOCK_BYTES = 1 << 18
_WHITE = " \t\n\r"
#: How near the end of what was read a fault must be to come from that end.
_MARGIN = 16


class JsonMembers(FileRows):
    """The records of an array of objects or of texts, or of an object of records or texts by id.

    Numbered by members, from 1. Memory holds a block of the file, and at least one member.
    """

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, (key, value) in enumerate(members(self.file), 1):
            if isinstance(value, str):
                row: Row = {"text": value} if key is None else {"_id": key, "text": value}
            elif isinstance(value, Mapping):
                row = value if key is None else {"_id": key, **value}
            else:
                path, line = self.where(number)
                row = InputError.at(path, line, f"not an object or a text but {type_of(value)}")
            yield number, row

    def where(self, number: int) -> tuple[str, int | None]:
        return f"{self.source}: member {number}", None

    def count(self) -> int | None:
        return None


def members(file: TextSource) -> Iterator[tuple[str | None, Any]]:
    """The values of an array, each with None; or the keys and values of an object.

    Raises InputError with the line for broken JSON, and for a member over ``MAX_LINE_BYTES``.
    """
    text = _Unread(file)
    opening = text.next_character()
    if opening not in ("[", "{"):
        raise text.error("not a JSON array or object")
    closing, named = ("]", False) if opening == "[" else ("}", True)
    text.skip()
    if text.next_character() == closing:
        text.skip()
    else:
        while True:
            key = None
            if named:
                key = text.value()
                if not isinstance(key, str):
                    raise text.error("broken JSON (a key must be a string)")
                text.take(":")
            yield key, text.value()
            if text.next_character() == closing:
                text.skip()
                break
            text.take(",")
    if text.next_character():
        raise text.error("broken JSON (more text after its end)")


class _Unread:
    """The text of a file from some place on, as far as it was read."""

    def __init__(self, file: TextSource) -> None:
        self.file = file
        self.text, self.at, self.line = "", 0, 1
        self._bytes = self._decoded()

    def _decoded(self) -> Iterator[str]:
        decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        for block in self.file.blocks(BLOCK_BYTES, lines=False):
            yield self._checked(decode, block)
        yield self._checked(decode, b"", True)

    def _checked(self, decode: Any, *block: Any) -> str:
        try:
            text: str = decode(*block)
        except UnicodeDecodeError as error:
            raise self.error("not UTF-8 text") from error
        return text

    def more(self) -> bool:
        """Read on, as much again as is unread already; False at the end of the file."""
        self.line += self.text.count("\n", 0, self.at)
        pieces, size = [self.text[self.at :]], 0
        self.at = 0
        for piece in self._bytes:
            pieces.append(piece)
            size += len(piece)
            if size and size >= len(pieces[0]):
                break
        self.text = "".join(pieces)
        return size > 0

    def next_character(self) -> str:
        """The next character that is not white space, which stays unread; "" at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in _WHITE:
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def skip(self) -> None:
        self.at += 1

    def take(self, wanted: str) -> None:
        found = self.next_character()
        if found != wanted:
            what = repr(found) if found else "the end of the file"
            raise self.error(f"broken JSON ({wanted!r} expected, found {what})")
        self.skip()

    def value(self) -> Any:
        """The next value. A value at the end of what was read may go on, so more is read first."""
        self.next_character()
        while True:
            try:
                value, end = DECODER.raw_decode(self.text, self.at)
            except RepeatedKey as error:
                raise self.error(f"the key {error.args[0]!r} occurs twice; remove one") from error
            except json.JSONDecodeError as error:
                unended = error.msg.startswith("Unterminated")
                unended = unended or error.pos >= len(self.text) - _MARGIN
                if len(self.text) - self.at > MAX_LINE_BYTES:
                    raise self.error(
                        f"a member longer than {MAX_LINE_BYTES >> 20} MiB, or quotation marks that "
                        "do not match"
                    ) from error
                if unended and self.more():
                    continue
                raise self.error(f"broken JSON ({error.msg})", error.pos) from error
            except (ValueError, RecursionError) as error:
                raise self.error("broken JSON (nested too deeply or a number too long)") from error
            if self._may_go_on(value, end) and self.more():
                continue
            self.at = end
            return value

    def _may_go_on(self, value: Any, end: int) -> bool:
        """Whether a value that was decoded up to ``end`` may be the beginning of a longer one.

        Only numbers can be, and of those only what no other character has ended yet: "0" of "0.5".
        """
        if not isinstance(value, int | float):
            return False
        return not any(mark in self.text[end : end + _MARGIN] for mark in ",]}" + _WHITE)

    def error(self, fault: str, at: int | None = None) -> InputError:
        line = self.line + self.text.count("\n", 0, self.at if at is None else at)
        return InputError.at(self.file, line, fault)


def json_form(file: TextSource, names: tuple[str, ...]) -> str:
    """``lines``, ``members`` (of one array), or ``named`` (members of one object).

    A file that begins with ``[`` is an array if an object, a text, the end of the line or its own
    end follows; in ``.jsonl``, only if an object does. One that begins with ``{`` is lines if its
    first line is an object. The exception, in ``.json`` and where no name tells: an object on a
    single line whose values are all objects or texts, under none of the names that fields have.
    """
    head = file.beginning(1 << 16).decode("utf-8", "replace").lstrip()
    lines_only = file.suffix in (".jsonl", ".ndjson")
    if head[:1] == "[":
        follows = head[1:].lstrip()[:1]
        allowed = "{" if lines_only else '{"]'
        return "members" if follows and follows in allowed else "lines"
    if lines_only or head[:1] != "{":
        return "lines"
    try:
        lines = file.lines()
        first = next(lines, (0, ""))[1]
        value = json.loads(first)
        alone = next(lines, None) is None
    except InputError:
        return "lines"
    except (ValueError, RecursionError):
        # The object goes on in further lines, or is broken, which either reader reports.
        return "named"
    if not isinstance(value, dict) or not alone or not value:
        return "lines"
    as_field = {name.strip().casefold() for name in value}
    records = all(isinstance(each, str | Mapping) for each in value.values())
    return "named" if records and not as_field.intersection(names) else "lines"


class JsonRows(FileRows):
    """The records of a JSON file in any form; the form is looked up when it is first needed."""

    def __init__(self, file: TextSource, names: tuple[str, ...]) -> None:
        super().__init__(file)
        self._names = names

    @cached_property
    def rows(self) -> FileRows:
        """The records in the form that the file has."""
        lines = json_form(self.file, self._names) == "lines"
        return JsonLines(self.file) if lines else JsonMembers(self.file)

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        yield from self.rows

    def where(self, number: int) -> tuple[str, int | None]:
        return self.rows.where(number)

    def count(self) -> int | None:
        return self.rows.count()
