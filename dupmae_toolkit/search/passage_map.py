"""Which document each row of an index of passages belongs to."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.collection.passages import split_row_id

if TYPE_CHECKING:
    from dupmae_toolkit.search.numbering import Numbering


class PassageMap:
    """The documents that the rows of an index belong to. Documents are numbered in id order.

    names: the ids of all documents, ascending. documents: of each row, int32 [rows].
    """

    def __init__(self, ids: Iterable[Sequence[str]], numbering: Numbering) -> None:
        """ids: for each part of the index, those of its rows. Deleted rows belong to no document
        that can be found."""
        rows = [split_row_id(name) for part in ids for name in part]
        names = sorted({name for name, _ in rows})
        places = dict(zip(names, range(len(names)), strict=True))
        self.names = np.array(names, dtype=object)
        self._places = places
        self.documents = np.fromiter((places[name] for name, _ in rows), np.int32, len(rows))
        numbers = np.fromiter((number for _, number in rows), np.int64, len(rows))
        living = numbering.numbers()
        living = np.arange(len(rows)) if living is None else living
        # All rows of a document lie together here, in the order of the text.
        order = np.lexsort((numbers[living], self.documents[living]))
        self._rows = living[order]
        self._starts = np.searchsorted(
            self.documents[self._rows], np.arange(len(names) + 1), side="left"
        )
        #: How many documents can be found.
        self.count = self.count_of(living)

    def count_of(self, rows: np.ndarray | None) -> int:
        """How many documents these rows belong to; None: the number of all."""
        return self.count if rows is None else len(np.unique(self.documents[rows]))

    def ids(self, rows: np.ndarray) -> list[str]:
        """The ids of the documents of rows, by number."""
        found: list[str] = self.names[self.documents[rows]].tolist()
        return found

    def rows(self, name: str) -> np.ndarray:
        """The rows of the document with this id, in the order of the text; none if it is gone."""
        place = self._places.get(name)
        return np.zeros(0, np.int64) if place is None else self.rows_of(np.array([place]))

    def rows_of(self, documents: np.ndarray) -> np.ndarray:
        """All rows of documents, one document's after the other's."""
        starts, ends = self._starts[documents], self._starts[documents + 1]
        if not len(documents):
            return np.zeros(0, np.int64)
        return np.concatenate([self._rows[a:b] for a, b in zip(starts, ends, strict=True)])

    def first_rows(self) -> Iterable[tuple[int, np.ndarray]]:
        """Every document that can be found, by its number, with its rows."""
        for place, (start, end) in enumerate(zip(self._starts, self._starts[1:], strict=False)):
            if end > start:
                yield place, self._rows[start:end]
