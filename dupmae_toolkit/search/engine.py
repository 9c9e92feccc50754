"""Turns query vectors into rankings: runs the legs in parallel, completes, fuses and certifies."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.search.answers import Answer, Certificate, Request, page
from dupmae_toolkit.search.exhaustive import Exhaustive
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.proof import RankedList, proves_sum
from dupmae_toolkit.search.ranking import Asked, Leg, check_finite

#: Queries that are searched at once.
BATCH = 256
#: Queries that a thread fuses at once.
_SLICE = 16


def new_pool() -> ThreadPoolExecutor:
    """Threads for searching, which may be shared by several engines."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 2), "dupmae-search")


class Engine:
    """Searches with query vectors. Safe to use from several threads.

    Queries are a mapping from the name of a part to the vectors that its leg takes.
    """

    def __init__(
        self,
        numbering: Numbering,
        legs: Mapping[str, Leg],
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        """legs: by the name of their part of the score, in the order of ``answers.PARTS``."""
        self._numbering = numbering
        self._legs = legs
        #: Whether a search computes the scores of all documents anyway.
        self.scores_all = all(leg.gives_all_scores for leg in legs.values())
        exhaustive = len(legs) > 1 and self.scores_all
        self._exhaustive = Exhaustive(numbering, legs) if exhaustive else None
        self._pool = pool or new_pool()

    def search(
        self, queries: Mapping[str, Any], request: Request, progress: Progress = silent
    ) -> list[Answer]:
        """The ranking of each query.

        queries: the q queries for each part that the request uses.
        """
        parts = request.parts
        for part in parts:
            if part not in queries:
                raise DupMAEError(f"mode {request.mode} got no such query vectors")
            if part not in self._legs:
                raise DupMAEError("this index has no such leg")
        count = queries[parts[0]].shape[0]
        answers: list[Answer] = []
        with progress("searching", count) as advance:
            if count <= BATCH:  # saves a copy, which takes a tenth of a single query's time
                answers = self._batch(queries, count, request)
                advance(count)
                return page(answers, request.offset) if request.offset else answers
            for start in range(0, count, BATCH):
                batch = _rows(queries, slice(start, start + BATCH))
                answers += self._batch(batch, min(BATCH, count - start), request)
                advance(len(answers) - start)
        return page(answers, request.offset) if request.offset else answers

    def score(
        self, queries: Mapping[str, Any], row: int, documents: np.ndarray, request: Request
    ) -> np.ndarray:
        """The scores of documents, by number, for the query in ``row``, found or not, float32 [n].

        They are the scores that ``search`` returns. Raises InputError for a fusion whose scores
        depend on what else was found.
        """
        parts = [self._legs[part].score(queries[part], row, documents) for part in request.parts]
        if len(parts) == 1:
            return parts[0].astype(np.float32)
        if not request.fusion.is_sum:
            raise InputError(
                f"fusion {request.fusion.method} gives a document no score of its own; use sum"
            )
        return request.fusion.weigh(parts).astype(np.float32)

    @property
    def searchable(self) -> int:
        """How many documents can be found."""
        return self._numbering.searchable

    @property
    def legs(self) -> Mapping[str, Leg]:
        """The legs by the name of their part of the score."""
        return self._legs

    def candidates(self, queries: Mapping[str, Any], request: Request) -> Candidates:
        """What a search that fuses lists ranks for one query, with the scores that it reads.

        They are complete unless the fusion reads only ranks.
        """
        asked = {part: self._legs[part].ask(queries[part]) for part in request.parts}
        if self._exhaustive is not None and tuple(asked) == tuple(self._legs):
            lists = self._exhaustive.lists(asked, request.depth)
        else:
            lists = self._lists(asked, np.arange(1), request.depth, request.exact)
        found = unite([ranked for (ranked,) in lists.values()])
        if request.fusion.reads_scores:
            complete(found, list(asked.values()), 0)
        return found

    def _batch(self, queries: Mapping[str, Any], count: int, request: Request) -> list[Answer]:
        parts = request.parts
        if self._exhaustive is not None and parts == tuple(self._legs) and request.fusion.is_sum:
            if count == 1:
                return self._exhaustive.search(queries, request)
            return self._sums(self._exhaustive, queries, count, request)
        asked = {part: self._legs[part].ask(queries[part]) for part in parts}
        pending = np.arange(count)
        if len(parts) == 1:
            (lists,) = self._lists(asked, pending, request.until, request.exact).values()
            return [_answer_of(parts[0], listed) for listed in lists]
        answers: list[Answer | None] = [None] * count
        depth = request.depth
        while len(pending):
            found = self._fused(asked, pending, request, depth)
            for row, answer in zip(pending, found, strict=True):
                answers[row] = answer
            if not request.exact or depth >= self._numbering.searchable:
                break
            unproven = [not answer.certificate.certified for answer in found]
            pending = pending[np.array(unproven, dtype=bool)]
            depth *= 4
        return [answer for answer in answers if answer is not None]

    def _sums(
        self, exhaustive: Exhaustive, queries: Mapping[str, Any], count: int, request: Request
    ) -> list[Answer]:
        def search(rows: slice) -> list[Answer]:
            return exhaustive.search(_rows(queries, rows), request)

        return self._in_slices(search, count, exhaustive.batch)

    def _lists(
        self, asked: Mapping[str, Asked], rows: np.ndarray, depth: int, exact: bool
    ) -> dict[str, list[RankedList]]:
        """Each leg's lists for the queries in ``rows``; legs and slices of queries in parallel."""
        tasks = [
            (part, asked_leg, rows[start : start + asked_leg.leg.batch])
            for part, asked_leg in asked.items()
            for start in range(0, len(rows), asked_leg.leg.batch)
        ]

        def search(task: tuple[str, Asked, np.ndarray]) -> list[RankedList]:
            return task[1].search(task[2], depth, exact)

        slow = [1 for _, asked_leg, some in tasks if not asked_leg.leg.in_memory or len(some) > 1]
        if len(slow) < 2:
            found = [search(task) for task in tasks]
        else:
            waiting = [self._pool.submit(search, task) for task in tasks[:-1]]
            last = search(tasks[-1])  # otherwise this thread would only wait
            found = [*(task.result() for task in waiting), last]
        lists: dict[str, list[RankedList]] = {part: [] for part in asked}
        for (part, *_), answered in zip(tasks, found, strict=True):
            lists[part] += answered
        return lists

    def _fused(
        self, asked: Mapping[str, Asked], rows: np.ndarray, request: Request, depth: int
    ) -> list[Answer]:
        if self._exhaustive is not None and len(rows) == 1 and tuple(asked) == tuple(self._legs):
            lists = self._exhaustive.lists(asked, depth)
        else:
            lists = self._lists(asked, rows, depth, request.exact)

        def fuse(part: slice) -> list[Answer]:
            return [
                self._fuse(asked, int(row), [ranked[place] for ranked in lists.values()], request)
                for place, row in enumerate(rows[part], part.start)
            ]

        return self._in_slices(fuse, len(rows), _SLICE)

    def _fuse(
        self, asked: Mapping[str, Asked], row: int, lists: Sequence[RankedList], request: Request
    ) -> Answer:
        """Fuse the lists of one query."""
        candidates = unite(lists)
        legs = list(asked.values())
        by_rank = not request.fusion.reads_scores
        if not by_rank:
            complete(candidates, legs, row)
        fused = request.fusion.fuse(candidates.scores, candidates.ranks, completed=True)
        check_finite(fused)
        order = self._numbering.order(candidates.documents, fused)[: request.until]
        if by_rank:
            complete(candidates, legs, row, order)  # for the answer; nothing else asks for them
        certified = request.fusion.is_sum and proves_sum(
            fused[order], request.until, request.fusion.weights_for(len(lists)), lists
        )
        scores = candidates.scores[:, order].astype(np.float32)
        depths = [len(listed.documents) for listed in lists]
        return Answer(
            candidates.documents[order],
            fused[order].astype(np.float32),
            dict(zip(asked, scores, strict=True)),
            Certificate(certified, dict(zip(asked, depths, strict=True))),
        )

    def _in_slices(
        self, function: Callable[[slice], list[Answer]], count: int, size: int
    ) -> list[Answer]:
        """The answers of ``function`` for slices of ``size`` queries, in parallel."""
        if count <= size:
            return function(slice(0, count))
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        return [answer for part in self._pool.map(function, parts) for answer in part]


@dataclass(slots=True)
class Candidates:
    """The n documents that any leg returned for one query.

    documents: int64 [n], ascending by number. scores: float64 [parts, n], NaN where not known yet.
    ranks: int64 [parts, n], from 1; 0 where the leg did not return the document.
    """

    documents: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray


def unite(lists: Sequence[RankedList]) -> Candidates:
    """The union of all lists of one query; a score that a leg did not return is NaN."""
    documents = np.concatenate([listed.documents for listed in lists])
    documents.sort()  # faster than np.unique for a few hundred
    first = np.ones(len(documents), dtype=bool)
    np.not_equal(documents[1:], documents[:-1], out=first[1:])
    documents = documents[first]
    scores = np.full((len(lists), len(documents)), np.nan)
    ranks = np.zeros((len(lists), len(documents)), dtype=np.int64)
    for part, listed in enumerate(lists):
        columns = np.searchsorted(documents, listed.documents)
        scores[part, columns] = listed.scores
        ranks[part, columns] = np.arange(1, len(columns) + 1)
    return Candidates(documents, scores, ranks)


def complete(
    candidates: Candidates, legs: Sequence[Asked], row: int, only: np.ndarray | None = None
) -> None:
    """Fill in the missing scores of the query in ``row``.

    A leg scores a document that it did not return from the stored vectors, with the same arithmetic
    as those that it returned. only: the columns to fill; None: all.
    """
    columns = np.arange(len(candidates.documents)) if only is None else only
    lacking = candidates.ranks[:, columns] == 0
    for part, (leg, gaps) in enumerate(zip(legs, lacking, strict=True)):
        if gaps.any():
            places = columns[gaps]
            candidates.scores[part, places] = leg.score(row, candidates.documents[places])


def _answer_of(part: str, listed: RankedList) -> Answer:
    """The answer to a query whose score is one part only."""
    scores = listed.scores.astype(np.float32)
    certificate = Certificate(listed.proven, {part: len(listed.documents)})
    return Answer(listed.documents, scores, {part: scores}, certificate)


def _rows(queries: Mapping[str, Any], rows: slice) -> dict[str, Any]:
    """The same rows of every part's queries."""
    return {part: vectors[rows] for part, vectors in queries.items()}
