"""Sums over all documents: where both scores of each are computed anyway, nothing need be missed.

A Flat dense index compares the query with every vector, and postings in memory are added up for
every document. The weighted sum of the two is then known for each, the dense part within a bound;
so what may be among the best is picked from it, its scores computed exactly, and the ranking is
that of all documents, proven, for less work than merging the lists of two legs.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.search.answers import Answer, Request
from dupmae_toolkit.search.exact import Certificate
from dupmae_toolkit.search.legs import (
    SAFE_REACH,
    DenseLeg,
    LegList,
    LexicalLeg,
    check_finite,
    rounding,
)
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.scanning import MOST_SCORES, contenders, too_many

#: Float64 arithmetic on a sum of two products: a few roundings, relative to their sizes.
_FEW_ROUNDINGS = 2.0**-49
#: Sums below it do not leave the range of float64.
_SAFE_SUM = 2.0**1000


class Whole:
    """Both legs of an index that give the scores of all documents."""

    def __init__(self, numbering: Numbering, dense: DenseLeg, lexical: LexicalLeg) -> None:
        self._numbering, self._dense, self._lexical = numbering, dense, lexical
        dead = [np.zeros(0, bool) if live is None else ~live for live in numbering.live]
        offsets = numbering.offsets[:-1]
        self._dead = np.concatenate(
            [np.flatnonzero(own) + start for own, start in zip(dead, offsets, strict=True)]
        )
        #: So many queries are best searched together, and fit.
        self.slice = max(1, min(dense.slice, MOST_SCORES // max(int(numbering.offsets[-1]), 1)))

    @classmethod
    def of(
        cls, numbering: Numbering, dense: DenseLeg | None, lexical: LexicalLeg | None
    ) -> Whole | None:
        """None unless both legs are such."""
        if dense is None or lexical is None or not lexical.quick:
            return None
        if not all(shard.exhaustive and shard.stored for shard in dense.shards):
            return None
        return cls(numbering, dense, lexical)

    def search(self, dense: np.ndarray, lexical: csr_matrix, request: Request) -> list[Answer]:
        """The ranking of each query by a weighted sum; see ``Engine.search``."""
        found = [shard.all_scores(dense) for shard in self._dense.shards]
        overlaps = [shard.all_scores(lexical) for shard in self._lexical.shards]
        error = max((own for _, own in found), default=0.0)
        answers = []
        for number, query in enumerate(dense):
            inner = np.concatenate([own[number] for own, _ in found])
            overlap = np.concatenate([own[number] for own in overlaps])
            answer = self._best(query, inner, error, overlap, request)
            if answer is None:
                answer = self._best(query, self._closer(query), 0.0, overlap, request)
                assert answer is not None
            answers.append(answer)
        return answers

    def _closer(self, query: np.ndarray) -> np.ndarray:
        """float32 [n]: inner products of a query [d] that are off by rounding alone."""
        found = [shard.all_scores(query[None], rough=False)[0][0] for shard in self._dense.shards]
        return np.concatenate(found)

    def _too_many(self, documents: np.ndarray, k: int, error: float) -> bool:
        """Whether to begin again with scores that are off by less."""
        return error > 0 and too_many(len(documents), k, int(self._numbering.offsets[-1]))

    def lists(self, query: np.ndarray, lexical: csr_matrix, depth: int) -> tuple[LegList, LegList]:
        """What the two legs would return for one query, proven; for fusions that go by ranks.

        query: float32 [d]; lexical: CSR [1, |V|].
        """
        found = [shard.all_scores(query[None]) for shard in self._dense.shards]
        inner = np.concatenate([own[0] for own, _ in found])
        error = max((own for _, own in found), default=0.0)
        every = [shard.all_scores(lexical)[0] for shard in self._lexical.shards]
        overlap = np.concatenate(every)
        reach = self._reach(query)
        near = self._near(query, inner, depth, reach, error)
        if self._too_many(near, depth, error):
            near = self._near(query, self._closer(query), depth, reach, 0.0)
        share = self._contenders(overlap, depth, 0.0)
        share = share[overlap[share] > 0]
        count = self._numbering.searchable
        return (
            self._listed(near, self._dense.score(query, near), depth, count),
            self._listed(share, overlap[share] / self._lexical.scale, depth, count, every),
        )

    def _near(
        self, query: np.ndarray, inner: np.ndarray, depth: int, reach: float, error: float
    ) -> np.ndarray:
        """The contenders of the dense leg; changes ``inner``."""
        if not reach < SAFE_REACH:
            inner[~np.isfinite(inner)] = np.inf
        return self._contenders(inner, depth, rounding(len(query), reach) + error)

    def _listed(
        self,
        documents: np.ndarray,
        scores: np.ndarray,
        depth: int,
        count: int,
        every: list[np.ndarray] | None = None,
    ) -> LegList:
        check_finite(scores)
        order = self._numbering.order(documents, scores)
        order, left = order[:depth], order[depth:]
        complete = len(order) < depth or depth >= count
        # The last one listed need not have the most of those that are the same as float32.
        bound = (
            -np.inf
            if complete
            else float(max(scores[order[-1]], scores[left].max(initial=-np.inf)))
        )
        if every is not None:
            bound = max(bound, 0.0)
        return LegList(documents[order], scores[order], bound, complete, True, every)

    def _contenders(self, scores: np.ndarray, k: int, error: float) -> np.ndarray:
        """Living documents that may be among the best ``k``; marks the dead in ``scores``."""
        if len(self._dead):
            scores = scores.copy()
            scores[self._dead] = -np.inf
        found = contenders(scores, min(k, self._numbering.searchable), error)
        return found[scores[found] != -np.inf] if len(self._dead) else found

    def _reach(self, query: np.ndarray) -> float:
        """‖q‖ times the largest norm of a document's vector."""
        return float(np.linalg.norm(query.astype(np.float64))) * self._dense.largest_norm()

    def _best(
        self,
        query: np.ndarray,
        inner: np.ndarray,
        error: float,
        overlap: np.ndarray,
        request: Request,
    ) -> Answer | None:
        """inner: float [n], off by ``error`` and rounding. overlap: float64 [n], not yet scaled.

        None where so large an error leaves too many documents to be looked at.
        """
        w_dense, w_lexical = request.fusion.weights_for(2)
        scale, count = self._lexical.scale, self._numbering.searchable
        sums = np.multiply(inner, w_dense, dtype=np.float64)
        sums += overlap * (w_lexical / scale)
        reach = self._reach(query)
        most = float(overlap.max(initial=0.0)) * w_lexical / scale
        if not (reach < SAFE_REACH and w_dense * reach + most < _SAFE_SUM):
            # What overflowed tells nothing of its document, which must be looked at then.
            sums[~np.isfinite(sums)] = np.inf
        margin = w_dense * (rounding(len(query), reach) + error)
        margin += _FEW_ROUNDINGS * (w_dense * reach + most)
        documents = self._contenders(sums, request.k, margin)
        if self._too_many(documents, request.k, error):
            return None
        scores = np.stack([self._dense.score(query, documents), overlap[documents] / scale])
        fused = request.fusion.weigh(scores)
        check_finite(fused)
        kept = self._numbering.order(documents, fused)[: request.k]
        return Answer(
            documents[kept],
            fused[kept].astype(np.float32),
            scores[0, kept].astype(np.float32),
            scores[1, kept].astype(np.float32),
            Certificate(True, count, count),
        )
