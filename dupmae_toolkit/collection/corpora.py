"""Corpora: documents streamed from files, data sets and memory."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping

from dupmae_toolkit.collection.delimited import Delimited
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns, Reading, RecordReader
from dupmae_toolkit.collection.json_members import JsonRows
from dupmae_toolkit.collection.rows import JsonLines, Rows
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document

LINES_NAMED = 5  # how many skipped lines a message names


class Corpus(ABC):
    """Documents that can be iterated repeatedly and are never all in memory.

    ``name`` is short and safe in a file name (see ``file_safe``); ``source`` is its name in error
    messages. ``skipped`` counts the documents that the last iteration skipped, which happens only
    with ``skip_invalid``; ``dropped`` those that it left out as duplicates, see ``duplicates``.
    ``reading`` says what it took for what.
    """

    name: str
    source: str
    skipped: int = 0
    dropped: int = 0
    reading: Reading = Reading()
    _first_skipped: tuple[int, ...] = ()
    _why_skipped: str = ""

    @abstractmethod
    def numbered(self) -> Iterator[tuple[int, Document]]:
        """Documents with rising numbers from 1: of their lines, or of their places if none."""

    def where(self, number: int) -> tuple[str, int | None]:
        """The file of a document of the last iteration, and its line there; for messages."""
        return self.source, number

    def count(self) -> int | None:
        """The number of documents; None if counting them is expensive."""
        return None

    def left_out(self) -> str:
        """A message on what was skipped: how many, where the first are, and why the very first was.

        "" if nothing was.
        """
        if not self.skipped:
            return ""
        found = [self.where(number) for number in self._first_skipped]
        places = ", ".join(path if line is None else f"{path}:{line}" for path, line in found)
        more = self.skipped - len(self._first_skipped)
        if more:
            places += f" and {more:,} more"
        what = "record" if found[0][1] is None else "line"
        why = f" ({'' if self.skipped == 1 else 'the first: '}{self._why_skipped})"
        if self.skipped == 1:
            return f"1 {what} that is not a document was skipped: {places}{why}"
        return f"{self.skipped:,} {what}s that are not documents were skipped: {places}{why}"

    def notes(self) -> list[str]:
        """What a user should know of the last iteration, a line each; none if all was as usual."""
        found = [line for line in (self.left_out(),) if line]
        if self.dropped:
            were = "document was" if self.dropped == 1 else "documents were"
            found.append(f"{self.dropped:,} {were} left out because of equal ids")
        return [*found, *self.reading.notes()]

    def __iter__(self) -> Iterator[Document]:
        for _, document in self.numbered():
            yield document

    def _begin(self) -> None:
        self.skipped, self._first_skipped = 0, ()

    def _skip(self, number: int, error: InputError) -> None:
        self.skipped += 1
        if self.skipped == 1:
            self._why_skipped = error.fault.partition(";")[0]  # without the remedy
        if self.skipped <= LINES_NAMED:
            self._first_skipped += (number,)


class RowCorpus(Corpus):
    """The documents of records in any format.

    Iterating raises InputError with the place of a record that is no document: broken JSON, no id
    where others have one, no text. With ``skip_invalid`` such records are skipped and counted; a
    file that is damaged or not text still raises. Duplicate ids are not detected here.
    """

    def __init__(
        self,
        rows: Rows,
        name: str,
        columns: Columns = ANY_COLUMNS,
        *,
        skip_invalid: bool = False,
    ) -> None:
        self.rows = rows
        self.name = name
        self.source = rows.source
        self.columns = columns
        self.skip_invalid = skip_invalid
        self.reading = Reading()
        #: What is told of the reading, after the first time; by default nothing.
        self.tell: Callable[[str], None] | None = None

    def numbered(self) -> Iterator[tuple[int, Document]]:
        self._begin()
        reader = RecordReader(self.columns)
        self.reading = reader.reading
        rows = self.rows
        number, empty = 0, True

        def fault(message: str) -> InputError:
            return InputError.at(*rows.where(number), message)

        for place, (number, row) in enumerate(rows):
            try:
                if isinstance(row, InputError):
                    raise row
                document = reader.given(row, place, fault)
            except InputError as error:
                if not self.skip_invalid:
                    raise
                self._skip(number, error)
                continue
            empty = False
            yield number, document
        reader.reading.remarks = list(rows.remarks)
        if self.tell is not None:
            tell, self.tell = self.tell, None
            for line in reader.reading.warnings():
                tell(line)
        if empty:
            left_out = f" ({self.skipped:,} invalid lines skipped)" if self.skipped else ""
            raise InputError.at(self.source, None, f"no documents in it{left_out}")

    def where(self, number: int) -> tuple[str, int | None]:
        return self.rows.where(number)

    def count(self) -> int | None:
        """The number of records, None if counting them is expensive or some may be invalid."""
        return None if self.skip_invalid else self.rows.count()


def line_parser(
    corpus: Corpus,
) -> tuple[TextSource, Callable[[str, int], Document]] | None:
    """A corpus's file, and what makes a document of any line of it and the line's number.

    None if the documents are not lines of a plain file that can be read one by one: in other
    formats, with a header, or without ids. The function raises InputError, with the line, for a
    line that is no document.
    """
    rows = corpus.rows if isinstance(corpus, RowCorpus) else None
    if isinstance(rows, JsonRows):
        rows = rows.rows
    if not isinstance(corpus, RowCorpus) or not isinstance(rows, JsonLines | Delimited):
        return None
    if not rows.file.is_plain() or (isinstance(rows, Delimited) and not rows.is_bare()):
        return None
    reader = RecordReader(corpus.columns)
    first = next((row for _, row in rows), None)
    if not isinstance(first, Mapping) or not reader.has_id(first):
        return None

    def parse(text: str, number: int) -> Document:
        def fault(message: str) -> InputError:
            return InputError.at(rows.file, number, message)

        return reader.document(rows.parse(text, number), number, fault)

    return rows.file, parse


def file_safe(name: str) -> str:
    """``name`` with characters that are awkward in a file name replaced."""
    safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    return safe[:100] or "collection"
