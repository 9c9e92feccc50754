"""Records of one input in its order: the interface of all formats, and the simplest of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dupmae_toolkit.collection.lines import JsonLine
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError

#: A record, or what is wrong where one should be; the reader can go on after it.
Row = Mapping[str, Any] | InputError
#: For the progress bar, the lines of files up to this size are counted beforehand.
COUNT_LIMIT_BYTES = 64 * 2**20


class Rows(ABC):
    """Records with rising numbers; they can be iterated repeatedly and are never all in memory.

    ``source`` is the input's name in error messages. Iterating raises InputError for an input that
    cannot be read on, and yields one for a record that is none.
    """

    source: str
    #: What a reader of this input should be told, after it was iterated.
    remarks: Sequence[str] = ()

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[int, Row]]: ...

    def where(self, number: int) -> tuple[str, int | None]:
        """The file of a record and the line in it, for error messages; by default, lines."""
        return self.source, number

    def count(self) -> int | None:
        """The number of records; None if counting them is expensive."""
        return None


class FileRows(Rows):
    """Records in one text file, numbered by lines."""

    def __init__(self, file: TextSource) -> None:
        self.file = file
        self.source = str(file)

    def count(self) -> int | None:
        """The number of lines that are not blank; None for files over ``COUNT_LIMIT_BYTES``."""
        try:
            if self.file.path.stat().st_size > COUNT_LIMIT_BYTES:
                return None
            return sum(1 for _ in self.file.lines())
        except (InputError, OSError):
            return None  # iterating will raise it


class JsonLines(FileRows):
    """A JSON object on each line."""

    def parse(self, text: str, number: int) -> Mapping[str, Any]:
        """The record on a line. Raises InputError."""
        values: dict[str, Any] = JsonLine(text, self.file, number).values
        return values

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, line in self.file.lines():
            try:
                row: Row = self.parse(line, number)
            except InputError as error:
                row = error
            yield number, row


class TextLines(FileRows):
    """A text on each line, without ids."""

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, line in self.file.lines():
            yield number, {"text": line}


class Shards(Rows):
    """Several inputs as one; their numbers go on from one to the next."""

    def __init__(self, source: str, shards: Sequence[Rows], remarks: Sequence[str] = ()) -> None:
        self.source, self.shards, self._own = source, shards, remarks
        self._starts: list[int] = []

    @property
    def remarks(self) -> Sequence[str]:  # type: ignore[override]
        found = [remark for shard in self.shards for remark in shard.remarks]
        return [*self._own, *dict.fromkeys(found)]

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        self._starts, start = [], 0
        for shard in self.shards:
            self._starts.append(start)
            number = 0
            for number, row in shard:
                yield start + number, row
            start += number

    def where(self, number: int) -> tuple[str, int | None]:
        place = max(0, bisect_right(self._starts, number - 1) - 1)
        start = self._starts[place] if self._starts else 0
        return self.shards[place].where(number - start)

    def count(self) -> int | None:
        total = 0
        for shard in self.shards:
            size = shard.count()
            if size is None:
                return None
            total += size
        return total
