"""How one leg ranks documents: it searches deeper until its list is settled.

FAISS sums in float32, in an order that depends on the batch, and FAISS and Lucene may cut a list
between documents of equal score. So a leg asks for a few more documents than it needs, computes
their scores again exactly, and sorts by score and id. If a document that was not returned could
still belong in the list, it asks again for more.
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
from dupmae_toolkit.search.proof import RankedList, above

#: How many documents a leg asks for beyond the depth.
SLACK = 16


@dataclass(slots=True)
class Found:
    """What the shards returned for one query so far, and what bounds the scores of all others.

    bound: the others score no more, however the products were rounded. likely: they score no more
    if rounding is as usual; good enough for a cut that needs no proof. complete: there are no
    others that the leg can return.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    likely: float
    complete: bool


class Leg:
    """One part of the score, over the shards of all segments.

    shards: one for each segment, in the order of ``numbering``. batch: how many queries are best
    searched together. in_memory: one query takes less time than starting a thread. scale: sums of
    products are divided by it. safe_score: sums below it cannot overflow on the way. returns_all:
    every document can be returned; otherwise only those that score more than 0. exact:
    ``all_scores`` divided by the scale are what ``score`` gives.
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
        """This leg with a batch of queries."""
        raise NotImplementedError

    def score(self, queries: Any, row: int, documents: np.ndarray) -> np.ndarray:
        """The scores of documents, by number, for the query in ``row``, float64 [n].

        They are the scores that ``Asked.search`` returns.
        """
        raise NotImplementedError

    @property
    def gives_all_scores(self) -> bool:
        """Whether ``all_scores`` and ``error_bounds`` may be called."""
        return False

    def all_scores(self, queries: Any, rough: bool = True) -> tuple[Any, float]:
        """Each query's scores with all n documents, float [q][n], not yet divided by the scale.

        The second value bounds their error beyond rounding, also not divided by the scale. rough:
        whether there may be such an error.
        """
        raise NotImplementedError

    def error_bounds(self, queries: Any, row: int, scores: np.ndarray) -> tuple[float, float]:
        """Bounds on ``scores``, what ``all_scores`` gives for the query in ``row``.

        The first bounds their absolute values, the second how far rounding takes them from what
        ``score`` gives. Like ``scores``, neither is divided by the scale.
        """
        raise NotImplementedError


class Asked:
    """A leg with a batch of queries. Safe to use from several threads."""

    def __init__(self, leg: Leg, queries: Any) -> None:
        self.leg = leg
        self.queries = queries
        self._numbering = leg.numbering

    def search(self, rows: np.ndarray, depth: int, exact: bool = False) -> list[RankedList]:
        """The first ``depth`` documents for each of the queries in ``rows``.

        exact: order and cut are proven; otherwise they are safe only from the usual rounding.
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
        """The scores of documents, by number, for the query in ``row``; see ``Leg.score``."""
        return self.leg.score(self.queries, row, documents)

    def all_scores(self, rough: bool = True) -> tuple[Any, float]:
        """The scores of all queries with all documents; see ``Leg.all_scores``."""
        return self.leg.all_scores(self.queries, rough)

    def _find(self, rows: np.ndarray, ask: int, exact: bool) -> list[Found]:
        """For each of these queries, the best ``ask`` documents of every shard together."""
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
        """The queries in ``rows``, ascending; consecutive ones as a slice, which costs less."""
        first, last = int(rows[0]), int(rows[-1])
        if last - first + 1 != len(rows):
            return self.queries[rows]
        is_batch = len(rows) == self.queries.shape[0]
        return self.queries if is_batch else self.queries[first : last + 1]

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


def check_finite(scores: np.ndarray) -> None:
    """Raise DupMAEError unless all scores are finite as float32, the type that is returned."""
    with np.errstate(over="ignore"):
        fine = np.isfinite(scores.astype(np.float32)).all()
    if not fine:
        raise DupMAEError(
            "the index gave a score that is no finite number; the vectors are too large, or the "
            "index is damaged: look with `dupmae verify`"
        )


def asks(ask: int, size: int, alive: int) -> int:
    """How many to ask for of a shard of ``size`` that also returns others than the ``alive`` ones.

    ``ask`` of these are among so many if they lie evenly among all documents, and for certain if
    it is ``ask`` and all others.
    """
    if alive in (0, size):
        return min(alive, ask)
    share = -(-5 * ask * size // (4 * alive)) + SLACK
    return min(size, ask + size - alive, share)
