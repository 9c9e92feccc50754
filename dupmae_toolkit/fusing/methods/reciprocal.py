"""Reciprocal ranks, and inverse squares of ranks.

rrf: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and individual rank
learning methods, SIGIR 2009, where k is 60. The inverse square rank, isr: Mourão, Martins and
Magalhães, Inverse square rank fusion for multimodal search, CBMI 2014; log-isr and logn-isr, which
damp the number of lists N by a logarithm: the same authors, Multimodal medical information
retrieval with unsupervised rank fusion, Computerized Medical Imaging and Graphics 39, 2015. In
log-isr, a document that only one list holds gets 0, because log 1 is 0; logn-isr adds σ = 0.01 to
N.

Ranks count from 1. In the example, y has the ranks 2 and 1, so with k = 60 it gets 1/62 + 1/61:

>>> from dupmae_toolkit import Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10}})
>>> for method in ("rrf", "isr", "log-isr", "logn-isr"):
...     fused = fuse([a, b], method)["q"]
...     print(f"{method:8}", *fused.ids, *fused.scores.astype(float).round(4).tolist())
rrf      y x z 0.0325 0.0164 0.0159
isr      y x z 2.5 1.0 0.1111
log-isr  y z x 0.8664 0.0 0.0
logn-isr y x z 0.8727 0.01 0.0011
"""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.fusing.method import Method, Parameters

_SIGMA = 0.01
_ADDS_0 = "adds 0"
_MOURAO_2014 = "Mourão, Martins and Magalhães, CBMI 2014"
_MOURAO_2015 = "Mourão, Martins and Magalhães, Computerized Medical Imaging and Graphics 39, 2015"


def _reciprocal(ranks: np.ndarray, parameters: Parameters) -> np.ndarray:
    return np.where(ranks > 0, 1.0 / (parameters.rrf_k + ranks), 0.0)


def _inverse_square(ranks: np.ndarray, _: Parameters) -> np.ndarray:
    return np.where(ranks > 0, 1.0 / np.maximum(ranks, 1).astype(np.float64) ** 2, 0.0)


def _number(count: np.ndarray) -> np.ndarray:
    return count


def _log(count: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(count, 1))


def _log_of_more(count: np.ndarray) -> np.ndarray:
    return np.log(np.maximum(count, 1) + _SIGMA)


METHODS = (
    Method(
        "rrf",
        "Σ weight / (k + rank)",
        "Cormack, Clarke and Büttcher, SIGIR 2009",
        weighted=True,
        lacking=_ADDS_0,
        of_ranks=_reciprocal,
    ),
    *(
        Method(name, formula, source, lacking=_ADDS_0, of_ranks=_inverse_square, factor=factor)
        for name, formula, source, factor in (
            ("isr", "N × Σ 1 / rank², N lists hold the document", _MOURAO_2014, _number),
            ("log-isr", "log N × Σ 1 / rank²", _MOURAO_2015, _log),
            ("logn-isr", "log (N + 0.01) × Σ 1 / rank²", _MOURAO_2015, _log_of_more),
        )
    ),
)
