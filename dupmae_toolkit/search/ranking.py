"""A leg's ranking: asked deeper until it is settled, and when a fused ranking is proven.

A leg is one part of the score over all segments. FAISS adds up in float32, in an order that depends
on the batch, and both engines cut a run of equal scores anywhere. So a leg asks for a few more
documents than it needs, computes their scores again exactly, sorts by score and id, and asks again,
deeper, for the queries whose cut is not clear: where a document that was not returned might still
belong in front of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.search.arithmetic import Returned
from dupmae_toolkit.search.numbering import Numbering

#: What a leg asks for beyond the depth.
SLACK = 16


@dataclass(slots=True)
class RankedList:
    """One leg's answer to one query.

    documents: int64 numbers, by score as float32 descending, then by id. scores: float64, exact.
    bound: no document outside the list scores more; infinite where nothing is known, minus infinity
    where no document is outside. proven: no document that was not looked at belongs in the list.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    proven: bool


@dataclass(slots=True)
class Found:
    """What one query's shards returned so far, and what is known of the documents left out.

    bound: they score no more, however the products were rounded. likely: they score no more, as
    products are usually rounded; good enough for a cut that needs no proof. complete: the leg can
    return no further document.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    likely: float
    complete: bool


class Leg:
    """One part of the score, over the shards of all segments.

    shards: what searches a segment, one for each, in the order of ``numbering``. batch: this many
    queries are best asked together. in_memory: one query takes less time than starting a thread.
    scale: scores are divided by it. safe_score: sums of products below it cannot overflow.
    returns_all: every document can be returned; otherwise only those that score more than 0.
    exact: ``all_scores`` are what ``score`` gives, times the scale.
    """

    batch = 16
    in_memory = False
    scale = 1.0
    safe_score = math.inf
    returns_all = True
    exact = False

    def __init__(self, numbering: Numbering, shards: Sequence[Any]) -> None:
        self.numbering = numbering
        self.shards = shards

    def ask(self, queries: Any) -> Asked:
        """The leg with a batch of queries to answer."""
        raise NotImplementedError

    def score(self, queries: Any, row: int, documents: np.ndarray) -> np.ndarray:
        """What the query in ``row`` gives to documents by number, float64 [n]; as ``Asked.search``
        gives it."""
        raise NotImplementedError

    @property
    def gives_all_scores(self) -> bool:
        """Whether ``all_scores`` and ``limits`` may be called."""
        return False

    def all_scores(self, queries: Any, rough: bool = True) -> tuple[Any, float]:
        """Each query's scores with all n documents, float [q][n], not yet divided by the scale.

        The second value: how far off they may be, beyond rounding. rough: whether they may be.
        """
        raise NotImplementedError

    def limits(self, queries: Any, row: int, scores: np.ndarray) -> tuple[float, float]:
        """Of one query with its ``all_scores``: a bound of any score, scaled, and of rounding."""
        raise NotImplementedError


class Asked:
    """The queries of a batch, as one leg answers them. Safe to use from several threads."""

    def __init__(self, leg: Leg, queries: Any) -> None:
        self.leg = leg
        self.queries = queries
        self._numbering = leg.numbering

    def search(self, rows: np.ndarray, depth: int, exact: bool = False) -> list[RankedList]:
        """The first ``depth`` documents of some of the queries, by row.

        exact: order and cut are proven, not only safe from rounding as it usually is.
        """
        lists: list[RankedList | None] = [None] * len(rows)
        pending = np.arange(len(rows))
        ask = depth + SLACK
        while len(pending):
            found = self._find(rows[pending], ask, exact)
            unsettled = []
            for number, candidates in zip(pending, found, strict=True):
                lists[number] = self._settle(candidates, depth, exact)
                if lists[number] is None:
                    unsettled.append(number)
            pending = np.array(unsettled, dtype=np.int64)
            ask *= 4
        return [settled for settled in lists if settled is not None]

    def score(self, row: int, documents: np.ndarray) -> np.ndarray:
        """What one query gives to documents by number, float64; the numbers of ``search``."""
        return self.leg.score(self.queries, row, documents)

    def all_scores(self, rough: bool = True) -> tuple[Any, float]:
        """Of all queries; see ``Leg.all_scores``."""
        return self.leg.all_scores(self.queries, rough)

    def _find(self, rows: np.ndarray, ask: int, exact: bool) -> list[Found]:
        """The best ``ask`` documents of each shard for these queries, put together."""
        raise NotImplementedError

    def _settle(self, found: Found, depth: int, exact: bool) -> RankedList | None:
        """The list, or None where the cut is not clear yet."""
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
            return RankedList(documents, scores, found.bound, proven)
        bound = max(found.bound, float(scores[depth:].max()))
        return RankedList(documents[:depth], scores[:depth], bound, proven)

    def _rows_of(self, rows: np.ndarray) -> Any:
        """Some of the queries; a slice where they lie side by side, which costs less."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 != len(rows):
            return self.queries[rows]
        whole = len(rows) == self.queries.shape[0]
        return self.queries if whole else self.queries[first : last + 1]

    def _gather(self, returned: Sequence[Returned], query: int) -> tuple[np.ndarray, np.ndarray]:
        """One query's live documents by number, and their scores, from every shard's answer."""
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


def proves_sum(
    scores: np.ndarray, k: int, weights: Sequence[float], lists: Sequence[RankedList]
) -> bool:
    """Whether the first ``k`` scores of a weighted sum, float64 [n] falling, are proven.

    A document outside all lists scores at most Σ weight × (the bound of that leg's list): the
    threshold of Fagin, Lotem and Naor, Optimal aggregation algorithms for middleware, 2003, section
    4. A document in one list only needs no bound: its other scores have been completed. The k-th
    score must be above the threshold. Equal is not enough: a document outside with the same score
    could have the smaller id.
    """
    if any(len(listed.documents) and listed.bound == -np.inf for listed in lists):
        return True  # no document is outside that list
    # The fusion's own arithmetic, which rises with each part even where it rounds.
    threshold = 0.0
    for weight, listed in zip(weights, lists, strict=True):
        threshold += weight * listed.bound if weight else 0.0
    return above(scores, k, threshold)


def above(scores: np.ndarray, k: int, bound: float) -> bool:
    """Whether there are ``k`` scores, falling, and the k-th is above the bound, both as float32."""
    return len(scores) >= k and bool(np.float32(scores[k - 1]) > np.float32(bound))


def check_finite(scores: np.ndarray) -> None:
    """Sound vectors give scores that are finite, also as float32, in which they are returned."""
    with np.errstate(over="ignore"):
        fine = np.isfinite(scores.astype(np.float32)).all()
    if not fine:
        raise DupMAEError(
            "the index gave a score that is no finite number; the vectors are too large, or the "
            "index is damaged: look with `dupmae verify`"
        )
