"""Rank-biased centroids, with the user model of rank-biased precision.

Bailey, Moffat, Scholer and Thomas, Retrieval consistency in the presence of query variations, SIGIR
2017. A reader goes on to the next rank with probability p, the persistence, so rank r has weight
(1 − p) · p^(r − 1). In the example p is 0.8, so y gets 0.2 · 0.8 + 0.2:

>>> from dupmae_toolkit import Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10}})
>>> fused = fuse([a, b], "rbc")["q"]
>>> print(*fused.ids, *fused.scores.astype(float).round(4).tolist())
y x z 0.36 0.2 0.128
"""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.fusing.method import Method, Parameters


def _weight_of_rank(ranks: np.ndarray, parameters: Parameters) -> np.ndarray:
    persistence = parameters.persistence
    return np.where(ranks > 0, (1 - persistence) * persistence ** (ranks - 1.0), 0.0)


METHODS = (
    Method(
        "rbc",
        "Σ weight × (1 − p) × p^(rank − 1)",
        "Bailey, Moffat, Scholer and Thomas, SIGIR 2017",
        weighted=True,
        lacking="adds 0",
        of_ranks=_weight_of_rank,
    ),
)
