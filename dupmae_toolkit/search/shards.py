"""Segments as the legs see them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.index.segment import FORWARD_FOLDER, Segment
from dupmae_toolkit.search.legs import Returned, Terms
from dupmae_toolkit.search.postings import MOST_POSTINGS, Postings
from dupmae_toolkit.search.scanning import inner_products, largest_norm, products, scan

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class SegmentDense:
    """A segment's FAISS index, with its vectors for exact scores.

    Where FAISS would compare the query with every vector, that is done here, faster.
    """

    def __init__(self, segment: Segment) -> None:
        self._faiss = segment.faiss
        self._forward = segment.forward
        self.size = len(self._faiss)
        self.exhaustive = self._faiss.exact
        self.stored = self._forward.dense_matrix is not None

    def search(self, queries: np.ndarray, k: int) -> Returned:
        return self.scan(queries, k) if self.exhaustive else self._faiss.search(queries, k)

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        vectors = self._forward.dense_matrix
        assert vectors is not None
        return scan(vectors, queries, k)

    def all_scores(self, queries: np.ndarray) -> np.ndarray:
        vectors = self._forward.dense_matrix
        assert vectors is not None
        return products(vectors, queries)

    def largest_norm(self) -> float:
        return self._largest_norm

    @functools.cached_property
    def _largest_norm(self) -> float:
        vectors = self._forward.dense_matrix
        assert vectors is not None
        return largest_norm(vectors)

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return inner_products(self._forward.dense(rows), query)


class SegmentLexical:
    """A segment's impacts, searched in memory or by Lucene; exact scores from the forward store."""

    stored = True

    def __init__(self, segment: Segment, in_memory: bool) -> None:
        """in_memory: hold the postings, and leave Lucene and Java alone."""
        if in_memory:
            segment.reads(FORWARD_FOLDER)
        self._forward = segment.forward
        self._postings = Postings(segment.forward.impacts) if in_memory else None
        self._lucene = None if in_memory else segment.lucene
        self.exact = self.quick = in_memory
        self.size = len(segment.forward)

    def search(self, queries: csr_matrix, k: int, keep: list[np.ndarray] | None = None) -> Returned:
        if self._postings is not None:
            return self._postings.search(queries, k, keep)
        assert self._lucene is not None
        return self._lucene.search(queries, k)

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        assert self._postings is not None
        return self._postings.all_scores(queries)

    def score(self, query: Terms, rows: np.ndarray) -> np.ndarray:
        return self._forward.lexical_scores(*query, rows)


def lexical_shards(segments: Sequence[Segment], most: int = MOST_POSTINGS) -> list[SegmentLexical]:
    """The segments; the smaller ones in memory, as many as have ``most`` postings together."""
    sizes = [segment.forward.impacts.nnz for segment in segments]
    held: set[int] = set()
    for number in sorted(range(len(sizes)), key=sizes.__getitem__):
        most -= sizes[number]
        if most < 0:
            break
        held.add(number)
    return [SegmentLexical(segment, number in held) for number, segment in enumerate(segments)]
