"""A quantized copy of all vectors, int8, whose scores have a bound on their error.

One query on a Flat index reads every vector once, so its time is that of reading memory. An int8
copy is a quarter as large. Its scores only choose which documents are then scored in full. The
bound (`int8.py`), from the largest norm and the largest error of the vectors, ensures that results
and scores stay the same.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import numpy as np

from dupmae_toolkit.int8 import LIMIT, Int8Bound
from dupmae_toolkit.search.arithmetic import contenders, products, too_many

#: Fewer rows gain nothing; a copy of more bytes takes too much memory.
MIN_ROWS = 4096
MAX_BYTES = 2**30
_ROWS = 16_384  # rows that are quantized together
#: Covers the float64 rounding of norms and scales: one for each of up to 2^16 numbers, and a few.
_SOME_ROUNDINGS = 1 + 2.0**-36
_TRIALS = 5
_USUAL_K = 10  # documents that a search usually returns


class Quantized:
    """A quantized copy of vectors. Safe to use from several threads.

    largest_error: the largest Euclidean norm of a vector minus its copy. largest_norm: that of a
    vector.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        """vectors: float32 [n, d]; the copy takes n · d bytes.

        Raises AttributeError if this torch has no product of bytes, RuntimeError if it does not
        work for these vectors, and ValueError for vectors that are not finite.
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
            codes = np.rint(part / self.scale)
            rows[start : start + _ROWS] = codes
            norms.append(_longest(part))
            errors.append(_longest(part - codes * self.scale))
        self.largest_error = max(errors)
        self.largest_norm = max(norms)
        self._columns = torch.from_numpy(rows).t()
        self._product: Callable[..., torch.Tensor] = torch._int_mm
        self._from_numpy = torch.from_numpy
        self._check(rows)

    def _check(self, rows: np.ndarray) -> None:
        """Raise RuntimeError if torch._int_mm miscomputes products with a single query."""
        from dupmae_toolkit.processor import multiplies_bytes_right

        if not multiplies_bytes_right(self._from_numpy(rows), at_once=1):
            raise RuntimeError("torch._int_mm miscomputes")

    def scores(self, query: np.ndarray) -> tuple[np.ndarray, float]:
        """Approximate inner products, float64 [n], and a bound on their error.

        query: float32 [d], finite.
        """
        wide = query.astype(np.float64)
        step = float(np.abs(wide).max(initial=0.0)) / LIMIT or 1.0
        codes = np.rint(wide / step)
        reconstructed = codes * step
        lost = wide - reconstructed
        length = math.sqrt(reconstructed @ reconstructed)
        bound = Int8Bound(length, math.sqrt(lost @ lost))
        off = bound.off(self.largest_norm, self.largest_error)
        # The sums of whole numbers are exact; scaling them takes some roundings.
        off += length * (self.largest_norm + self.largest_error) * 2.0**-50
        scores = self._products(codes.astype(np.int8)) * (step * self.scale)
        return scores, off * _SOME_ROUNDINGS

    def _products(self, query: np.ndarray) -> np.ndarray:
        """int32 [n] of int8 [d], exact below a width of 133,000."""
        # reshape, not [None]: torch believes the stride of 0 that numpy gives to a new axis.
        row = self._from_numpy(query).reshape(1, -1)
        found: np.ndarray = self._product(row, self._columns)[0].numpy()
        return found


def quantized_if_faster(vectors: np.ndarray) -> Quantized | None:
    """The quantized copy if it can be made and is faster than the vectors, which is measured.

    None if not, or if it leaves too many documents to be scored in full. It does if one dimension,
    or one vector, is much larger than the others. A search returns the same with and without it.
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
    found = [contenders(scores, _USUAL_K, error) for scores, error in tried]
    if too_many(sorted(map(len, found))[len(found) // 2], _USUAL_K, count):
        return None
    query = np.ascontiguousarray(vectors[0])
    # Not in turns: after a call, each library's threads spin for a while and slow the other's.
    copy_s = min(_seconds(lambda: quantized.scores(query)) for _ in range(_TRIALS))
    vectors_s = min(_seconds(lambda: products(vectors, query[None])) for _ in range(_TRIALS))
    return quantized if copy_s < vectors_s else None


def _seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def _longest(rows: np.ndarray) -> float:
    """The largest Euclidean norm, float64; NaN for rows that are not finite."""
    return float(np.sqrt(np.einsum("nd,nd->n", rows, rows).max(initial=0.0)))
