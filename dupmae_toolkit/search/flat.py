"""Vectors that are all compared with a query, as the dense leg's shards share it."""

from __future__ import annotations

import contextlib
import functools
import sys
import threading

import numpy as np

from dupmae_toolkit.search.coarse import Coarse, coarse_if_faster
from dupmae_toolkit.search.scanning import (
    Returned,
    best,
    contenders,
    inner_products,
    largest_norm,
    products,
    scan,
    too_many,
)

#: After so many queries that came alone, more are expected.
_MANY = 4


class Flat:
    """float32 [n, d]. Methods are those of ``legs.DenseShard``, and may be called side by side.

    Where queries keep coming one by one, in a process that has torch loaded, as an encoder has, a
    copy of the vectors in bytes is made in the background, and looked at before the vectors.
    """

    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors
        self._coarse: Coarse | None = None
        self._single = 0
        self._begun = self._prepared = False
        self._lock = threading.Lock()

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        """See ``scanning.scan``; the copy only says which vectors need not be looked at."""
        if len(queries) > 1:
            return scan(self._vectors, queries, k)
        wanted = min(k, len(self._vectors))
        scores, error = self.all_scores(queries)
        if not error:
            return [best(scores[0], wanted)]
        rows = contenders(scores[0], wanted, error)
        if too_many(len(rows), wanted, len(self._vectors)):
            return scan(self._vectors, queries, k)
        places, values = best(products(self._vectors.take(rows, axis=0), queries)[0], wanted)
        return [(rows[places].astype(np.int32), values)]

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        if rough and len(queries) == 1:
            coarse = self._coarse
            if coarse is not None:
                scores, error = coarse.scores(queries[0])
                return scores[None], error
            self._single += 1
            if self._single >= _MANY and not self._begun and "torch" in sys.modules:
                self._begin()
        return products(self._vectors, queries), 0.0

    def _begin(self) -> None:
        self._begun = True
        with contextlib.suppress(RuntimeError):  # no more threads; the search needs none
            threading.Thread(target=self.prepare, name="dupmae-coarse").start()

    def prepare(self) -> None:
        """Make the copy, once, where it is of use; loads torch."""
        self._begun = True
        with self._lock:
            if not self._prepared:
                self._coarse = coarse_if_faster(self._vectors)
                self._prepared = True

    def largest_norm(self) -> float:
        return self._largest_norm

    @functools.cached_property
    def _largest_norm(self) -> float:
        return largest_norm(self._vectors)

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return inner_products(self._vectors.take(rows, axis=0), query)
