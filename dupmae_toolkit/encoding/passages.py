"""Passages of documents as texts to encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.collection.passages import (
    OLD_SPAN,
    SPAN,
    Passages,
    cut,
    is_old_span,
    is_span,
    row_id,
    split_row_id,
)
from dupmae_toolkit.encoding.source import Source, place_of
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Encoder

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus

_Offsets = Callable[[str], Iterable[tuple[int, int, int]]]


class PassageSource:
    """The passages of a source's documents, each a Document under its row's id.

    The title and the metadata go with every passage. documents: how many were read last.
    """

    def __init__(self, source: Source, passages: Passages, encoder: Encoder) -> None:
        """Raises InputError for an encoder that cannot find its tokens, or reads fewer of them."""
        offsets: _Offsets | None = getattr(encoder, "token_offsets", None)
        self._room: Callable[[str], int] | None = getattr(encoder, "room_beside", None)
        info = encoder.info
        if offsets is None:
            raise InputError(
                f"encoder {info.name}: cannot say where its tokens stand in a text, so it makes no "
                "passages; leave out --passages (passages=…)"
            )
        if passages.size > info.max_length:
            raise InputError(
                f"passages of {passages.size} tokens, of which encoder {info.name} would read "
                f"{info.max_length}; give fewer, or a larger --max-length (max_length=…)"
            )
        self._documents, self.passages, self._offsets = source, passages, offsets
        self.source = source.source
        self.documents = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._documents, name)

    def count(self) -> int | None:
        """None: only reading the texts tells how many passages they have."""
        return None

    def numbered(self) -> Iterator[tuple[int, Document]]:
        """The passages with the numbers of their documents."""
        self.documents = 0
        for place, document in self._documents.numbered():
            if SPAN in document.metadata:
                where = place_of(self._documents, place)
                raise InputError.at(*where, f"{SPAN!r} names no field of yours; rename it")
            self.documents += 1
            text, passages = document.text, self._fitting(document.title)
            for number, span in enumerate(cut(text, self._offsets(text), passages)):
                yield (
                    place,
                    Document(
                        row_id(document.id, number),
                        document.title,
                        text[slice(*span)],
                        {**document.metadata, SPAN: [*span, len(text)]},
                    ),
                )

    def _fitting(self, title: str) -> Passages:
        """Shorter passages where a long title would push their ends over the encoder's limit.

        They keep at least a quarter of the size. If a title leaves less room than that, what does
        not fit is cut, and counted as cut.
        """
        asked = self.passages
        room = asked.size if self._room is None else self._room(title)
        if room >= asked.size:
            return asked
        size = max(room, asked.size // 4, 1)
        return Passages(size, asked.overlap * size // asked.size)


def documents_in(encoded: EncodedCorpus) -> int:
    """How many documents an encoded corpus holds.

    Raises InputError if its rows are passages, but their ids or spans are not those of passages, or
    if a part of a document's text is in no row.
    """
    from dupmae_toolkit.encoding.parquet import read_texts

    if encoded.passages is None:
        return len(encoded)
    texts: dict[str, _Covered] = {}
    for path in encoded.files():
        for ids, pieces, metadata in read_texts(path):
            for name, text, fields in zip(ids, pieces, metadata, strict=True):
                try:
                    document = split_row_id(name)[0]
                except InputError as error:
                    raise InputError.at(path, None, str(error)) from error
                span: Any = fields.get(SPAN)
                if not is_span(span, text):
                    if is_old_span(span):
                        raise _wrong(path, f"{name!r} has {OLD_SPAN}")
                    fault = f"do not give the span of its passage as {SPAN!r}"
                    raise _wrong(path, f"the metadata of {name!r} {fault}")
                texts.setdefault(document, _Covered()).add(*span)
    for document, covered in texts.items():
        if covered.end < covered.length:
            where = f"the text of {document!r} from character {covered.end:,}"
            raise _wrong(encoded.folder, f"{where} is in no row")
    return len(texts)


class _Covered:
    """Up to where the passages of a text cover it, from its beginning, without a gap."""

    __slots__ = ("beyond", "end", "length")

    def __init__(self) -> None:
        self.end = self.length = 0
        self.beyond: list[tuple[int, int]] = []  #: spans that begin after a gap

    def add(self, start: int, end: int, length: int) -> None:
        self.length = max(self.length, length)
        if start > self.end:
            self.beyond.append((start, end))
            return
        self.end = max(self.end, end)
        while self.beyond and min(self.beyond)[0] <= self.end:
            nearest = min(self.beyond)
            self.beyond.remove(nearest)
            self.end = max(self.end, nearest[1])


def _wrong(path: object, fault: str) -> InputError:
    return InputError.at(path, None, f"{fault}; encode again into a new folder")
