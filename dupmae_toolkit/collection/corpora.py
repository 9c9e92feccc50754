"""Corpora: documents streamed from files and data sets."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator

from dupmae_toolkit.collection.lines import (
    FORMATS,
    JSON_SUFFIXES,
    TSV_SUFFIXES,
    JsonLine,
    split_tsv,
)
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document

TEXT_KEYS = ("text", "contents", "body")
#: Documents of files up to this size are counted beforehand, for the progress bar.
COUNT_LIMIT_BYTES = 64 * 2**20
LINES_NAMED = 5  # of those that were left out


class Corpus(ABC):
    """Documents that can be iterated any number of times, and are never all in memory.

    ``name`` is short and fit for a file name (see ``file_safe``); ``source`` is what error messages
    call it. ``skipped`` counts the documents that the last iteration left out, which happens only
    where ``skip_invalid`` asked for it.
    """

    name: str
    source: str
    skipped: int = 0
    _first_skipped: tuple[int, ...] = ()

    @abstractmethod
    def numbered(self) -> Iterator[tuple[int, Document]]:
        """Documents with their line numbers from 1 (for data sets without lines: their places)."""

    def count(self) -> int | None:
        """How many documents there are, where that is cheap to know."""
        return None

    def left_out(self) -> str:
        """Which lines ``skipped`` counts: how many, and where the first stand; "" for none."""
        if not self.skipped:
            return ""
        places = ", ".join(f"{self.source}:{number}" for number in self._first_skipped)
        more = self.skipped - len(self._first_skipped)
        if more:
            places += f" and {more:,} more"
        if self.skipped == 1:
            return f"1 line that is no document was left out: {places}"
        return f"{self.skipped:,} lines that are no documents were left out: {places}"

    def __iter__(self) -> Iterator[Document]:
        for _, document in self.numbered():
            yield document

    def _begin(self) -> None:
        self.skipped, self._first_skipped = 0, ()

    def _skip(self, number: int) -> None:
        self.skipped += 1
        if self.skipped <= LINES_NAMED:
            self._first_skipped += (number,)


class FileCorpus(Corpus):
    """A corpus in one file of JSON lines or of id TAB text.

    Iterating raises InputError with file and line for a line that is no document: broken JSON, no
    id, an id with white space, no text. With ``skip_invalid`` such lines are counted instead; a
    file that is damaged or no text at all is refused all the same. Ids that come twice are not
    noticed here.
    """

    def __init__(self, file: TextSource, name: str, *, skip_invalid: bool = False) -> None:
        if file.suffix not in JSON_SUFFIXES + TSV_SUFFIXES:
            raise InputError.at(file, None, f"unknown kind of corpus; {FORMATS} are read")
        self.file = file
        self.name = name
        self.source = str(file)
        self.skip_invalid = skip_invalid

    def numbered(self) -> Iterator[tuple[int, Document]]:
        self._begin()
        empty = True
        for number, line in self.file.lines():
            try:
                document = self.parse(line, number)
            except InputError:
                if not self.skip_invalid:
                    raise
                self._skip(number)
                continue
            empty = False
            yield number, document
        if empty:
            left_out = f" ({self.skipped:,} invalid lines skipped)" if self.skipped else ""
            raise InputError.at(self.file, None, f"no documents in it{left_out}")

    def count(self) -> int | None:
        """The number of lines that are not blank, for files up to ``COUNT_LIMIT_BYTES``."""
        if self.skip_invalid:
            return None
        try:
            if self.file.path.stat().st_size > COUNT_LIMIT_BYTES:
                return None
            return sum(1 for _ in self.file.lines())
        except (InputError, OSError):
            return None  # iterating raises it again

    def parse(self, text: str, number: int) -> Document:
        """The document of a line. Raises InputError if it is none, whatever ``skip_invalid``."""
        read = self._from_tsv if self.file.suffix in TSV_SUFFIXES else self._from_json
        return read(text, number)

    def _from_json(self, text: str, number: int) -> Document:
        line = JsonLine(text, self.file, number)
        document = Document(
            id=line.get_id(),
            title=line.get_text(("title",), required=False),
            text=line.get_text(TEXT_KEYS, required=True),
        )
        return self._checked(document, number)

    def _from_tsv(self, text: str, number: int) -> Document:
        return self._checked(Document(*_id_and_text(text, self.file, number)), number)

    def _checked(self, document: Document, number: int) -> Document:
        if not document.text.strip() and not document.title.strip():
            raise InputError.at(
                self.file,
                number,
                f"document {document.id} has no text; give it one, or use --skip-invalid "
                "(skip_invalid=True)",
            )
        return document


def _id_and_text(line: str, source: object, number: int) -> tuple[str, str, str]:
    identifier, text = split_tsv(line, source, number)
    return identifier, "", text


def file_safe(name: str) -> str:
    """``name`` with everything replaced that is awkward in a file name."""
    safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    return safe[:100] or "collection"
