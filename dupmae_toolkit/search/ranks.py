"""The exact rank of given documents, in the list of one part and in the ranking by a weighted sum.

Where the legs give the scores of all documents, those that score more are counted. Otherwise the
ranking is searched, up to a limit, and proven.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np

from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.engine import Engine
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.ranking import Leg

#: How deep a leg, and a ranking by several, are searched for a document; first the lesser depth.
LEG_DEPTHS = (1000, 10_000)
RANKING_DEPTHS = (100, 1000)


class Rank(NamedTuple):
    """A rank from 1. None: the document is not in the list, or ranks below ``beyond``."""

    rank: int | None
    beyond: int | None = None


def leg_ranks(leg: Leg, queries: Any, documents: np.ndarray) -> list[Rank]:
    """The ranks of documents, by number, in the list of one part.

    queries: those of the leg, one query. A document that shares no term with the query is in no
    list of terms.
    """
    scores = leg.score(queries, 0, documents)
    held = np.ones(len(documents), bool) if leg.returns_all else scores > 0
    if leg.gives_all_scores:
        found, error = _all_scores(leg, queries)
        ahead = _places(
            leg.numbering, found, error, lambda some: leg.score(queries, 0, some), documents, scores
        )
        return [
            Rank(place if listed else None)
            for place, listed in zip(ahead, held.tolist(), strict=True)
        ]

    def ranked(depth: int) -> np.ndarray:
        return leg.ask(queries).search(np.arange(1), depth, exact=True)[0].documents

    return searched_ranks(ranked, documents, held, LEG_DEPTHS)


def fused_ranks(
    engine: Engine, queries: Mapping[str, Any], request: Request, documents: np.ndarray
) -> list[Rank]:
    """The ranks of documents, by number, in the ranking of all documents by a weighted sum.

    queries: those of each part of the request, one query. The request's fusion must be a sum.
    """
    parts = request.parts
    legs = {part: engine.legs[part] for part in parts}
    if len(parts) == 1:
        return leg_ranks(legs[parts[0]], queries[parts[0]], documents)

    def exact(some: np.ndarray) -> np.ndarray:
        return request.fusion.weigh([legs[part].score(queries[part], 0, some) for part in parts])

    if all(leg.gives_all_scores for leg in legs.values()):
        weights = request.fusion.weights_for(len(parts))
        total: Any = 0.0
        margin = 0.0
        for part, weight in zip(parts, weights, strict=True):
            found, error = _all_scores(legs[part], queries[part])
            total = total + weight * found
            margin += weight * error
        numbering = legs[parts[0]].numbering
        ahead = _places(numbering, total, margin, exact, documents, exact(documents))
        return [Rank(place) for place in ahead]

    def ranked(depth: int) -> np.ndarray:
        deeper = replace(request, k=depth, depth=max(depth, request.depth), exact=True)
        return engine.search(queries, deeper)[0].documents

    return searched_ranks(ranked, documents, np.ones(len(documents), bool), RANKING_DEPTHS)


def _all_scores(leg: Leg, queries: Any) -> tuple[np.ndarray, float]:
    """A query's scores with all documents, float64 [n], NaN where unknown, and their error."""
    with np.errstate(over="ignore", invalid="ignore"):
        (found,), error = leg.all_scores(queries, rough=False)
        bound, rounding = leg.error_bounds(queries, 0, found)
    scores = np.array(found, np.float64) / leg.scale
    if not bound < leg.safe_score:
        scores[~np.isfinite(scores)] = np.nan  # it overflowed on the way, and says nothing
    return scores, (error + rounding) / leg.scale


def _places(
    numbering: Numbering,
    scores: np.ndarray,
    error: float,
    exact: Callable[[np.ndarray], np.ndarray],
    documents: np.ndarray,
    own: np.ndarray,
) -> list[int]:
    """The ranks of documents, whose exact scores are ``own``, among all living ones.

    scores: float64 [n] of all documents, off by at most ``error``. exact: gives those of some
    documents. Rankings compare scores as float32, then ids.
    """
    live = [
        np.ones(int(end - start), bool) if mask is None else mask
        for start, end, mask in zip(
            numbering.offsets, numbering.offsets[1:], numbering.live, strict=False
        )
    ]
    living = np.flatnonzero(np.concatenate(live))
    known = scores[living]
    ranks = []
    for document, score in zip(documents.tolist(), own.tolist(), strict=True):
        # Scores this close may be equal as float32, or in the other order by their error.
        margin = error + (abs(score) + error) * 2.0**-21 + 2.0**-148
        above = known > score + margin
        near = living[~(above | (known < score - margin))]  # NaN is near everything
        near = near[near != document]
        rivals = np.concatenate([[document], near])
        order = numbering.order(rivals, np.concatenate([[score], exact(near)]))
        ranks.append(1 + int(above.sum()) + int(np.flatnonzero(order == 0)[0]))
    return ranks


def searched_ranks(
    ranked: Callable[[int], np.ndarray],
    documents: np.ndarray,
    held: np.ndarray,
    depths: Sequence[int],
) -> list[Rank]:
    """Where documents stand in a ranking that is searched until all of them are found.

    ranked: gives the documents of a ranking down to a depth. held: which of them it can contain.
    """
    ranks = [Rank(None)] * len(documents)
    missing = np.flatnonzero(held).tolist()
    for depth in depths:
        if not missing:
            break
        found = ranked(depth)
        places = dict(zip(found.tolist(), range(1, len(found) + 1), strict=True))
        for place in missing:
            rank = places.get(int(documents[place]))
            ranks[place] = Rank(rank, None if rank is not None else depth)
        missing = [place for place in missing if ranks[place].rank is None]
    return ranks
