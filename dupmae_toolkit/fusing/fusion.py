"""How ranked lists are fused: a method, a norm, weights, and what a missing score counts as."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.method import MISSING, NORMS, Parameters
from dupmae_toolkit.fusing.norms import normalise
from dupmae_toolkit.fusing.registry import METHODS, unknown

#: How equal fused scores are ordered: where runs are fused, and in a search of an index.
TIES = "document id descending, by code points, as in trec_eval"
SEARCH_TIES = "document id ascending, by code points"


@dataclass(frozen=True, slots=True)
class Fusion:
    """How lists are fused.

    method: one of ``registry.METHODS``, which gives formulas and sources: ``sum`` (Σ weight ×
    score, the joint score), ``linear`` (Σ weight × normalised score), ``rrf`` (Σ weight /
    (rrf_k + rank), ranks from 1), ``combsum``, ``combmnz``, ``combanz``, ``combmin``, ``combmax``,
    ``combmed``, ``isr``, ``log-isr``, ``logn-isr``, ``rbc``, ``borda``, ``condorcet``, ``dbsf``. A
    search of an index takes those of ``search.fusion.METHODS``.
    weights: one for each list, finite and not negative; None: 1 each, for ``linear`` 1 / lists.
    norm: see ``norms``; None: the method's default, which is min-max if the method takes norms.
    missing: the normalised score of a document in a list that lacks it, if scores are not
    completed: ``zero``; ``min``, the smallest that the list holds for the topic; or ``leave-out``:
    the list does not count for this document. None: zero, but leave-out for ``combmin``,
    ``combmax`` and ``combmed``. In a sum, leave-out has the same effect as zero. After the norms
    min-max, theoretical, rank and sum, no score is below zero. Methods of ranks have rules of their
    own, which ``describe`` states.
    rrf_k, persistence: the k of ``rrf``; the p of ``rbc``, between 0 and 1.
    low: the lowest score that each list can have, for the norm ``theoretical``; one for each list,
    or one for all.

    Raises InputError for settings that do not fit together.
    """

    method: str = "sum"
    weights: tuple[float, ...] | None = None
    norm: str | None = None
    missing: str | None = None
    rrf_k: float = 60.0
    persistence: float = 0.8
    low: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise unknown("fusion", self.method, METHODS)
        if self.missing is not None and self.missing not in MISSING:
            raise unknown("missing", self.missing, MISSING)
        if self.norm is not None:
            self._check_norm(self.norm)
        if self.weights is not None:
            self._check_weights()
        for name in ("rrf_k", "persistence"):
            if not isinstance(value := getattr(self, name), Real) or isinstance(value, bool):
                raise InputError(f"{name} is {value!r}; give a number")
            try:
                float(value)
            except OverflowError as error:  # an integer may be longer than any float
                raise InputError(f"{name} is too large") from error
        if not (math.isfinite(self.rrf_k) and self.rrf_k > 0):
            raise InputError(f"rrf's k is {self.rrf_k}; it must be more than 0")
        if not 0 < self.persistence < 1:
            raise InputError(f"rbc's persistence is {self.persistence}; it must be between 0 and 1")
        if (self.norm == "theoretical") != (self.low is not None):
            raise InputError(
                "norm theoretical needs the lowest score that each list can have (--low 0,-1, "
                "low=…); other norms take none"
            )
        if self.low is not None:
            object.__setattr__(self, "low", _numbers("low", self.low))
            if not self.low or not all(map(math.isfinite, self.low)):
                raise InputError(f"low {_list(self.low)}: give finite numbers, one for each list")

    def _check_norm(self, norm: str) -> None:
        if norm in METHODS[self.method].norms:
            return
        if norm not in NORMS:
            raise unknown("norm", norm, NORMS)
        if self.method == "combmnz":
            raise InputError(
                f"combmnz multiplies by the number of lists, which would punish {norm}s below "
                "0; use norm min-max or another fusion"
            )
        if self.method == "dbsf":
            raise InputError("fusion dbsf has its own norm; use linear for another norm")
        raise InputError(f"fusion {self.method} normalises nothing; use linear for norm {norm}")

    def _check_weights(self) -> None:
        weights = self.weights
        if type(weights) is not tuple or set(map(type, weights)) != {float}:
            weights = _numbers("weights", weights)
            object.__setattr__(self, "weights", weights)
        if not METHODS[self.method].weighted:
            raise InputError(f"fusion {self.method} takes no weights; use linear")
        good = all(map(math.isfinite, weights)) and min(weights, default=0) >= 0
        if not good or not any(weights):
            raise InputError(
                f"weights {_list(weights)}: each must be a finite number of at least 0, "
                "and one of them more than 0"
            )

    @property
    def normalisation(self) -> str:
        return self.norm or METHODS[self.method].norms[0]

    @property
    def is_sum(self) -> bool:
        """Whether the fused score is Σ weight × score with the same weights for every query."""
        if self.method not in ("sum", "linear", "combsum"):
            return False
        return (self.norm or METHODS[self.method].norms[0]) == "none"

    @property
    def reads_scores(self) -> bool:
        """Whether fused scores depend on the scores of the lists, not only on ranks."""
        return METHODS[self.method].of_ranks is None

    def weights_for(self, lists: int) -> tuple[float, ...]:
        """The weights of ``lists`` lists; InputError where another number was given."""
        if self.weights is None:
            return (1 / lists if self.method == "linear" else 1.0,) * lists
        if len(self.weights) != lists:
            raise InputError(
                f"weights {_list(self.weights)}: {len(self.weights)} given for {lists} lists"
            )
        return self.weights

    def lowest_for(self, lists: int) -> tuple[float, ...]:
        """The lowest score of each of ``lists`` lists; InputError where another number was given.

        0 where the norm needs none.
        """
        low = self.low or (0.0,)
        if len(low) not in (1, lists):
            raise InputError(f"low {_list(low)}: {len(low)} given for {lists} lists")
        return low * lists if len(low) == 1 else low

    def describe(self, lists: int, completed: bool) -> dict[str, Any]:
        """The method for a run's metadata. completed: every list has every candidate's score.

        They are completed in a search of an index, which also orders equal scores in another way
        than ``fuse``.
        """
        method = METHODS[self.method]
        if method.of_ranks is not None:
            missing = method.lacking
        elif completed:
            missing = "completed: computed from the stored vectors"
        else:
            missing = {
                "zero": "0 after normalisation",
                "min": "the list's smallest score for the topic, after normalisation",
                "leave-out": "left out: a list without the document does not count",
            }[self.missing or method.missing]
        described: dict[str, Any] = {
            "method": self.method,
            "weights": list(self.weights_for(lists)),
            "normalisation": self.normalisation,
            "missing": missing,
            "ties": SEARCH_TIES if completed else TIES,
        }
        if self.method == "rrf":
            described["rrf_k"] = self.rrf_k
        if self.method == "rbc":
            described["persistence"] = self.persistence
        if self.low is not None:
            described["low"] = list(self.lowest_for(lists))
        return described

    def fuse(self, scores: np.ndarray, ranks: np.ndarray, completed: bool = False) -> np.ndarray:
        """The fused scores of one topic's n candidates, float64 [n].

        scores: float64 [lists, n]; scores with rank 0 are read only if ``completed``, because only
        then are they known. ranks: int [lists, n] from 1; 0: the list does not hold the candidate.
        """
        method = METHODS[self.method]
        if method.whole is not None:
            values = np.array(self._values(scores, ranks, completed))
            return method.whole(values, np.array(self.weights_for(len(values))))
        fused = np.zeros(len(ranks[0]), dtype=np.float64)
        for part in self.contributions(scores, ranks, completed):
            fused += part
        if method.factor is not None:
            fused *= method.factor((np.asarray(ranks) > 0).sum(axis=0))
        return fused

    def contributions(
        self, scores: np.ndarray, ranks: np.ndarray, completed: bool = False
    ) -> list[np.ndarray]:
        """What each list adds to the fused scores, float64 [n]; arguments as in ``fuse``.

        For ``combmnz`` and other methods with a factor: what is added before the sum is multiplied
        by it. For methods that are not sums: the values that they combine.
        """
        values = self._values(scores, ranks, completed)
        weights = self.weights_for(len(values))
        return [weight * value for weight, value in zip(weights, values, strict=True)]

    def weigh(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Σ weight × score, float64 [n], of each list's scores, float64 [n]; for ``is_sum`` only.

        It adds in the same order as ``fuse``, so that the bits are the same.
        """
        fused = np.zeros(len(scores[0]))
        for list_scores, weight in zip(scores, self.weights_for(len(scores)), strict=True):
            fused += weight * list_scores
        return fused

    def _values(self, scores: np.ndarray, ranks: np.ndarray, completed: bool) -> list[np.ndarray]:
        """Each list's unweighted values of all candidates: normalised scores, or values by rank."""
        ranks = np.asarray(ranks)
        of_ranks = METHODS[self.method].of_ranks
        if of_ranks is not None:
            parameters = Parameters(self.rrf_k, self.persistence)
            return [of_ranks(row, parameters) for row in ranks]
        lowest = self.lowest_for(len(ranks)) if self.low is not None else (0.0,) * len(ranks)
        return [
            self._part(np.asarray(row, np.float64), places, completed, low)
            for row, places, low in zip(scores, ranks, lowest, strict=True)
        ]

    def _part(
        self, scores: np.ndarray, ranks: np.ndarray, completed: bool, low: float
    ) -> np.ndarray:
        """One list's normalised scores of all candidates; NaN where the list is left out."""
        held = ranks > 0
        method = METHODS[self.method]
        missing = self.missing or method.missing
        fill = np.nan if method.whole is not None and missing != "zero" else 0.0
        norm = self.normalisation
        if not held.any() and not (completed and norm == "none"):
            # A list that holds nothing adds nothing, and has no minimum and no mean.
            return np.full(len(scores), fill)
        known = np.ones_like(held) if completed else held
        part = np.full(len(scores), fill)
        part[known] = normalise(scores[known], norm, ranks[known], low)
        if missing == "min" and not completed:
            part[~known] = part[known].min()
        return part


def _numbers(what: str, values: Any) -> tuple[float, ...]:
    """Several numbers as a tuple of floats; InputError for anything else."""
    try:
        all(map(math.isfinite, values))  # takes no strings, as float would
        return tuple(map(float, values))
    except (TypeError, ValueError, OverflowError) as error:
        raise InputError(
            f"{what} {values!r}: give a number for each list, as in (0.3, 0.7)"
        ) from error


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
