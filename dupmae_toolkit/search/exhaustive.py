"""Proven rankings by a weighted sum, where every leg scores all documents anyway.

With Flat vectors and postings in memory, each document's sum is known up to an error bound. A
document that, even with the largest error, cannot be among the best k is left out; the others are
scored exactly. So the ranking is that of all documents, with less work than merging the lists of
several legs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dupmae_toolkit.search.answers import Answer, Certificate, Request
from dupmae_toolkit.search.arithmetic import MAX_SCORES, contenders, too_many
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.proof import RankedList
from dupmae_toolkit.search.ranking import Asked, Leg, check_finite

#: Float64 arithmetic on a sum of a few products: a few roundings, relative to their sizes.
_FEW_ROUNDINGS = 2.0**-49
#: Sums below it do not leave the range of float64.
_SAFE_SUM = 2.0**1000


class Exhaustive:
    """Searches by legs that all give the scores of all documents.

    The weights of a request are in the order of the legs.
    """

    def __init__(self, numbering: Numbering, legs: Mapping[str, Leg]) -> None:
        self._numbering, self._legs = numbering, legs
        self._total = int(numbering.offsets[-1])
        #: The documents that can be returned; None: all.
        self._alive = numbering.numbers()
        #: How many queries are best searched together; the scores of all of them fit into memory.
        largest = max(leg.batch for leg in legs.values())
        self.batch = max(1, min(largest, MAX_SCORES // max(self._total, 1)))

    def search(self, queries: Mapping[str, Any], request: Request) -> list[Answer]:
        """The ranking of each query by a weighted sum; see ``Engine.search``."""
        scores, errors = [], []
        for part, leg in self._legs.items():
            found, error = leg.all_scores(queries[part])
            scores.append(found)
            errors.append(error)
        answers = []
        for row, query_scores in enumerate(zip(*scores, strict=True)):
            answer = self._proven_best(queries, row, query_scores, request, errors)
            if answer is None:
                closer = self._closer(queries, row, query_scores, errors)
                answer = self._proven_best(queries, row, closer, request)
                assert answer is not None
            answers.append(answer)
        return answers

    def lists(self, asked: Mapping[str, Asked], depth: int) -> dict[str, list[RankedList]]:
        """What each leg would return for a batch of one query, proven."""
        return {part: [self._list(leg, asked[part], depth)] for part, leg in self._legs.items()}

    def _closer(
        self,
        queries: Mapping[str, Any],
        row: int,
        scores: Sequence[np.ndarray],
        errors: Sequence[float],
    ) -> list[np.ndarray]:
        """The same scores of one query, without ``errors``: off by rounding alone."""
        rows = slice(row, row + 1)
        return [
            leg.all_scores(queries[part][rows], rough=False)[0][0] if error else leg_scores
            for (part, leg), leg_scores, error in zip(
                self._legs.items(), scores, errors, strict=True
            )
        ]

    def _proven_best(
        self,
        queries: Mapping[str, Any],
        row: int,
        scores: Sequence[np.ndarray],
        request: Request,
        errors: Sequence[float] | None = None,
    ) -> Answer | None:
        """The ranking of one query.

        scores: for each leg, float [n], not divided by its scale. errors: for each leg, how far its
        scores may be off beyond rounding; None: no further. Returns None if such errors leave too
        many documents to be scored exactly.
        """
        weights = request.fusion.weights_for(len(self._legs))
        errors = errors or [0.0] * len(self._legs)
        sums: Any = None
        margin, largest, safe = 0.0, 0.0, True
        legs = list(zip(self._legs.items(), weights, scores, errors, strict=True))
        for (part, leg), weight, leg_scores, error in legs:
            bound, off = leg.error_bounds(queries[part], row, leg_scores)
            scaled = weight / leg.scale
            weighted = np.multiply(leg_scores, scaled, dtype=np.float64)
            sums = weighted if sums is None else np.add(sums, weighted, out=weighted)
            margin += scaled * (off + error)
            largest += scaled * bound
            safe = safe and bound < leg.safe_score
        if not (safe and largest < _SAFE_SUM):
            # A score that overflowed says nothing about its document: keep it as a contender.
            sums[~np.isfinite(sums)] = np.inf
        margin += _FEW_ROUNDINGS * largest
        documents = self._contenders(sums, request.until, margin)
        if any(errors) and too_many(len(documents), request.until, self._total):
            return None
        parts = {}
        for (part, leg), _, leg_scores, _ in legs:
            if leg.exact:
                parts[part] = leg_scores[documents] / leg.scale
            else:
                parts[part] = leg.score(queries[part], row, documents)
        fused = request.fusion.weigh(list(parts.values()))
        check_finite(fused)
        kept = self._numbering.order(documents, fused)[: request.until]
        answer_parts = {part: exact[kept].astype(np.float32) for part, exact in parts.items()}
        certificate = Certificate(True, dict.fromkeys(parts, self._numbering.searchable))
        return Answer(documents[kept], fused[kept].astype(np.float32), answer_parts, certificate)

    def _list(self, leg: Leg, asked: Asked, depth: int) -> RankedList:
        (scores,), error = asked.all_scores()
        bound, rounding = leg.error_bounds(asked.queries, 0, scores)
        if not bound < leg.safe_score:
            scores[~np.isfinite(scores)] = np.inf
        documents = self._contenders(scores, depth, rounding + error)
        if error and too_many(len(documents), depth, self._total):
            (scores,), _ = asked.all_scores(rough=False)
            if not bound < leg.safe_score:
                scores[~np.isfinite(scores)] = np.inf
            documents = self._contenders(scores, depth, rounding)
        if not leg.returns_all:
            documents = documents[scores[documents] > 0]
        exact = asked.score(0, documents)
        check_finite(exact)
        order = self._numbering.order(documents, exact)
        order, left = order[:depth], order[depth:]
        outside = -np.inf if leg.returns_all else 0.0
        if len(order) == depth < self._numbering.searchable:
            # Scores are ordered as float32: one that is left may be larger than the last listed.
            largest = max(exact[order[-1]], exact[left].max(initial=-np.inf))
            outside = max(outside, float(largest))
        return RankedList(documents[order], exact[order], outside, proven=True)

    def _contenders(self, scores: np.ndarray, k: int, error: float) -> np.ndarray:
        """The documents that can be returned and may be among the best ``k``."""
        wanted = min(k, self._numbering.searchable)
        if self._alive is None:
            return contenders(scores, wanted, error)
        return self._alive[contenders(scores[self._alive], wanted, error)]
