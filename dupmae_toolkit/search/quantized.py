"""A first look at all vectors in one byte a number, with a bound on how far off its scores may be.

One query against a Flat index reads every vector once, and takes as long as memory takes to
deliver them. A copy of whole numbers from −127 to 127 is a quarter of the bytes. The bound
(`int8.py`) takes the largest error and the largest norm of the copy's rows. So the copy decides
which documents are scored in full, and never which are returned, or with what score.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from dupmae_toolkit.int8 import LIMIT, Int8Bound
from dupmae_toolkit.search.arithmetic import contenders, products, too_many

#: With fewer rows there is nothing to gain; a copy of more bytes takes too much memory.
MIN_ROWS = 4096
MAX_BYTES = 2**30
_ROWS = 16_384  # rows that are turned into bytes together
#: Float64 arithmetic on norms and scales, relative: a rounding for each of 2^16 numbers, and some.
_SOME_ROUNDINGS = 1 + 2.0**-36
_TRIALS = 5
_USUAL = 10  # documents that a search returns


class Quantized:
    """Vectors as bytes. Searching from several threads at once is safe.

    largest_error: the largest Euclidean norm of a vector less its copy. largest_norm: of a vector.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        """vectors: float32 [n, d]; a copy of n · d bytes is made, and kept.

        Raises RuntimeError where this torch has no product of bytes, and ValueError for vectors
        that are not finite.
        """
        import torch

        count, width = vectors.shape
        largest = max(float(vectors.max(initial=0.0)), -float(vectors.min(initial=0.0)))
        if not np.isfinite(largest):
            raise ValueError("vectors that are not finite")
        self.scale = largest / LIMIT or 1.0
        rows = np.empty((count, width), np.int8)
        errors, norms = [0.0], [0.0]
        for start in range(0, count, _ROWS):
            part = vectors[start : start + _ROWS].astype(np.float64)
            whole = np.rint(part / self.scale)
            rows[start : start + _ROWS] = whole
            norms.append(_longest(part))
            errors.append(_longest(part - whole * self.scale))
        self.largest_error = max(errors)
        self.largest_norm = max(norms)
        self._columns = torch.from_numpy(rows).t()
        self._product: Callable[..., torch.Tensor] = torch._int_mm
        self._from_numpy = torch.from_numpy
        self._check(rows)

    def _check(self, rows: np.ndarray) -> None:
        """Raise RuntimeError if torch._int_mm miscomputes the products of a single query."""
        from dupmae_toolkit.processor import multiplies_bytes_right

        if not multiplies_bytes_right(self._from_numpy(rows), at_once=1):
            raise RuntimeError("torch._int_mm miscomputes")

    def scores(self, query: np.ndarray) -> tuple[np.ndarray, float]:
        """Approximate inner products, float64 [n], and by how much they can be off at most.

        query: float32 [d], finite.
        """
        wide = query.astype(np.float64)
        step = float(np.abs(wide).max(initial=0.0)) / LIMIT or 1.0
        whole = np.rint(wide / step)
        reconstructed = whole * step
        lost = wide - reconstructed
        length = math.sqrt(reconstructed @ reconstructed)
        bound = Int8Bound(length, math.sqrt(lost @ lost))
        off = bound.off(self.largest_norm, self.largest_error)
        # The sums themselves are whole numbers, exact; scaling them takes some roundings.
        off += length * (self.largest_norm + self.largest_error) * 2.0**-50
        scores = self._products(whole.astype(np.int8)) * (step * self.scale)
        return scores, off * _SOME_ROUNDINGS

    def _products(self, query: np.ndarray) -> np.ndarray:
        """int32 [n] of int8 [d], exact below a width of 133,000."""
        # reshape, not [None]: torch believes the stride of 0 that numpy gives to a new axis.
        row = self._from_numpy(query).reshape(1, -1)
        found: np.ndarray = self._product(row, self._columns)[0].numpy()
        return found


def quantized_if_faster(vectors: np.ndarray) -> Quantized | None:
    """The copy, where there is one and it answers sooner than the vectors; found out by trying.

    None too where it leaves too many documents to be scored in full, as it does where one of the
    dimensions, or one of the vectors, is much larger than the others. A search returns the same
    either way.
    """
    count, width = vectors.shape
    if count < MIN_ROWS or vectors.size > MAX_BYTES or width > 2**16:
        return None
    try:
        quantized = Quantized(vectors)
    except (ImportError, AttributeError, RuntimeError, ValueError, MemoryError):
        return None
    samples = vectors[:: -(-count // _TRIALS)]
    tried = [quantized.scores(row) for row in samples]
    found = [contenders(scores, _USUAL, error) for scores, error in tried]
    if too_many(sorted(map(len, found))[len(found) // 2], _USUAL, count):
        return None
    query = np.ascontiguousarray(vectors[0])
    # One after the other, not in turns: each library's threads wait for work for a while.
    ours = min(_seconds(lambda: quantized.scores(query)) for _ in range(_TRIALS))
    theirs = min(_seconds(lambda: products(vectors, query[None])) for _ in range(_TRIALS))
    return quantized if ours < theirs else None


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _longest(rows: np.ndarray) -> float:
    """The largest Euclidean norm, float64; NaN for rows that are not finite."""
    return float(np.sqrt(np.einsum("nd,nd->n", rows, rows).max(initial=0.0)))
