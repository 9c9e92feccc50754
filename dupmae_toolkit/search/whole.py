"""Sums over all documents: where both scores of each are computed anyway, nothing need be missed.

A Flat dense index compares the query with every vector, and postings in memory are added up for
every document. The weighted sum of the two is then known for each, the dense part up to the
rounding of float32; so the best are picked from it with a margin, their scores computed exactly,
and the ranking is that of all documents, proven, for less work than merging the lists of two legs.
"""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.search.answers import Answer, Request
from dupmae_toolkit.search.exact import Certificate
from dupmae_toolkit.search.legs import (
    SAFE_REACH,
    SLACK,
    DenseLeg,
    LexicalLeg,
    above,
    check_finite,
    likely_rounding,
    rounding,
)
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.scanning import MOST_SCORES, best

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
        inner = [shard.all_scores(dense) for shard in self._dense.shards]
        overlaps = [shard.all_scores(lexical) for shard in self._lexical.shards]
        return [
            self._best(
                query,
                np.concatenate([own[number] for own in inner]),
                np.concatenate([own[number] for own in overlaps]),
                request,
            )
            for number, query in enumerate(dense)
        ]

    def _best(
        self, query: np.ndarray, inner: np.ndarray, overlap: np.ndarray, request: Request
    ) -> Answer:
        """inner: float32 [n], rounded somehow. overlap: float64 [n], exact, not yet scaled."""
        w_dense, w_lexical = request.fusion.weights_for(2)
        scale, count = self._lexical.scale, self._numbering.searchable
        sums = inner.astype(np.float64) * w_dense
        sums += overlap * (w_lexical / scale)
        reach = float(np.linalg.norm(query.astype(np.float64))) * self._dense.largest_norm()
        most = float(overlap.max(initial=0.0)) * w_lexical / scale
        if not (reach < SAFE_REACH and w_dense * reach + most < _SAFE_SUM):
            # What overflowed tells nothing of its document, which must be looked at then.
            sums[~np.isfinite(sums)] = np.inf
        sums[self._dead] = -np.inf
        small = _FEW_ROUNDINGS * (w_dense * reach + most)
        margin = w_dense * rounding(len(query), reach) + small
        likely = w_dense * likely_rounding(len(query), reach) + small
        ask = request.k + SLACK
        while True:
            found, rough = best(sums, min(ask, count))
            documents = found.astype(np.int64)
            scores = np.stack([self._dense.score(query, documents), overlap[documents] / scale])
            fused = request.fusion.weigh(scores)
            check_finite(fused)
            order = self._numbering.order(documents, fused)
            falling = fused[order]
            last = float(rough[-1]) if len(rough) else 0.0
            proven = ask >= count or above(falling, request.k, last + margin)
            if proven or (not request.exact and above(falling, request.k, last + likely)):
                break
            ask *= 4
        kept = order[: request.k]
        return Answer(
            documents[kept],
            fused[kept].astype(np.float32),
            scores[0, kept].astype(np.float32),
            scores[1, kept].astype(np.float32),
            Certificate(proven, count, count),
        )
