"""Random access to the lines of a file without holding them in memory."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterator
from typing import BinaryIO, NamedTuple

import numpy as np

from dupmae_toolkit.collection.sources import MAX_LINE_BYTES, TextSource
from dupmae_toolkit.errors import InputError

_MASK = (1 << 63) - 1


class Line(NamedTuple):
    """A line's number, from 1, and its byte offset; for a compressed file, its text instead."""

    number: int
    place: int | str


class LineFile:
    """The lines of a text file: by offset in a plain file, in sequence in a compressed one.

    Raises InputError as ``TextSource.lines`` does.
    """

    def __init__(self, source: TextSource) -> None:
        self.source = source
        self.plain = source.is_plain()
        self._stream: BinaryIO | None = None

    def lines(self) -> Iterator[Line]:
        """Every line that is not blank."""
        if not self.plain:
            yield from (Line(number, text) for number, text in self.source.lines())
            return
        try:
            stream = self.source.path.open("rb")
        except OSError:
            # This raises the error.
            yield from (Line(number, text) for number, text in self.source.lines())
            return
        with stream:
            place = number = 0
            while raw := stream.readline(MAX_LINE_BYTES + 1):
                number += 1
                if len(raw) > MAX_LINE_BYTES:
                    raise InputError.at(
                        self.source, number, f"a line longer than {MAX_LINE_BYTES >> 20} MiB"
                    )
                if not raw.isspace():
                    yield Line(number, place)
                place += len(raw)

    def text(self, line: Line) -> str:
        """The text of a line, without its end."""
        if isinstance(line.place, str):
            return line.place
        try:
            if self._stream is None:
                self._stream = self.source.path.open("rb")
            self._stream.seek(line.place)
            raw = self._stream.readline(MAX_LINE_BYTES + 1)
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError.at(self.source, line.number, f"cannot be read ({reason})") from error
        if line.place == 0:
            raw = raw.removeprefix(b"\xef\xbb\xbf")
        try:
            text = raw.decode("utf-8").rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise InputError.at(
                self.source, line.number, f"not UTF-8 text (byte {error.start + 1} of the line)"
            ) from error
        if "\0" in text:
            raise InputError.at(self.source, line.number, "a NUL byte: this is no text file")
        return text


class TextStore:
    """Texts by their ids, from a plain file that may be far larger than memory.

    parse: from a line's text and number to an id and a text; raises InputError for a malformed
    line. Memory holds 24 bytes for each line. Raises InputError for a file without lines, and for a
    duplicate id. For other corpora there is ``DocumentStore``, which copies them.
    """

    def __init__(self, source: TextSource, parse: Callable[[str, int], tuple[str, str]]) -> None:
        self.file = LineFile(source)
        self._parse = parse
        # Python's hash differs between processes, but it only locates ids within this one.
        hashes, places, numbers = array("q"), array("q"), array("q")
        for line in self.file.lines():
            identifier, _ = parse(self.file.text(line), line.number)
            hashes.append(hash(identifier) & _MASK)
            places.append(int(line.place))
            numbers.append(line.number)
        if not hashes:
            raise InputError.at(source, None, "no documents in it")
        keys = np.frombuffer(hashes, dtype=np.int64)
        order = np.argsort(keys, kind="stable")
        self._keys = keys[order]
        self._places = np.asarray(places, dtype=np.int64)[order]
        self._numbers = np.asarray(numbers, dtype=np.int64)[order]
        self._refuse_twice()

    def _refuse_twice(self) -> None:
        """Refuse duplicate ids. Only entries with equal hashes are compared; they are adjacent."""
        seen: dict[int, set[str]] = {}
        alike = self._keys[1:] == self._keys[:-1]
        for entry in np.flatnonzero(np.append(alike, False) | np.append(False, alike)).tolist():
            identifier, _ = self._entry(entry)
            names = seen.setdefault(int(self._keys[entry]), set())
            if identifier in names:
                number = int(self._numbers[entry])
                raise InputError.at(
                    self.file.source, number, f"document {identifier} comes a second time"
                )
            names.add(identifier)

    def _entry(self, entry: int) -> tuple[str, str]:
        """The id and the text of an entry, by its position in the order of the hashes."""
        number = int(self._numbers[entry])
        return self._parse(self.file.text(Line(number, int(self._places[entry]))), number)

    def __len__(self) -> int:
        return len(self._keys)

    def get(self, identifier: str) -> str | None:
        """The text with this id, or None."""
        key = hash(identifier) & _MASK
        start = int(np.searchsorted(self._keys, key))
        while start < len(self._keys) and self._keys[start] == key:
            found, text = self._entry(start)
            if found == identifier:
                return text
            start += 1
        return None
