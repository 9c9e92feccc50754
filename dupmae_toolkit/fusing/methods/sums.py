"""Sums of scores: as they are, or normalised; times the number of lists, or divided by it.

CombSUM, CombMNZ and CombANZ are from Fox and Shaw, Combination of multiple searches, TREC-2, 1994.
A sum with weights is the linear combination of Vogt and Cottrell, Fusion via a linear combination
of scores, Information Retrieval 1, 1999.

In the example, list a has the scores 4, 3 and 2; b has 10 and 5. By min-max, x has 1 and 0, y 0.5
and 1, and z has 0 in its only list:

>>> from dupmae_toolkit import Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10, "x": 5}})
>>> for method in ("sum", "linear", "combsum", "combmnz", "combanz"):
...     print(method, fuse([a, b], method).to_dict()["q"])
sum {'y': 13.0, 'x': 9.0, 'z': 2.0}
linear {'y': 0.75, 'x': 0.5, 'z': 0.0}
combsum {'y': 1.5, 'x': 1.0, 'z': 0.0}
combmnz {'y': 3.0, 'x': 2.0, 'z': 0.0}
combanz {'y': 0.75, 'x': 0.5, 'z': 0.0}
"""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.fusing.method import Method, usually

_FOX_SHAW = "Fox and Shaw, TREC-2, 1994"
_LINEAR = "Vogt and Cottrell, Information Retrieval 1, 1999"


def _times_lists(count: np.ndarray) -> np.ndarray:
    return count


def _per_list(count: np.ndarray) -> np.ndarray:
    return 1 / np.maximum(count, 1)


METHODS = (
    Method("sum", "Σ weight × score", _LINEAR, weighted=True),
    Method("linear", "Σ weight × normalised score", _LINEAR, usually("min-max"), weighted=True),
    Method("combsum", "Σ normalised score", _FOX_SHAW, usually("min-max")),
    # Multiplying by the number of lists would punish scores below 0, as z-scores often are.
    Method(
        "combmnz",
        "combsum × number of lists that hold the document",
        _FOX_SHAW,
        tuple(norm for norm in usually("min-max") if norm != "z-score"),
        factor=_times_lists,
    ),
    Method(
        "combanz",
        "combsum / number of lists that hold the document",
        _FOX_SHAW,
        usually("min-max"),
        factor=_per_list,
    ),
)
