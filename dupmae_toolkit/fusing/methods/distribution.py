"""Distribution-based score fusion: where a score lies in the spread of its list.

Mazzeschi, Distribution-based score fusion, 2023, with the sample standard deviation as in Qdrant:
the mean of a list becomes 0.5; three standard deviations below and above it become 0 and 1. What
lies further out is not cut off. In the example, list a has the mean 3 and the deviation 1:

>>> from dupmae_toolkit import Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10}})
>>> fused = fuse([a, b], "dbsf")["q"]
>>> print(*fused.ids, *fused.scores.astype(float).round(4).tolist())
y x z 1.0 0.6667 0.3333
"""

from __future__ import annotations

from dupmae_toolkit.fusing.method import Method

METHODS = (
    Method(
        "dbsf",
        "Σ weight × (score − mean + 3 s) / (6 s), s the standard deviation",
        "Mazzeschi 2023; Qdrant",
        norms=("dbsf",),
        weighted=True,
    ),
)
