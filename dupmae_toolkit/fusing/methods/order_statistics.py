"""The lowest, the highest or the median of a document's scores.

CombMIN, CombMAX and CombMED are from Fox and Shaw, Combination of multiple searches, TREC-2, 1994.
By default, lists that lack the document are left out. The median of two scores is their mean.

>>> from dupmae_toolkit import Fusion, Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10, "x": 5}})
>>> for method in ("combmin", "combmax", "combmed"):
...     print(method, fuse([a, b], Fusion(method, norm="none")).to_dict()["q"])
combmin {'x': 4.0, 'y': 3.0, 'z': 2.0}
combmax {'y': 10.0, 'x': 5.0, 'z': 2.0}
combmed {'y': 6.5, 'x': 4.5, 'z': 2.0}
"""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.fusing.method import Method, usually

_FOX_SHAW = "Fox and Shaw, TREC-2, 1994"


def _least(values: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.fmin.reduce(values, axis=0)


def _highest(values: np.ndarray, _: np.ndarray) -> np.ndarray:
    return np.fmax.reduce(values, axis=0)


def _median(values: np.ndarray, _: np.ndarray) -> np.ndarray:
    """Like np.nanmedian, which is slow for many columns."""
    rising = np.sort(values, axis=0)  # NaN last
    held = (~np.isnan(values)).sum(axis=0)
    columns = np.arange(values.shape[1])
    return (rising[(held - 1) // 2, columns] + rising[held // 2, columns]) / 2


METHODS = tuple(
    Method(name, formula, _FOX_SHAW, usually("min-max"), missing="leave-out", whole=whole)
    for name, formula, whole in (
        ("combmin", "the lowest normalised score", _least),
        ("combmax", "the highest normalised score", _highest),
        ("combmed", "the median of the normalised scores", _median),
    )
)
