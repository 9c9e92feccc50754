"""The small segments of an index, searched as one.

Each addition makes a segment, and every segment adds the same cost to a search. So the live
documents of small segments are joined in memory when the index is opened, sorted by id as in a
segment.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence

import numpy as np

from dupmae_toolkit.index.forward import ForwardStore, check_columns
from dupmae_toolkit.index.layout import FORWARD_FOLDER
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.segment import RowTest, Segment
from dupmae_toolkit.index.words import columns_of, united, with_columns
from dupmae_toolkit.records import Document

#: The most documents that a small segment has. Merging leaves only a few segments in each size
#: tier, so all small segments together hold no more than a few times as many.
SMALL_SEGMENT = 4096


class Joined:
    """Small segments that the legs search as one segment without deleted rows."""

    #: No FAISS index covers all of them, so every vector is compared with the query.
    faiss = None

    def __init__(self, segments: Sequence[Segment], dead: Sequence[np.ndarray | None]) -> None:
        """dead: the rows of each segment that no search may return; None for none."""
        self._segments = list(segments)
        self._starts = np.concatenate([[0], np.cumsum([len(each) for each in segments])])
        names = [name for segment in segments for name in segment.ids]
        alive = np.ones(len(names), dtype=bool)
        for start, rows in zip(self._starts, dead, strict=False):
            if rows is not None:
                alive[start + rows] = False
        places = sorted(np.flatnonzero(alive).tolist(), key=names.__getitem__)
        #: The place of each row in the concatenated rows of all segments.
        self._places = np.array(places, dtype=np.int64)
        self.ids = [names[place] for place in places]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def _united(self) -> tuple[list[str], list[np.ndarray]]:
        return united([segment.words for segment in self._segments])

    @property
    def words(self) -> list[str]:
        """The words of all segments, in the order of their columns."""
        return self._united[0]

    @functools.cached_property
    def columns(self) -> dict[str, int]:
        """The column of each word."""
        return columns_of(self.words, self.forward.impacts)

    @functools.cached_property
    def frequencies(self) -> np.ndarray:
        """For each column of the impacts, how many documents have it."""
        impacts = self.forward.impacts
        return np.bincount(impacts.indices, minlength=impacts.shape[1])

    @functools.cached_property
    def forward(self) -> ForwardStore:
        """Impacts and dense vectors by row, in memory."""
        from scipy.sparse import csr_matrix, vstack

        for segment in self._segments:
            segment.reads(FORWARD_FOLDER)
        stores = [segment.forward for segment in self._segments]
        tokens = stores[0].impacts.shape[1] - len(self._segments[0].words)
        width = tokens + len(self.words)
        moved = []
        for store, places in zip(stores, self._united[1], strict=True):
            check_columns(store.impacts)
            columns = np.concatenate([np.arange(tokens), tokens + places])
            moved.append(with_columns(store.impacts, columns[store.impacts.indices], width))
        impacts = csr_matrix(vstack(moved, format="csr"))
        dense = np.concatenate([store.dense(np.arange(len(store))) for store in stores])
        return ForwardStore(csr_matrix(impacts[self._places]), dense[self._places])

    @property
    def documents(self) -> Joined:
        """Itself: it has the method ``get`` of a segment's documents."""
        return self

    def get(self, rows: np.ndarray) -> list[Document]:
        """The documents of these rows, in the order asked for."""
        places = self._places[rows]
        owners = np.searchsorted(self._starts, places, side="right") - 1
        found: dict[int, Document] = {}
        for owner in np.unique(owners).tolist():
            where = np.flatnonzero(owners == owner)
            documents = self._segments[owner].documents.get(places[where] - self._starts[owner])
            found.update(zip(where.tolist(), documents, strict=True))
        return [found[place] for place in range(len(places))]

    def matching(self, test: RowTest) -> np.ndarray:
        """The rows that pass a test of the documents' fields, bool [n]."""
        return np.concatenate([each.matching(test) for each in self._segments])[self._places]

    def kinds(self) -> list[Mapping[str, Sequence[str]]]:
        """The fields of each segment's documents, with the kinds of their values."""
        return [kinds for each in self._segments for kinds in each.kinds()]


def small_ones(manifest: Manifest, max_postings: int) -> list[int]:
    """The positions of the segments to be joined; none if there are fewer than two.

    max_postings: if they have more in total, Lucene must search them, and cannot join segments.
    """
    found = [n for n, e in enumerate(manifest.segments) if e.count <= SMALL_SEGMENT and e.live]
    postings = sum(manifest.segments[number].postings for number in found)
    return found if len(found) > 1 and postings <= max_postings else []
