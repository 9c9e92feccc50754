"""Passages of documents as texts to encode."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.collection.metadata import read_metadata_text
from dupmae_toolkit.collection.passages import SPAN, Passages, cut, is_span, row_id, split_row_id
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
            text = document.text
            for number, span in enumerate(cut(text, self._offsets(text), self.passages)):
                yield (
                    place,
                    Document(
                        row_id(document.id, number),
                        document.title,
                        text[slice(*span)],
                        {**document.metadata, SPAN: list(span)},
                    ),
                )


def documents_in(encoded: EncodedCorpus) -> int:
    """How many documents an encoded corpus holds; InputError for ids that name no passage."""
    from dupmae_toolkit.encoding.parquet import read_ids

    if encoded.passages is None:
        return len(encoded)
    found: set[str] = set()
    for path in encoded.files():
        try:
            found.update(split_row_id(name)[0] for name in read_ids(path))
        except InputError as error:
            raise InputError.at(path, None, str(error)) from error
    return len(found)


def check_spans(source: object, ids: Iterable[str], texts: Iterable[str], metadata: Any) -> None:
    """Raise InputError unless each row's metadata, as JSON, hold the span of its passage."""
    for name, text, written in zip(ids, texts, metadata, strict=True):
        if not is_span(read_metadata_text(written).get(SPAN), text):
            raise InputError.at(
                source,
                None,
                f"the metadata of {name!r} do not give the span of its passage as {SPAN!r}; encode "
                "again into a new folder",
            )
