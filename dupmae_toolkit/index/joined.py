"""The small segments of an index, searched as one.

An addition makes a segment of its own, and each segment costs a search the same, be it ever so
small. So those that are small are put together in memory when the index is opened: their living
documents in the order of their ids, as a segment holds them.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence

import numpy as np

from dupmae_toolkit.index.forward import ForwardStore
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.segment import FORWARD_FOLDER, Segment
from dupmae_toolkit.records import Document

#: Documents of a segment that is small. Of smaller ones there are a few in each tier of
#: ``index.merging``, so that all together have not many times as many.
SMALL = 4096


class Joined:
    """Small segments as the legs see one segment. No row of it is dead."""

    #: There is no FAISS index of all of them: every vector is looked at.
    faiss = None

    def __init__(self, segments: Sequence[Segment], dead: Sequence[np.ndarray | None]) -> None:
        """dead: of each segment, the rows that no search returns."""
        self._segments = list(segments)
        self._starts = np.concatenate([[0], np.cumsum([len(each) for each in segments])])
        names = [name for segment in segments for name in segment.ids]
        alive = np.ones(len(names), dtype=bool)
        for start, rows in zip(self._starts, dead, strict=False):
            if rows is not None:
                alive[start + rows] = False
        places = sorted(np.flatnonzero(alive).tolist(), key=names.__getitem__)
        #: Where each row is among all rows of the segments, one after the other.
        self._places = np.array(places, dtype=np.int64)
        self.ids = [names[place] for place in places]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def forward(self) -> ForwardStore:
        """Impacts and dense vectors by row, in memory."""
        from scipy.sparse import csr_matrix, vstack

        for segment in self._segments:
            segment.reads(FORWARD_FOLDER)
        stores = [segment.forward for segment in self._segments]
        impacts = csr_matrix(vstack([store.impacts for store in stores], format="csr"))
        dense = np.concatenate([store.dense(np.arange(len(store))) for store in stores])
        return ForwardStore(csr_matrix(impacts[self._places]), dense[self._places])

    @property
    def documents(self) -> Joined:
        """What ``get`` is asked of, as a segment's store is."""
        return self

    def get(self, rows: np.ndarray) -> list[Document]:
        """The documents of these rows, in the order asked for."""
        places = self._places[rows]
        owners = np.searchsorted(self._starts, places, side="right") - 1
        found: dict[int, Document] = {}
        for owner in np.unique(owners).tolist():
            where = np.flatnonzero(owners == owner)
            own = self._segments[owner].documents.get(places[where] - self._starts[owner])
            found.update(zip(where.tolist(), own, strict=True))
        return [found[place] for place in range(len(places))]


def small_ones(manifest: Manifest, max_postings: int) -> list[int]:
    """The segments to be joined, by position; none where that would join nothing.

    max_postings: what they may have together; beyond it Lucene serves them, which cannot join.
    """
    found = [n for n, e in enumerate(manifest.segments) if e.count <= SMALL and e.live]
    weights = sum(manifest.segments[number].weights for number in found)
    return found if len(found) > 1 and weights <= max_postings else []
