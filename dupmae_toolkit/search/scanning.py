"""All of a segment's vectors against a query: products by BLAS, and the best of them.

FAISS's own scan of a Flat index gives the same scores up to rounding; with one query it uses one
core, and with many it spends most of its time on keeping the best (`benchmarks/hybrid.py`).
"""

from __future__ import annotations

import numpy as np

Returned = list[tuple[np.ndarray, np.ndarray]]

_ROWS = 65_536  # rows of a matrix that are looked at together
_WIDE_ROWS = 16_384  # and as float64
_BUFFER = 8192  # numbers in numpy's buffers
#: Scores of several queries with all documents that are in memory at once.
MOST_SCORES = 4_194_304
#: A vector that is looked at by itself, in float64, takes as long as so many products or more.
DEAR = 16


def scan(vectors: np.ndarray, queries: np.ndarray, k: int) -> Returned:
    """The best ``k`` of all rows by inner product in float32, for each query.

    vectors: float32 [n, d]; queries: float32 [q, d]. For each query rows (int32) and scores
    (float32), falling, ties by row; of equal scores at the cut the first rows are kept. How the
    products are rounded may depend on the number of queries; see ``legs.rounding``.
    """
    count, wanted = len(vectors), min(k, len(vectors))
    if len(queries) == 1:
        return [best(products(vectors, queries)[0], wanted)]
    step = max(wanted, MOST_SCORES // max(len(queries), 1), 1)
    found: Returned = [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(queries)
    for start in range(0, count, step):
        scores = products(vectors[start : start + step], queries)
        for number, own in enumerate(scores):
            rows, values = best(own, wanted)
            if start:
                before = found[number]
                rows = np.concatenate([before[0], rows + np.int32(start)])
                values = np.concatenate([before[1], values])
                # Earlier rows stand first, so a tie between blocks is one by row too.
                kept, values = best(values, wanted)
                rows = rows[kept]
            found[number] = rows, values
    return found


def products(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Inner products in float32, [q, n], of float32 [n, d] and [q, d]."""
    if len(queries) == 1:
        # Not a product of matrices: one with a single row runs on one core.
        return (vectors @ np.ascontiguousarray(queries[0]))[None]
    return queries @ vectors.T


def best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the ``k`` largest of ``scores`` [n], int32, and those scores, falling.

    Equal scores stand by place, and of those at the cut the first are kept. NaN counts as larger
    than any number, so that it is seen.
    """
    count = len(scores)
    if not k:
        places = np.empty(0, np.int64)
    elif k < count:
        cut = np.partition(scores, count - k)[count - k]
        places = np.flatnonzero(np.isnan(scores) if cut != cut else ~(scores <= cut))
        if len(places) < k:
            ties = np.flatnonzero(scores == cut)
            places = np.concatenate([places, ties[: k - len(places)]])
        places = places[:k]
    else:
        places = np.arange(count)
    values = scores[places]
    order = np.lexsort((places, -values))
    return places[order].astype(np.int32), values[order]


def best_above_zero(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Of ``best`` those that score more than 0: of lexical scores, whatever shares a term."""
    places, values = best(scores, min(k, len(scores)))
    some = int(np.searchsorted(-values, 0.0))
    return places[:some], values[:some]


def contenders(scores: np.ndarray, k: int, error: float) -> np.ndarray:
    """The places of all ``scores`` [n] whose true ones may be among the ``k`` largest, as float32.

    error: how far a score may be from the true one. A true one that is among the k largest is at
    least the k-th of ``scores`` less the error, and its own score at least that less it once more.
    """
    if k < 1 or k >= len(scores):
        return np.arange(len(scores) if k else 0)
    cut = float(np.partition(scores, len(scores) - k)[len(scores) - k])
    # What is less by a rounding may be the same number as float32, and stand in front by its id.
    off = 2 * error + (abs(cut) + 2 * error) * 2.0**-22 + 2.0**-149
    return np.flatnonzero(~(scores < cut - off))  # NaN counts as large, so that it is seen


def too_many(contenders: int, k: int, count: int) -> bool:
    """Whether so many of ``count`` rows are more work than products with all, and then about k."""
    return contenders > max(2 * k, count // DEAR)


def inner_products(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float64 [n] of float32 [n, d] and [d]; a row's is the same whatever rows stand beside it.

    einsum adds up each row by itself and in one order, up to the length of its buffer, of which
    there is one for each part here; BLAS does neither.
    """
    wide_query = np.asarray(query, dtype=np.float64)
    sums = np.zeros(len(vectors))
    for row in range(0, len(vectors), _WIDE_ROWS):
        wide = np.ascontiguousarray(vectors[row : row + _WIDE_ROWS], dtype=np.float64)
        own = sums[row : row + _WIDE_ROWS]
        for start in range(0, wide.shape[1], _BUFFER):
            part = slice(start, start + _BUFFER)
            own += np.einsum("nd,d->n", wide[:, part], wide_query[part])
    return sums


def largest_norm(vectors: np.ndarray) -> float:
    """The largest Euclidean norm of float32 [n, d], in float64."""
    squares = [0.0]
    for start in range(0, len(vectors), _ROWS):
        wide = vectors[start : start + _ROWS].astype(np.float64)
        squares.append(float(np.einsum("nd,nd->n", wide, wide).max()))
    return float(np.sqrt(np.max(squares)))  # Python's max would let NaN go
