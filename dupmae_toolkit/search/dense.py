"""The dense leg: inner products with the vectors of all segments.

The vectors of a Flat index are scanned here, which is faster than FAISS's own scan. Approximate
indexes are searched by FAISS, and their scores are computed again from the stored vectors.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import DenseIndex
from dupmae_toolkit.search.arithmetic import (
    SAFE_REACH,
    Returned,
    best,
    best_live,
    contenders,
    inner_products,
    largest_norm,
    likely_rounding,
    products,
    rounding,
    scan,
    too_many,
)
from dupmae_toolkit.search.quantized import Quantized, quantized_if_faster
from dupmae_toolkit.search.ranking import Asked, Found, Leg

_NOTHING = (np.empty(0, np.int32), np.empty(0, np.float32))
#: After this many single queries, more are expected, and the quantized copy is made.
_MANY = 4


class DenseShard:
    """A segment's vectors, float32 [n, d]. Safe to use from several threads.

    exhaustive: ``search`` compares the query with every vector; otherwise it may miss documents,
    and ``scan`` is called where proof is wanted. stored: the vectors are available. If they are
    not, only ``search`` may be called, and its scores are final. Both take ``live``, bool [n]: the
    rows that may be returned; None: all.

    Once single queries keep coming, a quantized copy of the vectors is made in the background. It
    decides which vectors are scored in full. This needs torch, and happens only in a process that
    has loaded it, as every encoder does.
    """

    exhaustive = stored = True

    def __init__(self, vectors: np.ndarray, quantize: bool = True) -> None:
        """quantize: whether the copy may be made."""
        self._vectors = np.asarray(vectors, np.float32)
        self.size = len(vectors)
        self._quantized: Quantized | None = None
        self._single = 0
        self._begun = self._prepared = not quantize
        self._lock = threading.Lock()

    def search(self, queries: np.ndarray, k: int, live: np.ndarray | None = None) -> Returned:
        """The best ``k`` for each query [q, d]; see ``arithmetic.scan``."""
        return self.scan(queries, k, live)

    def scan(self, queries: np.ndarray, k: int, live: np.ndarray | None = None) -> Returned:
        """The best ``k`` of all vectors. The quantized copy only excludes some of them early."""
        if len(queries) > 1:
            return scan(self._vectors, queries, k, live)
        wanted = min(k, self.size if live is None else int(live.sum()))
        scores, error = self.all_scores(queries)
        if not error:
            return [best(scores[0], wanted) if live is None else best_live(scores[0], wanted, live)]
        if live is None:
            rows = contenders(scores[0], wanted, error)
        else:
            alive = np.flatnonzero(live)
            rows = alive[contenders(scores[0][alive], wanted, error)]
        if too_many(len(rows), wanted, self.size):
            return scan(self._vectors, queries, k, live)
        places, values = best(products(self._vectors.take(rows, axis=0), queries)[0], wanted)
        return [(rows[places].astype(np.int32), values)]

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        """Inner products with every vector, [q, n], and a bound on their error beyond rounding.

        rough: whether the quantized copy may be used, whose products are off by more than rounding.
        """
        if rough and len(queries) == 1:
            quantized = self._quantized
            if quantized is not None:
                scores, error = quantized.scores(queries[0])
                return scores[None], error
            self._single += 1
            if self._single >= _MANY and not self._begun and "torch" in sys.modules:
                self._begin()
        return products(self._vectors, queries), 0.0

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inner products in float64 with some vectors; none depends on the other rows."""
        return inner_products(self._vectors.take(rows, axis=0), query)

    def largest_norm(self) -> float:
        """The largest Euclidean norm of a vector."""
        return self._largest_norm

    @functools.cached_property
    def _largest_norm(self) -> float:
        return largest_norm(self._vectors)

    def warm(self) -> None:
        """Do now what the first single queries would: find the largest norm, quantize."""
        self.largest_norm()
        self.prepare()

    def _begin(self) -> None:
        self._begun = True
        with contextlib.suppress(RuntimeError):  # no more threads; the search needs none
            threading.Thread(target=self.prepare, name="dupmae-quantize").start()

    def prepare(self) -> None:
        """Make the quantized copy once, if it is faster than the vectors; loads torch."""
        self._begun = True
        with self._lock:
            if not self._prepared:
                self._quantized = quantized_if_faster(self._vectors)
                self._prepared = True


class FaissShard(DenseShard):
    """An approximate FAISS index, and the original vectors if they are stored."""

    exhaustive = False

    def __init__(self, index: DenseIndex, vectors: np.ndarray | None) -> None:
        self.stored = vectors is not None
        super().__init__(np.empty((0, 0)) if vectors is None else vectors)
        self._index = index
        self.size = len(index)

    def search(self, queries: np.ndarray, k: int, live: np.ndarray | None = None) -> Returned:
        """What FAISS finds."""
        return self._index.search(queries, k, live)

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inner products in float64 with some of the stored vectors."""
        if not self.stored:
            raise InputError("this index holds no dense vectors that could be read back")
        return super().score(query, rows)

    def warm(self) -> None:
        """Nothing: single queries are answered by FAISS."""


def dense_shard(index: DenseIndex | None, vectors: np.ndarray | None) -> DenseShard:
    """The shard of a FAISS index and the original vectors; either may be missing, not both."""
    if index is None or index.exact:
        assert vectors is not None
        return DenseShard(vectors)
    return FaissShard(index, vectors)


class DenseLeg(Leg):
    """The dense vectors of all segments. Queries: float32 [q, d]."""

    batch = 64  # a matrix product takes less time per row, the more rows it has
    safe_score = SAFE_REACH

    def ask(self, queries: np.ndarray) -> AskedDense:
        return AskedDense(self, queries)

    @functools.cached_property
    def largest_norm(self) -> float:
        """The largest Euclidean norm of a vector."""
        return max((shard.largest_norm() for shard in self.shards), default=0.0)

    @property
    def gives_all_scores(self) -> bool:
        """Whether ``all_scores`` may be called."""
        return all(shard.exhaustive and shard.stored for shard in self.shards)

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        """Inner products with all documents, float [q, n], and a bound on their error.

        The bound does not include rounding. rough: see ``DenseShard.all_scores``.
        """
        if len(self.shards) == 1:
            return self.shards[0].all_scores(queries, rough)
        found = [shard.all_scores(queries, rough) for shard in self.shards]
        error = max((bound for _, bound in found), default=0.0)
        return np.concatenate([scores for scores, _ in found], axis=1), error

    def error_bounds(
        self, queries: np.ndarray, row: int, scores: np.ndarray
    ) -> tuple[float, float]:
        """‖q‖ times the largest norm of a vector, and the bound on rounding."""
        query = queries[row]
        reach = float(np.linalg.norm(query.astype(np.float64))) * self.largest_norm
        return reach, rounding(len(query), reach)

    def score(self, queries: np.ndarray, row: int, documents: np.ndarray) -> np.ndarray:
        """Inner products in float64 with documents by number; none depends on the others."""
        if len(self.shards) == 1:
            return self.shards[0].score(queries[row], documents)
        scores = np.empty(len(documents))
        for segment, where, rows in self.numbering.by_segment(documents):
            scores[where] = self.shards[segment].score(queries[row], rows)
        return scores


class AskedDense(Asked):
    """A batch of queries for the dense leg, float32 [q, d]."""

    def _find(self, rows: np.ndarray, ask: int, exact: bool) -> list[Found]:
        queries, shards = self._rows_of(rows), self.leg.shards
        returned: list[Returned] = []
        exhausted = []  # for each shard: whether k covers all that it can return
        numbering = self._numbering
        for shard, live, alive in zip(shards, numbering.live, numbering.alive, strict=True):
            scan = exact and shard.stored and not shard.exhaustive
            find = shard.scan if scan else shard.search
            k = min(alive, ask)
            exhausted.append(k == alive and (exact or shard.exhaustive))
            if not k:
                returned.append([_NOTHING] * len(queries))
            else:
                returned.append(find(queries, k) if live is None else find(queries, k, live))
        stored = all(shard.stored for shard in shards)
        norms = np.linalg.norm(queries.astype(np.float64), axis=1)
        found = []
        for query, norm in enumerate(norms):
            documents, scores = self._gather(returned, query)
            bound = likely = -np.inf
            complete = True
            for shard, answers, alive, all_returned in zip(
                shards, returned, numbering.alive, exhausted, strict=True
            ):
                values = answers[query][1]
                if len(values) == alive or (all_returned and shard.stored):
                    continue
                complete = False
                if not (stored and (shard.exhaustive or exact)) or not len(values):
                    bound = likely = np.inf
                    continue
                last, reach = float(values[-1]), norm * shard.largest_norm()
                if not reach < SAFE_REACH:  # a score that overflowed says nothing: search deeper
                    bound, likely = np.inf, max(likely, float(np.finfo(np.float32).max))
                    continue
                bound = max(bound, last + rounding(queries.shape[1], reach))
                likely = max(likely, last + likely_rounding(queries.shape[1], reach))
            if stored:
                scores = self.score(int(rows[query]), documents)
            found.append(Found(documents, scores, bound, likely, complete))
        return found
