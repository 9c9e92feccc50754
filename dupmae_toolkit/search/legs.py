"""The two legs: the best documents by one of the two vectors, in an order that is always the same.

FAISS adds up in float32, in an order that depends on the batch, and both engines cut a list of
equal scores where they please. So a leg asks for some more than it needs, computes the scores again
exactly, sorts by score and id, and asks on for those queries whose cut is not yet clear: those
where a document that was not returned might still belong in front of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.scanning import MOST_SCORES, Returned, best_above_zero

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: What a leg asks for beyond the depth.
SLACK = 16
_UNIT = 2.0**-24  # the unit roundoff of float32
#: ‖x‖‖y‖ below which no sum on the way to an inner product leaves the range of float32.
SAFE_REACH = 2.0**127


class Terms(NamedTuple):
    """The lexical vector of one query: terms by number, and their weights, float32, not 0."""

    terms: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, queries: csr_matrix, row: int) -> Terms:
        """A row of a matrix, without the matrix that scipy would make of it."""
        part = slice(queries.indptr[row], queries.indptr[row + 1])
        return cls(queries.indices[part], queries.data[part])


@dataclass(slots=True)
class LegList:
    """One leg's answer to one query.

    documents: int64 numbers, by score as float32 descending, then by id. scores: float64, exact.
    bound: no document that is not listed scores more; infinite where nothing is known.
    complete: every document that the leg can return is listed. proven: no document that was not
    looked at belongs in the list. every: the scores of all documents of each segment, float64,
    where they were computed on the way, not yet divided by a scale.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    complete: bool
    proven: bool
    every: list[np.ndarray] | None = None


@dataclass(slots=True)
class _Found:
    """What one query's engines returned so far: all candidates and what is known of the others."""

    documents: np.ndarray
    scores: np.ndarray
    bound: float  # holds whatever the rounding
    likely: float  # holds for rounding as it happens; for cuts that need no proof
    complete: bool
    every: list[np.ndarray] | None = None


class Leg:
    """Asks until the first ``depth`` of each query are settled. Subclasses know how to ask.

    slice: so many queries are best asked together. quick: a query takes less than another thread
    takes to begin.
    """

    slice = 16
    quick = False

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
            asked = queries if len(pending) == len(lists) else queries[pending]
            found = self._ask(asked, ask, exact)
            unsettled = []
            for number, candidates in zip(pending, found, strict=True):
                lists[number] = self._settle(candidates, depth, exact)
                if lists[number] is None:
                    unsettled.append(number)
            pending = np.array(unsettled, dtype=np.int64)
            ask *= 4
        return [settled for settled in lists if settled is not None]

    def _settle(self, found: _Found, depth: int, exact: bool) -> LegList | None:
        check_finite(found.scores)
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
            return LegList(documents, scores, found.bound, found.complete, proven, found.every)
        bound = max(found.bound, float(scores[depth:].max()))
        return LegList(documents[:depth], scores[:depth], bound, False, proven, found.every)

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

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        """Inner products with every row, [q, n], and how far off they may be beyond rounding.

        Asked of exhaustive ones only. rough: whether they may be off at all.
        """
        ...

    def largest_norm(self) -> float:
        """The largest Euclidean norm of a stored vector."""
        ...

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        """Inner products in float64; a row's is the same in whatever company."""
        ...


class LexicalShard(Protocol):
    """What the lexical leg needs of a segment. Only documents that share a term are returned.

    stored: ``score`` may be called; otherwise the scores of ``search`` must do. quick: see ``Leg``;
    ``all_scores`` may be called, and the scores of ``search`` are those that ``score`` would give.
    """

    size: int
    stored: bool
    quick: bool

    def search(self, queries: csr_matrix, k: int) -> Returned: ...

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        """Of each query with every row, float64 [n], exact."""
        ...

    def score(self, query: Terms, rows: np.ndarray) -> np.ndarray:
        """Σ weight × impact in float64."""
        ...


class DenseLeg(Leg):
    """The dense vectors of all segments. Queries: float32 [q, d]."""

    slice = 64  # products of matrices are faster, the more rows they have

    def largest_norm(self) -> float:
        """The largest Euclidean norm of a vector."""
        return max((shard.largest_norm() for shard in self.shards), default=0.0)

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
                if not reach < SAFE_REACH:  # what overflowed may stand anywhere: all are looked at
                    bound, likely = np.inf, max(likely, float(np.finfo(np.float32).max))
                    continue
                bound = max(bound, last + rounding(queries.shape[1], reach))
                likely = max(likely, last + likely_rounding(queries.shape[1], reach))
            if stored:
                scores = self.score(queries[query], documents)
            found.append(_Found(documents, scores, bound, likely, complete))
        return found


class LexicalLeg(Leg):
    """The impacts of all segments. Queries: CSR float32 [q, |V|], positive, already rounded.

    ``scale`` divides Σ weight × impact.
    """

    def __init__(
        self, numbering: Numbering, shards: Sequence[LexicalShard], scale: float = 1.0
    ) -> None:
        super().__init__(numbering)
        self.shards = shards
        self.scale = scale
        self.quick = all(shard.quick for shard in shards)

    def score(
        self, query: Terms, documents: np.ndarray, every: list[np.ndarray] | None = None
    ) -> np.ndarray:
        """Scores of one query with documents by number, float64; ``every``: of its ``LegList``."""
        scores = np.empty(len(documents))
        for segment, where, rows in self._numbering.by_segment(documents):
            own = self.shards[segment].score(query, rows) if every is None else every[segment][rows]
            scores[where] = own
        return scores / self.scale

    def _ask(self, queries: csr_matrix, ask: int, exact: bool) -> list[_Found]:
        returned: list[Returned] = []
        asked = []
        kept: list[list[np.ndarray]] = []
        keeps = self.quick and queries.shape[0] * sum(s.size for s in self.shards) <= MOST_SCORES
        for shard, live in zip(self.shards, self._numbering.live, strict=True):
            dead = 0 if live is None else int((~live).sum())
            asked.append(min(shard.size, ask + dead))
            if keeps:
                kept.append(shard.all_scores(queries))
                returned.append([best_above_zero(scores, asked[-1]) for scores in kept[-1]])
            else:
                returned.append(shard.search(queries, asked[-1]))
        # Lucene adds up in float64 and rounds once; our own sums know more digits than its scores.
        again = any(shard.stored and not shard.quick for shard in self.shards)
        found = []
        for query in range(queries.shape[0]):
            documents, scores = self._gather(returned, query)
            if again:
                scores = self.score(Terms.of(queries, query), documents)
            else:
                scores = scores / self.scale
            # Documents without a term of the query score 0, and no weight is negative.
            bound, complete = 0.0, True
            for shard, k, answers in zip(self.shards, asked, returned, strict=True):
                values = answers[query][1]
                if len(values) == k < shard.size:
                    complete = False
                    more = 1 + 4 * _UNIT if shard.stored and not shard.quick else 1.0
                    bound = max(bound, float(values[-1]) * more / self.scale)
            every = [own[query] for own in kept] if keeps else None
            found.append(_Found(documents, scores, bound, bound, complete, every))
        return found


def check_finite(scores: np.ndarray) -> None:
    """Sound vectors give scores that are finite, as float32 too, which they are returned as."""
    with np.errstate(over="ignore"):
        fine = np.isfinite(scores.astype(np.float32)).all()
    if not fine:
        raise DupMAEError(
            "the index gave a score that is no finite number; the vectors are too large, or the "
            "index is damaged: look with `dupmae verify`"
        )


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
