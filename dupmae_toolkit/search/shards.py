"""Segments as the legs see them."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.search.legs import Returned

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_ROWS = 65_536  # rows of a matrix that are looked at together


class SegmentDense:
    """A segment's FAISS index, with its vectors for exact scores."""

    def __init__(self, segment: Segment) -> None:
        self._faiss = segment.faiss
        self._forward = segment.forward
        self.size = len(self._faiss)
        self.exhaustive = self._faiss.exact
        self.stored = self._forward.dense_matrix is not None

    def search(self, queries: np.ndarray, k: int) -> Returned:
        return self._faiss.search(queries, k)

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        vectors = self._forward.dense_matrix
        assert vectors is not None
        return scan(vectors, queries, k)

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
    """A segment's Lucene index, with its impacts for exact scores."""

    stored = True

    def __init__(self, segment: Segment) -> None:
        self._lucene = segment.lucene
        self._impacts = plain(segment.forward.impacts)
        self.size = len(self._lucene)

    def search(self, queries: csr_matrix, k: int) -> Returned:
        return self._lucene.search(queries, k)

    def score(self, query: csr_matrix, rows: np.ndarray) -> np.ndarray:
        weights = np.zeros(self._impacts.shape[1], np.float64)
        weights[query.indices] = query.data
        # Any order of adding up gives the same: the sums of rounded weights are exact in float64.
        return self._impacts[rows] @ weights


def plain(matrix: csr_matrix) -> csr_matrix:
    """The same matrix over plain views of its mapped arrays, whose slicing costs less."""
    from scipy.sparse import csr_matrix

    result = csr_matrix(matrix.shape, dtype=matrix.dtype)
    result.indptr, result.indices, result.data = map(
        np.asarray, (matrix.indptr, matrix.indices, matrix.data)
    )
    result.has_sorted_indices = result.has_canonical_format = True
    return result


def inner_products(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float64 [n] of float32 [n, d] and [d]; a row's is the same whatever rows stand beside it.

    einsum adds up each row by itself and in one order; BLAS does neither.
    """
    wide = np.ascontiguousarray(vectors, dtype=np.float64)
    return np.einsum("nd,d->n", wide, np.asarray(query, dtype=np.float64))


def largest_norm(vectors: np.ndarray) -> float:
    """The largest Euclidean norm of float32 [n, d], in float64."""
    squares = [0.0]
    for start in range(0, len(vectors), _ROWS):
        wide = vectors[start : start + _ROWS].astype(np.float64)
        squares.append(float(np.einsum("nd,nd->n", wide, wide).max()))
    return float(np.sqrt(max(squares)))


def scan(vectors: np.ndarray, queries: np.ndarray, k: int) -> Returned:
    """The best ``k`` of all rows by inner product in float32, for each query."""
    import faiss

    scores, rows = faiss.knn(
        np.ascontiguousarray(queries), vectors, k, metric=faiss.METRIC_INNER_PRODUCT
    )
    # Where FAISS has nothing to answer it answers -1.
    return [(r[r >= 0].astype(np.int32), s[r >= 0]) for r, s in zip(rows, scores, strict=True)]
