"""Numbers the documents of all segments consecutively, and sorts them by score and id."""

from __future__ import annotations

import copy
from bisect import bisect_left
from collections.abc import Iterator, Sequence

import numpy as np


class Numbering:
    """Documents 0 … n − 1 over all segments: row r of segment s is ``offsets[s] + r``.

    ids: for each segment, the ids of its rows, ascending. dead: for each segment, the rows that no
    search returns, or None. An id may occur in several segments if it is dead in all but one.
    """

    def __init__(
        self, ids: Sequence[Sequence[str]], dead: Sequence[np.ndarray | None] | None = None
    ) -> None:
        self._ids = [np.array(segment, dtype=object) for segment in ids]
        self.offsets = np.concatenate([[0], np.cumsum([len(segment) for segment in ids])])
        self._places = self._place()
        rows = [None] * len(self._ids) if dead is None else dead
        #: For each segment, bool [rows], false for dead ones; None if there are none.
        self.live = [_mask(len(own), gone) for own, gone in zip(self._ids, rows, strict=True)]
        self._count()

    def _count(self) -> None:
        counts = zip(self._ids, self.live, strict=True)
        #: For each segment, how many documents a search can return.
        self.alive = [len(ids) if live is None else int(live.sum()) for ids, live in counts]
        #: For all segments together.
        self.searchable = sum(self.alive)

    def within(self, masks: Sequence[np.ndarray]) -> Numbering:
        """The same numbers, where a search returns only what these masks select.

        masks: for each segment, bool [rows].
        """
        twin = copy.copy(self)
        twin.live = [
            mask if live is None else live & mask
            for live, mask in zip(self.live, masks, strict=True)
        ]
        twin._count()
        return twin

    def numbers(self) -> np.ndarray | None:
        """The documents that a search can return, int64, ascending; None if it can return all."""
        if all(live is None for live in self.live):
            return None
        return np.concatenate(
            [
                start + (np.arange(len(ids)) if live is None else np.flatnonzero(live))
                for start, ids, live in zip(self.offsets, self._ids, self.live, strict=False)
            ]
        )

    def _place(self) -> np.ndarray | None:
        """Each document's place in the order of all ids; None if the places are the numbers."""
        if len(self._ids) == 1:
            ids = self._ids[0]
            if all(ids[i] < ids[i + 1] for i in range(len(ids) - 1)):
                return None
        everything = [name for segment in self._ids for name in segment]
        places = np.empty(len(everything), dtype=np.int64)
        places[sorted(range(len(everything)), key=everything.__getitem__)] = np.arange(
            len(everything)
        )
        return places

    def ids(self, documents: np.ndarray) -> list[str]:
        """The ids of documents by number."""
        if len(self._ids) == 1:
            return self._ids[0][documents].tolist()
        names = np.empty(len(documents), dtype=object)
        for segment, where, rows in self.by_segment(documents):
            names[where] = self._ids[segment][rows]
        return names.tolist()

    def number(self, name: str) -> int | None:
        """The number of the living document with this id, or None."""
        for segment, ids in enumerate(self._ids):
            row = bisect_left(ids, name)  # a segment's ids are in order
            live = self.live[segment]
            if row < len(ids) and ids[row] == name and (live is None or live[row]):
                return int(self.offsets[segment]) + row
        return None

    def order(self, documents: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """The positions sorted by score as float32, descending, then by id, ascending."""
        places = documents if self._places is None else self._places[documents]
        return np.lexsort((places, -scores.astype(np.float32)))

    def by_segment(self, documents: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
        """For each segment that has some: (segment, positions in ``documents``, its rows)."""
        if len(self._ids) == 1:
            if len(documents):
                yield 0, np.arange(len(documents)), documents
            return
        segments = np.searchsorted(self.offsets, documents, side="right") - 1
        for segment in np.unique(segments):
            where = np.flatnonzero(segments == segment)
            yield int(segment), where, documents[where] - self.offsets[segment]


def _mask(count: int, dead: np.ndarray | None) -> np.ndarray | None:
    """bool [count], false for the dead rows; None if there are none."""
    if dead is None or not len(dead):
        return None
    live = np.ones(count, dtype=bool)
    live[dead] = False
    return live
