"""The two legs: the best documents by one of the two vectors, in an order that is always the same.

FAISS adds up in float32, in an order that depends on the batch, and both engines cut a list of
equal scores where they please. So a leg asks for some more than it needs, computes the scores again
exactly, sorts by score and id, and asks on for those queries whose cut is not yet clear: those
where a document that was not returned might still belong in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from dupmae_toolkit.search.numbering import Numbering

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: What a leg asks for beyond the depth.
SLACK = 16
_UNIT = 2.0**-24  # the unit roundoff of float32

#: Rows and scores of each query, as an engine returns them: int [n] and float32 [n], best first.
Returned = list[tuple[np.ndarray, np.ndarray]]


@dataclass(slots=True)
class LegList:
    """One leg's answer to one query.

    documents: int64 numbers, by score as float32 descending, then by id. scores: float64, exact.
    bound: no document that is not listed scores more; infinite where nothing is known.
    complete: every document that the leg can return is listed. proven: no document that was not
    looked at belongs in the list.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    complete: bool
    proven: bool


@dataclass(slots=True)
class _Found:
    """What one query's engines returned so far: all candidates and what is known of the others."""

    documents: np.ndarray
    scores: np.ndarray
    bound: float  # holds whatever the rounding
    likely: float  # holds for rounding as it happens; for cuts that need no proof
    complete: bool


class Leg:
    """Asks until the first ``depth`` of each query are settled. Subclasses know how to ask."""

    def __init__(self, numbering: Numbering) -> None:
        self._numbering = numbering

    def search(self, queries: Any, depth: int, exact: bool = False) -> list[LegList]:
        """The first ``depth`` documents of each query.

        exact: the order and the cut are proven, not just safe from rounding as it happens.
        """
        lists: list[LegList | None] = [None] * queries.shape[0]
        pending = np.arange(len(lists))
        ask = depth + SLACK
        while len(pending):
            found = self._ask(queries[pending], ask, exact)
            unsettled = []
            for number, candidates in zip(pending, found, strict=True):
                lists[number] = self._settle(candidates, depth, exact)
                if lists[number] is None:
                    unsettled.append(number)
            pending = np.array(unsettled, dtype=np.int64)
            ask *= 4
        return [settled for settled in lists if settled is not None]

    def _settle(self, found: _Found, depth: int, exact: bool) -> LegList | None:
        order = self._numbering.order(found.documents, found.scores)
        documents, scores = found.documents[order], found.scores[order]
        proven = found.complete or above(scores, depth, found.bound)
        if (
            not proven
            and np.isfinite(found.likely)
            and (exact or not above(scores, depth, found.likely))
        ):
            return None
        if len(documents) <= depth:
            return LegList(documents, scores, found.bound, found.complete, proven)
        bound = max(found.bound, float(scores[depth:].max()))
        return LegList(documents[:depth], scores[:depth], bound, False, proven)

    def _ask(self, queries: Any, ask: int, exact: bool) -> list[_Found]:
        raise NotImplementedError

    def _gather(self, returned: Sequence[Returned], query: int) -> tuple[np.ndarray, np.ndarray]:
        """One query's live documents by number, and their scores, from every segment's answer."""
        documents, scores = [], []
        for offset, live, answers in zip(
            self._numbering.offsets[:-1], self._numbering.live, returned, strict=True
        ):
            rows, values = answers[query]
            if live is not None:
                values, rows = values[live[rows]], rows[live[rows]]
            documents.append(rows.astype(np.int64) + offset)
            scores.append(values.astype(np.float64))
        return np.concatenate(documents), np.concatenate(scores)


class DenseShard(Protocol):
    """What the dense leg needs of a segment.

    exhaustive: ``search`` compares the query with every vector, in float32; otherwise it may miss
    documents, and ``scan`` is asked where proof is wanted. stored: ``scan``, ``largest_norm`` and
    ``score`` may be called; otherwise the engine's scores must do.
    """

    size: int
    exhaustive: bool
    stored: bool

    def search(self, queries: np.ndarray, k: int) -> Returned: ...

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        """Like ``search`` and exhaustive."""
        ...

    def largest_norm(self) -> float:
        """The largest Euclidean norm of a stored vector."""
        ...

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inner products in float64; a row's is the same in whatever company."""
        ...


class LexicalShard(Protocol):
    """What the lexical leg needs of a segment. Only documents that share a term are returned.

    stored: ``score`` may be called; otherwise Lucene's float32 scores must do.
    """

    size: int
    stored: bool

    def search(self, queries: csr_matrix, k: int) -> Returned: ...

    def score(self, query: csr_matrix, rows: np.ndarray) -> np.ndarray:
        """Σ weight × impact in float64."""
        ...


class DenseLeg(Leg):
    """FAISS over all segments. Queries: float32 [q, d]."""

    def __init__(self, numbering: Numbering, shards: Sequence[DenseShard]) -> None:
        super().__init__(numbering)
        self.shards = shards

    def score(self, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Inner products of one query [d] with documents by number, float64."""
        scores = np.empty(len(documents))
        for segment, where, rows in self._numbering.by_segment(documents):
            scores[where] = self.shards[segment].score(query, rows)
        return scores

    def _ask(self, queries: np.ndarray, ask: int, exact: bool) -> list[_Found]:
        returned: list[Returned] = []
        emptied = []  # whether all that a shard can return was asked for
        for shard, live in zip(self.shards, self._numbering.live, strict=True):
            dead = 0 if live is None else int((~live).sum())
            k = min(shard.size, ask + dead)
            emptied.append(k == shard.size and (exact or shard.exhaustive))
            scan = exact and shard.stored and not shard.exhaustive
            returned.append(shard.scan(queries, k) if scan else shard.search(queries, k))
        stored = all(shard.stored for shard in self.shards)
        norms = np.linalg.norm(queries.astype(np.float64), axis=1)
        found = []
        for query, norm in enumerate(norms):
            documents, scores = self._gather(returned, query)
            bound = likely = -np.inf
            complete = True
            for shard, answers, all_asked in zip(self.shards, returned, emptied, strict=True):
                values = answers[query][1]
                if len(values) == shard.size or (all_asked and shard.stored):
                    continue
                complete = False
                if not (stored and (shard.exhaustive or exact)) or not len(values):
                    bound = likely = np.inf
                    continue
                last, reach = float(values[-1]), norm * shard.largest_norm()
                bound = max(bound, last + rounding(queries.shape[1], reach))
                likely = max(likely, last + likely_rounding(queries.shape[1], reach))
            if stored:
                scores = self.score(queries[query], documents)
            found.append(_Found(documents, scores, bound, likely, complete))
        return found


class LexicalLeg(Leg):
    """Lucene over all segments. Queries: CSR float32 [q, |V|], positive, already rounded.

    ``scale`` divides Σ weight × impact.
    """

    def __init__(
        self, numbering: Numbering, shards: Sequence[LexicalShard], scale: float = 1.0
    ) -> None:
        super().__init__(numbering)
        self.shards = shards
        self.scale = scale

    def score(self, query: csr_matrix, documents: np.ndarray) -> np.ndarray:
        """Scores of one query [1, |V|] with documents by number, float64."""
        scores = np.empty(len(documents))
        for segment, where, rows in self._numbering.by_segment(documents):
            scores[where] = self.shards[segment].score(query, rows)
        return scores / self.scale

    def _ask(self, queries: csr_matrix, ask: int, exact: bool) -> list[_Found]:
        returned: list[Returned] = []
        asked = []
        for shard, live in zip(self.shards, self._numbering.live, strict=True):
            dead = 0 if live is None else int((~live).sum())
            asked.append(min(shard.size, ask + dead))
            returned.append(shard.search(queries, asked[-1]))
        stored = all(shard.stored for shard in self.shards)
        found = []
        for query in range(queries.shape[0]):
            documents, scores = self._gather(returned, query)
            if stored:
                scores = self.score(queries[query], documents)
            else:
                scores = scores / self.scale
            # Documents without a term of the query score 0, and no weight is negative. Lucene adds
            # up in float64 and rounds once; our sums know more digits than its scores.
            more = 1 + 4 * _UNIT if stored else 1.0
            bound, complete = 0.0, True
            for shard, k, answers in zip(self.shards, asked, returned, strict=True):
                values = answers[query][1]
                if len(values) == k < shard.size:
                    complete = False
                    bound = max(bound, float(values[-1]) * more / self.scale)
            found.append(_Found(documents, scores, bound, bound, complete))
        return found


def above(scores: np.ndarray, k: int, bound: float) -> bool:
    """Whether there are ``k`` scores, falling, and the k-th as float32 is above the bound as one.

    On it is not enough: a document with the same score could have the smaller id.
    """
    return len(scores) >= k and bool(np.float32(scores[k - 1]) > np.float32(bound))


def rounding(dimensions: int, reach: float) -> float:
    """How far a float32 inner product can be from the true one; ``reach`` is ‖x‖‖y‖.

    |fl(x·y) − x·y| ≤ γ Σ|xᵢyᵢ| ≤ γ ‖x‖‖y‖ with γ = nu / (1 − nu), u = 2⁻²⁴, in whatever order it is
    added up (Higham, Accuracy and Stability of Numerical Algorithms, 2002, section 3.1). Two more
    terms in n make up for our own float64 sums and norms; the last part, for products that vanish.
    """
    terms = (dimensions + 2) * _UNIT
    return terms / (1 - terms) * reach + dimensions * 2.0**-125


def likely_rounding(dimensions: int, reach: float) -> float:
    """The same as it happens: errors of random sign grow with the square root of their number."""
    return 2 * float(np.sqrt(dimensions)) * _UNIT * reach
