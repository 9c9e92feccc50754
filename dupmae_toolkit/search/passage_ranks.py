"""The exact ranks of documents in an index of passages."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.explanation import FUSED
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.ranks import RANKING_DEPTHS, Rank, searched_ranks

if TYPE_CHECKING:
    from dupmae_toolkit.search.snapshot import Snapshot


def document_ranks(
    snapshot: Snapshot, inputs: Mapping[str, Any], request: Request, rows: np.ndarray
) -> list[dict[str, Rank]]:
    """Where the documents of these rows rank, in the list of each part and in the final ranking.

    inputs: one query, for each part of the request. In a part's list, a document's best passage for
    that part counts, which may be another than the best in the final ranking. A fusion of ranks or
    norms ranks only the documents of the passages that its lists hold.
    """
    assert snapshot.passages is not None
    of, by_document = snapshot.passages.documents, snapshot.by_document
    assert by_document is not None
    wanted = of[rows]
    engine = snapshot.engine(request.parts)

    def ranks(asked: Request, held: np.ndarray) -> list[Rank]:
        def ranked(depth: int) -> np.ndarray:
            deeper = replace(asked, k=depth, offset=None, depth=max(depth, asked.depth), exact=True)
            found = by_document.search(engine, engine, inputs, deeper)[0]
            return of[found.documents]

        return searched_ranks(ranked, wanted, held, RANKING_DEPTHS)

    found: dict[str, list[Rank]] = {}
    for part in request.parts:
        leg = engine.legs[part]
        held = np.ones(len(rows), bool)
        if not leg.returns_all:
            every = [snapshot.passages.rows_of(np.array([place])) for place in wanted]
            held = np.array([(leg.score(inputs[part], 0, own) > 0).any() for own in every], bool)
        alone = replace(request, mode=part, parts=(part,), fusion=Fusion())
        found[part] = ranks(alone, held)
    if len(request.parts) == 1:
        found[FUSED] = found[request.parts[0]]
    elif request.fusion.is_sum:
        found[FUSED] = ranks(request, np.ones(len(rows), bool))
    else:
        lists = replace(request, k=request.depth, offset=0)  # a page: of lists of this depth
        answer = by_document.search(engine, engine, inputs, lists)[0]
        places = of[answer.documents].tolist()
        found[FUSED] = [
            Rank(places.index(place) + 1 if place in places else None) for place in wanted.tolist()
        ]
    return [{name: own[place] for name, own in found.items()} for place in range(len(rows))]
