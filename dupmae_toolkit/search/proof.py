"""The bound that proves a fused ranking: no document outside the legs' lists can belong in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(slots=True)
class RankedList:
    """One leg's answer to one query.

    documents: int64 numbers, by score as float32 descending, then by id. scores: float64, exact.
    bound: no document outside the list scores more; infinite if nothing is known, minus infinity if
    no document is outside. proven: no document outside the list belongs in it.
    """

    documents: np.ndarray
    scores: np.ndarray
    bound: float
    proven: bool


def proves_sum(
    scores: np.ndarray, k: int, weights: Sequence[float], lists: Sequence[RankedList]
) -> bool:
    """Whether the first ``k`` scores of a weighted sum, float64 [n], descending, are proven.

    A document outside all lists scores at most Σ weight × (the bound of the leg's list): the
    threshold of Fagin, Lotem and Naor, Optimal aggregation algorithms for middleware, 2003, section
    4. A document in any of the lists needs no bound: its other scores have been completed. The k-th
    score must be above the threshold. Equal is not enough: a document outside with the same score
    could have the smaller id.
    """
    if any(len(listed.documents) and listed.bound == -np.inf for listed in lists):
        return True  # no document is outside that list
    # Summed as the fusion sums, which is monotonic in each part even with rounding.
    threshold = 0.0
    for weight, listed in zip(weights, lists, strict=True):
        threshold += weight * listed.bound if weight else 0.0
    return above(scores, k, threshold)


def above(scores: np.ndarray, k: int, bound: float) -> bool:
    """Whether the k-th of ``scores``, descending, exists and exceeds the bound, as float32."""
    return len(scores) >= k and bool(np.float32(scores[k - 1]) > np.float32(bound))
