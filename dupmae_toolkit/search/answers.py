"""What is asked of a search, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.search.exact import Certificate
from dupmae_toolkit.search.fusion import Fusion

MODES = ("hybrid", "dense", "lexical")


@dataclass(slots=True)
class Answer:
    """The ranking of one query: n documents by number, best first, scores as float32 [n].

    dense, lexical: the completed parts, float32 [n]; None where the mode has no such part.
    view: the state of the index whose numbers these are, for who may meet several.
    """

    documents: np.ndarray
    scores: np.ndarray
    dense: np.ndarray | None
    lexical: np.ndarray | None
    certificate: Certificate
    view: Any = None


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked of every query. depth: what each leg returns at first, at least ``k``."""

    k: int = 10
    mode: str = "hybrid"
    fusion: Fusion = field(default_factory=Fusion)
    depth: int = 100
    exact: bool = False

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"there is no mode {self.mode!r}; choose one of {', '.join(MODES)}")
        check_k(self.k)
        if self.depth < self.k:
            raise InputError(f"depth is {self.depth}; it must be at least k, which is {self.k}")
        if self.mode != "hybrid":
            return
        self.fusion.weights_for(2)
        if self.exact and not self.fusion.is_sum:
            raise InputError(
                f"fusion {self.fusion.method} with norm {self.fusion.normalisation} depends on "
                "which documents are looked at and cannot be certified exact; use sum, or linear "
                "or combsum with norm none"
            )


def check_k(k: Any) -> None:
    """Raise InputError unless ``k`` is a whole number of at least 1."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise InputError(f"k is {k!r}; it must be a whole number of at least 1")
