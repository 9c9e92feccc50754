"""When a ranking is proven: no document that was not looked at can stand in it.

For a weighted sum, a document in neither leg's list scores at most w_d · (what the dense leg left
out at most) + w_l · (the same of the lexical leg): the threshold of Fagin, Lotem and Naor, Optimal
aggregation algorithms for middleware, 2003, section 4. Documents in one list only need no bound;
they have been completed. The k-th score must lie above the threshold, not on it: a document outside
with the same score could have the smaller id.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dupmae_toolkit.search.legs import LegList, above


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether one query's ranking is proven to be that of all documents, and how deep it took.

    The depths count documents read from each leg; None: the leg was not asked.
    """

    certified: bool
    dense_depth: int | None
    lexical_depth: int | None

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def proves_sum(
    scores: np.ndarray,
    k: int,
    weights: tuple[float, ...],
    dense_list: LegList,
    lexical_list: LegList,
) -> bool:
    """Whether the first ``k`` fused scores, float64 [n] in falling order, are proven."""
    if len(dense_list.documents) and dense_list.complete:
        return True  # the dense leg returns every document
    # The arithmetic of the fusion itself, which rises with each part even where it rounds.
    threshold = 0.0
    for weight, listed in zip(weights, (dense_list, lexical_list), strict=True):
        threshold += weight * listed.bound if weight else 0.0
    return above(scores, k, threshold)
