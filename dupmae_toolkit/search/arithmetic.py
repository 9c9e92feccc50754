"""Inner products, the best of many scores, and bounds on the rounding of float32 products.

``scan`` compares queries with every vector, by BLAS. FAISS's own scan of a Flat index gives the
same scores up to rounding, but with one query it uses one core, and with many it spends most of its
time on selecting the best (`benchmarks/hybrid.py`).
"""

from __future__ import annotations

import numpy as np

Returned = list[tuple[np.ndarray, np.ndarray]]

_NORM_ROWS = 65_536  # rows whose norms are computed together
_PRODUCT_ROWS = 16_384  # rows whose float64 products are computed together
_BUFFER = 8192  # numbers in numpy's buffers
#: How many scores, of several queries with all documents, are in memory at once.
MAX_SCORES = 4_194_304
#: One exact product in float64 takes at least as long as this many float32 products.
EXACT_COST = 16
#: Of how many scores the largest is looked at first, to find the k-th largest of all.
_GROUPS = (64, 16)
#: The unit roundoff of float32.
UNIT = 2.0**-24
#: ‖x‖‖y‖ below which no partial sum of an inner product leaves the range of float32.
SAFE_REACH = 2.0**127


def scan(
    vectors: np.ndarray, queries: np.ndarray, k: int, live: np.ndarray | None = None
) -> Returned:
    """The best ``k`` of all rows by inner product in float32, for each query.

    vectors: float32 [n, d]; queries: float32 [q, d]. live: bool [n], the rows to return; None: all.
    Returns, for each query, rows (int32) and scores (float32), descending, ties by row; of equal
    scores at the cut the first rows are kept. How the products are rounded may depend on the number
    of queries; see ``rounding``.
    """
    count = len(vectors)
    wanted = min(k, count if live is None else int(live.sum()))
    if len(queries) == 1:
        scores = products(vectors, queries)[0]
        return [best(scores, wanted) if live is None else best_live(scores, wanted, live)]
    step = max(wanted, MAX_SCORES // max(len(queries), 1), 1)
    found: Returned = [(np.empty(0, np.int32), np.empty(0, np.float32))] * len(queries)
    for start in range(0, count, step):
        block = slice(start, start + step)
        scores = products(vectors[block], queries)
        own = None if live is None else live[block]
        for number, query_scores in enumerate(scores):
            rows, values = (
                best(query_scores, wanted) if own is None else best_live(query_scores, wanted, own)
            )
            if start:
                before = found[number]
                rows = np.concatenate([before[0], rows + np.int32(start)])
                values = np.concatenate([before[1], values])
                # Earlier rows come first, so ties between blocks are broken by row too.
                kept, values = best(values, wanted)
                rows = rows[kept]
            found[number] = rows, values
    return found


def products(vectors: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """Inner products in float32, [q, n], of float32 [n, d] and [q, d]."""
    if len(queries) == 1:
        # Matrix times vector: BLAS uses one core for a matrix product with a single row.
        return (vectors @ np.ascontiguousarray(queries[0]))[None]
    return queries @ vectors.T


def kth_largest(scores: np.ndarray, k: int) -> np.floating:
    """The k-th largest of ``scores`` [n], 1 ≤ k ≤ n; NaN counts as larger than any number.

    At least k scores are no smaller than the k-th largest of the maxima of n / g groups of g. So
    only scores from there on are partitioned, little more than k of them, which takes a tenth of
    the time of partitioning all.
    """
    for group in _GROUPS:
        groups = len(scores) // group
        if 2 * k <= groups:
            tops = scores[: group * groups].reshape(group, groups).max(axis=0)
            least = np.partition(tops, groups - k)[groups - k]
            scores = scores[~(scores < least)]  # NaN stays
            break
    return np.partition(scores, len(scores) - k)[len(scores) - k]


def best(scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The places of the ``k`` largest of ``scores`` [n], int32, and those scores, descending.

    Equal scores are ordered by place, and of those at the cut the first are kept. NaN counts as
    larger than any number, so that it is noticed.
    """
    count = len(scores)
    if not k:
        places = np.empty(0, np.int64)
    elif k < count:
        cut = kth_largest(scores, k)
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


def best_live(scores: np.ndarray, k: int, live: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """``best`` of the places where ``live`` is true."""
    alive = np.flatnonzero(live)
    places, values = best(scores[alive], k)
    return alive[places].astype(np.int32), values


def best_above_zero(
    scores: np.ndarray, k: int, live: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """``best``, or ``best_live``, without scores of 0: of documents without a query's term."""
    k = min(k, len(scores))
    places, values = best(scores, k) if live is None else best_live(scores, k, live)
    positive = int(np.searchsorted(-values, 0.0))
    return places[:positive], values[:positive]


def contenders(scores: np.ndarray, k: int, error: float) -> np.ndarray:
    """The places of all ``scores`` [n] whose true values may be among the ``k`` largest as float32.

    error: how far a score may be from its true value. A true value among the k largest is at least
    the k-th of ``scores`` less the error, so its score is at least the k-th less twice the error.
    """
    if k < 1 or k >= len(scores):
        return np.arange(len(scores) if k else 0)
    cut = float(kth_largest(scores, k))
    # A value that is smaller by a rounding may be equal as float32, and then come first by its id.
    off = 2 * error + (abs(cut) + 2 * error) * 2.0**-22 + 2.0**-149
    return np.flatnonzero(~(scores < cut - off))  # NaN counts as large: it is noticed


def too_many(contenders: int, k: int, count: int) -> bool:
    """Whether scoring this many of ``count`` rows exactly takes longer than another scan."""
    return contenders > max(2 * k, count // EXACT_COST)


def inner_products(vectors: np.ndarray, query: np.ndarray) -> np.ndarray:
    """float64 [n] of float32 [n, d] and [d]; a row's value does not depend on the rows beside it.

    einsum sums each row separately and always in the same order, as long as the row fits into its
    buffer; so rows are cut into parts of that length. BLAS promises neither.
    """
    wide_query = np.asarray(query, dtype=np.float64)
    sums = np.zeros(len(vectors))
    for row in range(0, len(vectors), _PRODUCT_ROWS):
        wide = np.ascontiguousarray(vectors[row : row + _PRODUCT_ROWS], dtype=np.float64)
        block = sums[row : row + _PRODUCT_ROWS]
        for start in range(0, wide.shape[1], _BUFFER):
            part = slice(start, start + _BUFFER)
            block += np.einsum("nd,d->n", wide[:, part], wide_query[part])
    return sums


def largest_norm(vectors: np.ndarray) -> float:
    """The largest Euclidean norm of float32 [n, d], in float64."""
    squares = [0.0]
    for start in range(0, len(vectors), _NORM_ROWS):
        wide = vectors[start : start + _NORM_ROWS].astype(np.float64)
        squares.append(float(np.einsum("nd,nd->n", wide, wide).max()))
    return float(np.sqrt(np.max(squares)))  # Python's max may drop NaN


def rounding(dimensions: int, reach: float) -> float:
    """How far a float32 inner product can be from the true one; ``reach`` is ‖x‖‖y‖.

    |fl(x·y) − x·y| ≤ γ Σ|xᵢyᵢ| ≤ γ ‖x‖‖y‖ with γ = nu / (1 − nu), u = 2⁻²⁴, in whatever order it is
    summed (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Adding 2 to
    n covers our own float64 sums and norms; the last summand covers products that underflow.
    """
    terms = (dimensions + 2) * UNIT
    return terms / (1 - terms) * reach + dimensions * 2.0**-125


def likely_rounding(dimensions: int, reach: float) -> float:
    """How far it usually is: errors of random sign grow with the square root of their number."""
    return 2 * float(np.sqrt(dimensions)) * UNIT * reach
