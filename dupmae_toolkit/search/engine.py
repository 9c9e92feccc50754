"""Query vectors in, rankings out: the legs side by side, completion, fusion, proof."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.search.answers import MODES, Answer, Request
from dupmae_toolkit.search.completion import complete, unite
from dupmae_toolkit.search.exact import Certificate, proves_sum
from dupmae_toolkit.search.legs import DenseLeg, Leg, LegList, LexicalLeg, Terms, check_finite
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.whole import Whole

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Queries that are searched at once.
BATCH = 256
#: Queries that a thread takes at once.
_SLICE = 16

__all__ = ["BATCH", "MODES", "Answer", "Engine", "Request", "new_pool"]


def new_pool() -> ThreadPoolExecutor:
    """Threads for searching, which may be shared by several engines."""
    return ThreadPoolExecutor(max(2, os.cpu_count() or 2), "dupmae-search")


class Engine:
    """Searches with ready-made query vectors. Safe to use from several threads."""

    def __init__(
        self,
        numbering: Numbering,
        dense_leg: DenseLeg | None,
        lexical_leg: LexicalLeg | None,
        pool: ThreadPoolExecutor | None = None,
    ) -> None:
        self._numbering = numbering
        self._dense = dense_leg
        self._lexical = lexical_leg
        self._whole = Whole.of(numbering, dense_leg, lexical_leg)
        self._pool = pool or new_pool()

    def search(
        self,
        dense: np.ndarray | None,
        lexical: csr_matrix | None,
        request: Request,
        progress: Progress = silent,
    ) -> list[Answer]:
        """The ranking of each query.

        dense: float32 [q, d]; lexical: CSR float32 [q, |V|], non-negative, rounded as the lexical
        leg wants it. What the mode does not use may be None.
        """
        first = lexical if request.mode == "lexical" else dense
        if first is None:
            raise DupMAEError(f"mode {request.mode} got no such query vectors")
        answers: list[Answer] = []
        with progress("searching", first.shape[0]) as advance:
            if first.shape[0] <= BATCH:  # spared a copy, which takes a tenth of a single query
                answers = self._batch(dense, lexical, request)
                advance(len(answers))
                return answers
            for start in range(0, first.shape[0], BATCH):
                batch = slice(start, start + BATCH)
                answers += self._batch(
                    None if dense is None else dense[batch],
                    None if lexical is None else lexical[batch],
                    request,
                )
                advance(len(answers) - start)
        return answers

    def score(
        self,
        dense: np.ndarray | None,
        lexical: csr_matrix | None,
        documents: np.ndarray,
        request: Request,
    ) -> np.ndarray:
        """What one query gives to documents by number, found or not, float32 [n].

        dense: float32 [d]; lexical: CSR [1, |V|]. The numbers are those of ``search``. Raises
        InputError for a fusion whose scores depend on what else was found.
        """
        parts = []
        if request.mode != "lexical":
            assert self._dense is not None
            assert dense is not None
            parts.append(self._dense.score(dense, documents))
        if request.mode != "dense":
            assert self._lexical is not None
            assert lexical is not None
            parts.append(self._lexical.score(Terms.of(lexical, 0), documents))
        if request.mode != "hybrid":
            return parts[0].astype(np.float32)
        if not request.fusion.is_sum:
            raise InputError(
                f"fusion {request.fusion.method} gives a document no score of its own; use sum"
            )
        return request.fusion.weigh(np.stack(parts)).astype(np.float32)

    def _batch(
        self, dense: np.ndarray | None, lexical: csr_matrix | None, request: Request
    ) -> list[Answer]:
        k, depth = request.k, request.depth
        if request.mode == "dense":
            lists = self._legs([(self._dense, dense)], k, request.exact)[0]
            return [self._single(listed, "dense") for listed in lists]
        if request.mode == "lexical":
            lists = self._legs([(self._lexical, lexical)], k, request.exact)[0]
            return [self._single(listed, "lexical") for listed in lists]
        assert dense is not None
        assert lexical is not None
        if self._whole is not None and request.fusion.is_sum:
            return self._sums(self._whole, dense, lexical, request)
        answers: list[Answer | None] = [None] * dense.shape[0]
        pending = np.arange(len(answers))
        while len(pending):
            every = len(pending) == len(answers)
            found = self._hybrid(
                dense if every else dense[pending],
                lexical if every else lexical[pending],
                request,
                depth,
            )
            for query, answer in zip(pending, found, strict=True):
                answers[query] = answer
            if not request.exact or depth >= self._numbering.searchable:
                break
            pending = np.array(
                [
                    query
                    for query, answer in zip(pending, found, strict=True)
                    if not answer.certificate.certified
                ],
                dtype=np.int64,
            )
            depth *= 4
        return [answer for answer in answers if answer is not None]

    def _sums(
        self, whole: Whole, dense: np.ndarray, lexical: csr_matrix, request: Request
    ) -> list[Answer]:
        if len(dense) == 1:
            return whole.search(dense, lexical, request)

        def search(part: slice) -> list[Answer]:
            return whole.search(dense[part], lexical[part], request)

        return self._in_slices(search, len(dense), whole.slice)

    def _legs(
        self, asked: Sequence[tuple[Leg | None, Any]], depth: int, exact: bool
    ) -> list[list[LegList]]:
        """Each leg's lists, all legs at once, the queries in slices."""
        parts: list[tuple[int, Leg, Any]] = []
        for number, (leg, queries) in enumerate(asked):
            if leg is None:
                raise DupMAEError("this index has no such leg")
            count = queries.shape[0]
            if count <= leg.slice:
                parts.append((number, leg, queries))
                continue
            for start in range(0, count, leg.slice):
                parts.append((number, leg, queries[start : start + leg.slice]))

        def search(part: tuple[int, Leg, Any]) -> list[LegList]:
            return part[1].search(part[2], depth, exact)

        slow = [1 for _, leg, queries in parts if not leg.quick or queries.shape[0] > 1]
        if len(slow) < 2:
            found = [search(part) for part in parts]
        else:
            tasks = [self._pool.submit(search, part) for part in parts[:-1]]
            last = search(parts[-1])  # this thread would only wait
            found = [*(task.result() for task in tasks), last]
        lists: list[list[LegList]] = [[] for _ in asked]
        for (number, *_), own in zip(parts, found, strict=True):
            lists[number] += own
        return lists

    def _single(self, listed: LegList, mode: str) -> Answer:
        depth = len(listed.documents)
        is_dense = mode == "dense"
        scores = listed.scores.astype(np.float32)
        return Answer(
            listed.documents,
            scores,
            scores if is_dense else None,
            None if is_dense else scores,
            Certificate(listed.proven, depth if is_dense else None, None if is_dense else depth),
        )

    def _hybrid(
        self, dense: np.ndarray, lexical: csr_matrix, request: Request, depth: int
    ) -> list[Answer]:
        if self._whole is not None and len(dense) == 1:
            dense_lists, lexical_lists = (
                [listed] for listed in self._whole.lists(dense[0], lexical, depth)
            )
        else:
            legs = [(self._dense, dense), (self._lexical, lexical)]
            dense_lists, lexical_lists = self._legs(legs, depth, request.exact)

        def fuse(part: slice) -> list[Answer]:
            return [
                self._fuse(
                    dense[query],
                    Terms.of(lexical, query),
                    dense_lists[query],
                    lexical_lists[query],
                    request,
                )
                for query in range(part.start, part.stop)
            ]

        return self._in_slices(fuse, len(dense), _SLICE)

    def _fuse(
        self,
        dense_query: np.ndarray,
        lexical_query: Terms,
        dense_list: LegList,
        lexical_list: LegList,
        request: Request,
    ) -> Answer:
        assert self._dense is not None
        assert self._lexical is not None
        candidates = unite(dense_list, lexical_list)
        queries = self._dense, dense_query, self._lexical, lexical_query
        fill = partial(complete, candidates, *queries, lexical_list.every)
        by_rank = not request.fusion.reads_scores
        if not by_rank:
            fill()
        fused = request.fusion.fuse(candidates.scores, candidates.ranks, completed=True)
        check_finite(fused)
        order = self._numbering.order(candidates.documents, fused)[: request.k]
        if by_rank:
            fill(order)  # for the answer; nothing else asks for them
        certified = request.fusion.is_sum and proves_sum(
            fused[order], request.k, request.fusion.weights_for(2), dense_list, lexical_list
        )
        return Answer(
            candidates.documents[order],
            fused[order].astype(np.float32),
            candidates.scores[0, order].astype(np.float32),
            candidates.scores[1, order].astype(np.float32),
            Certificate(certified, len(dense_list.documents), len(lexical_list.documents)),
        )

    def _in_slices(
        self, function: Callable[[slice], list[Answer]], count: int, size: int
    ) -> list[Answer]:
        """What ``function`` gives for ``size`` queries at a time; several times at once."""
        if count <= size:
            return function(slice(0, count))
        parts = [slice(start, min(start + size, count)) for start in range(0, count, size)]
        return [answer for part in self._pool.map(function, parts) for answer in part]
