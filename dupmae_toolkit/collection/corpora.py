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
#: For the progress bar, the documents in files up to this size are counted beforehand.
COUNT_LIMIT_BYTES = 64 * 2**20
LINES_NAMED = 5  # how many skipped lines a message names


class Corpus(ABC):
    """Documents that can be iterated repeatedly and are never all in memory.

    ``name`` is short and safe in a file name (see ``file_safe``); ``source`` is its name in error
    messages. ``skipped`` counts the documents that the last iteration skipped, which happens only
    with ``skip_invalid``.
    """

    name: str
    source: str
    skipped: int = 0
    _first_skipped: tuple[int, ...] = ()

    @abstractmethod
    def numbered(self) -> Iterator[tuple[int, Document]]:
        """Documents with their line numbers from 1 (for data sets without lines, positions)."""

    def count(self) -> int | None:
        """The number of documents; None if counting them is expensive."""
        return None

    def left_out(self) -> str:
        """A message on the skipped lines: how many, and where the first ones are; "" if none."""
        if not self.skipped:
            return ""
        places = ", ".join(f"{self.source}:{number}" for number in self._first_skipped)
        more = self.skipped - len(self._first_skipped)
        if more:
            places += f" and {more:,} more"
        if self.skipped == 1:
            return f"1 line that is not a document was skipped: {places}"
        return f"{self.skipped:,} lines that are not documents were skipped: {places}"

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

    Iterating raises InputError with file and line for a line that is not a document: broken JSON,
    no id, an id with white space, no text. With ``skip_invalid`` such lines are skipped and
    counted; a file that is damaged or not text still raises. Duplicate ids are not detected here.
    """

    def __init__(self, file: TextSource, name: str, *, skip_invalid: bool = False) -> None:
        if file.suffix not in JSON_SUFFIXES + TSV_SUFFIXES:
            raise InputError.at(file, None, f"unknown corpus format; use {FORMATS}")
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
        """The number of lines that are not blank; None for files over ``COUNT_LIMIT_BYTES``."""
        if self.skip_invalid:
            return None
        try:
            if self.file.path.stat().st_size > COUNT_LIMIT_BYTES:
                return None
            return sum(1 for _ in self.file.lines())
        except (InputError, OSError):
            return None  # iterating will raise it

    def parse(self, text: str, number: int) -> Document:
        """The document on a line. Raises InputError if invalid, even with ``skip_invalid``."""
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
    """``name`` with characters that are awkward in a file name replaced."""
    safe = re.sub(r"[^\w.+-]+", "-", name).strip("-.")
    return safe[:100] or "collection"
