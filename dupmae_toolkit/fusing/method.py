"""What a method of fusion is made of.

A method turns each list into a value for every candidate: a normalised score, or a function of the
rank. Then it adds up the values, each times the weight of its list, and may multiply the sum by a
function of the number of lists that hold the candidate. A few methods combine the values in other
ways.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

#: The norms to choose from, see ``norms``.
NORMS = ("none", "min-max", "theoretical", "z-score", "rank", "sum", "dbsf")
#: What a missing score can count as, see ``Fusion``.
MISSING = ("zero", "min", "leave-out")


@dataclass(frozen=True, slots=True)
class Parameters:
    """The numbers that some methods read: rrf's k, and the persistence of rbc."""

    rrf_k: float = 60.0
    persistence: float = 0.8


@dataclass(frozen=True, slots=True)
class Method:
    """A method of fusion.

    formula: the fused score in one line. source: where it was published. norms: those that can be
    chosen, the default first; ``("none",)`` for methods that take scores as they are, or only
    ranks. weighted: whether lists can have weights. missing: what a missing score counts as by
    default; lacking: what a method of ranks does with a list that lacks the candidate, in words.

    of_ranks: for a method of ranks, computes the values of the n candidates in one list from their
    ranks, int [n] from 1 (0 where the list lacks them), and the parameters. factor: computes what
    the sum is multiplied by from the number of lists that hold each candidate, int [n]. whole:
    replaces the weighted sum; takes the values, float64 [lists, n], NaN where a list is left out,
    and the weights, float64 [lists].
    """

    name: str
    formula: str
    source: str
    norms: tuple[str, ...] = ("none",)
    weighted: bool = False
    missing: str = "zero"
    lacking: str = ""
    of_ranks: Callable[[np.ndarray, Parameters], np.ndarray] | None = None
    factor: Callable[[np.ndarray], np.ndarray] | None = None
    whole: Callable[[np.ndarray, np.ndarray], np.ndarray] | None = None


def usually(norm: str) -> tuple[str, ...]:
    """All norms, with ``norm``, the default, first."""
    return (norm, *(each for each in NORMS if each != norm))
