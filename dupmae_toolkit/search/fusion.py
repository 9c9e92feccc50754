"""Fusing several ranked lists of a topic into one.

It is used for the legs of a search, whose missing scores have been computed, and for run files from
elsewhere, where a rule says what a missing score counts as. ``Fusion.describe`` gives the
normalisation, that rule and how ties break, for a run's metadata.

Sources of the formulas: reciprocal rank fusion with ranks from 1 and k = 60, Cormack, Clarke and
Büttcher, SIGIR 2009; CombSUM and CombMNZ, Fox and Shaw, TREC-2, 1994.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, Literal, get_args

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Ranking, Run, falling_order

Method = Literal["sum", "linear", "rrf", "combsum", "combmnz"]
METHODS: tuple[str, ...] = get_args(Method)
NORMS = ("none", "min-max", "z-score")
MISSING = ("zero", "min")
TIES = "document id ascending, by code points"

_DEFAULT_NORM = {"sum": "none", "linear": "min-max", "combsum": "min-max", "combmnz": "min-max"}
_WEIGHTED = ("sum", "linear", "rrf")


@dataclass(frozen=True, slots=True)
class Fusion:
    """How lists are fused.

    method: ``sum`` (Σ weight × score, the joint score), ``linear`` (Σ weight × normalised score),
    ``combsum`` (Σ normalised score), ``combmnz`` (CombSUM × number of lists that hold the document;
    meant for scores of at least 0), ``rrf`` (Σ weight / (rrf_k + rank), ranks from 1).
    weights: one for each list, finite and not negative; None: 1 each, for ``linear`` 1 / lists.
    norm: None: min-max, but none for ``sum``; ``rrf`` uses only ranks.
    missing: the normalised score of a document in a list that lacks it, if scores are not
    completed: ``zero``, or ``min``, the smallest that the list holds for the topic. For ``rrf``
    such a list always adds 0.

    Raises InputError for settings that make no sense together.
    """

    method: str = "sum"
    weights: tuple[float, ...] | None = None
    norm: str | None = None
    missing: str = "zero"
    rrf_k: float = 60.0

    def __post_init__(self) -> None:
        _choose("fusion", self.method, METHODS)
        _choose("missing", self.missing, MISSING)
        if self.norm is not None:
            _choose("norm", self.norm, NORMS)
            if self.norm != "none" and self.method in ("sum", "rrf"):
                raise InputError(
                    f"fusion {self.method} normalises nothing; use linear for norm {self.norm}"
                )
            if self.norm == "z-score" and self.method == "combmnz":
                raise InputError(
                    "combmnz multiplies by the number of lists, which would punish z-scores below "
                    "0; use norm min-max or another fusion"
                )
        if self.weights is not None:
            if self.method not in _WEIGHTED:
                raise InputError(f"fusion {self.method} takes no weights; use linear")
            good = all(map(math.isfinite, self.weights)) and min(self.weights, default=0) >= 0
            if not good or not any(self.weights):
                raise InputError(
                    f"weights {_list(self.weights)}: each must be a finite number of at least 0, "
                    "and one of them more than 0"
                )
        if not (math.isfinite(self.rrf_k) and self.rrf_k > 0):
            raise InputError(f"rrf's k is {self.rrf_k}; it must be more than 0")

    @property
    def normalisation(self) -> str:
        return self.norm or _DEFAULT_NORM.get(self.method, "none")

    @property
    def is_sum(self) -> bool:
        """Whether the fused score is Σ weight × score with the same weights for every query."""
        return self.method in ("sum", "linear", "combsum") and self.normalisation == "none"

    @property
    def reads_scores(self) -> bool:
        """Whether a fused score depends on more than ranks."""
        return self.method != "rrf"

    def weights_for(self, lists: int) -> tuple[float, ...]:
        """The weights of ``lists`` lists; InputError where another number was given."""
        if self.weights is None:
            return (1 / lists if self.method == "linear" else 1.0,) * lists
        if len(self.weights) != lists:
            raise InputError(
                f"weights {_list(self.weights)}: {len(self.weights)} given for {lists} lists"
            )
        return self.weights

    def describe(self, lists: int, completed: bool) -> dict[str, Any]:
        """The method for a run's metadata. completed: every list has every candidate's score."""
        if self.method == "rrf":
            missing = "adds 0"
        elif completed:
            missing = "completed: computed from the stored vectors"
        else:
            missing = {
                "zero": "0 after normalisation",
                "min": "the list's smallest score for the topic, after normalisation",
            }[self.missing]
        described: dict[str, Any] = {
            "method": self.method,
            "weights": list(self.weights_for(lists)),
            "normalisation": self.normalisation,
            "missing": missing,
            "ties": TIES,
        }
        if self.method == "rrf":
            described["rrf_k"] = self.rrf_k
        return described

    def fuse(self, scores: np.ndarray, ranks: np.ndarray, completed: bool = False) -> np.ndarray:
        """The fused scores of one topic's n candidates, float64 [n].

        scores: float64 [lists, n]; those of rank 0 are read only if ``completed``, when they are
        known too. ranks: int [lists, n] from 1; 0: the list does not hold the candidate.
        """
        held = np.asarray(ranks) > 0
        fused = np.zeros(held.shape[1], dtype=np.float64)
        for part in self.contributions(scores, ranks, completed):
            fused += part
        if self.method == "combmnz":
            fused *= held.sum(axis=0)
        return fused

    def contributions(
        self, scores: np.ndarray, ranks: np.ndarray, completed: bool = False
    ) -> list[np.ndarray]:
        """What each list adds to the fused scores, float64 [n]; arguments as in ``fuse``.

        For ``combmnz``, before their sum is multiplied by the number of lists.
        """
        held = np.asarray(ranks) > 0
        parts = []
        for row, weight in enumerate(self.weights_for(len(held))):
            if self.method == "rrf":
                part = np.where(held[row], 1.0 / (self.rrf_k + ranks[row]), 0.0)
            else:
                part = self._part(np.asarray(scores[row], np.float64), held[row], completed)
            parts.append(weight * part)
        return parts

    def weigh(self, scores: Sequence[np.ndarray]) -> np.ndarray:
        """Σ weight × score, float64 [n], of each list's scores, float64 [n]; for ``is_sum`` only.

        It sums in the order of ``fuse``, so that the bits are the same.
        """
        fused = np.zeros(len(scores[0]))
        for list_scores, weight in zip(scores, self.weights_for(len(scores)), strict=True):
            fused += weight * list_scores
        return fused

    def _part(self, scores: np.ndarray, held: np.ndarray, completed: bool) -> np.ndarray:
        """One list's normalised scores of all candidates."""
        if not held.any() and not (completed and self.normalisation == "none"):
            # A list that holds nothing adds nothing, and has no minimum and no mean.
            return np.zeros(len(scores))
        known = np.ones_like(held) if completed else held
        part = np.zeros(len(scores))
        part[known] = normalise(scores[known], self.normalisation)
        if self.missing == "min" and not completed:
            part[~known] = part[known].min()
        return part


def normalise(scores: np.ndarray, norm: str) -> np.ndarray:
    """The normalised scores of one list, float64 [n].

    ``min-max``: (x − min) / (max − min); if all are equal, or there is only one, they are 1, the
    best of their list. ``z-score``: (x − mean) / population standard deviation; if all are equal,
    they are 0.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if norm == "none" or not len(scores):
        return scores
    # Scaling by a power of two is exact, and keeps sums and squares from overflow and underflow.
    exponent = np.frexp(np.abs(scores).max())[1]
    scores = np.ldexp(scores, -exponent)
    low, high = scores.min(), scores.max()
    if low == high:
        return np.full(len(scores), 1.0 if norm == "min-max" else 0.0)
    if norm == "min-max":
        return (scores - low) / (high - low)
    centred = scores - scores.mean()
    return centred / np.sqrt(np.mean(centred**2))


def fuse_runs(runs: Sequence[Run], fusion: Fusion, k: int = 1000, tag: str | None = None) -> Run:
    """Several runs as one, at most ``k`` documents a topic; topics in the order they first appear.

    Ranks are the positions in each run's lists. The fused scores are float32.
    """
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")
    if len(runs) < 2:
        raise InputError(f"{len(runs)} runs given; fusing takes two or more")
    described = fusion.describe(len(runs), completed=False)
    topics = dict.fromkeys(topic for run in runs for topic in run.topics)
    nothing = Ranking([], np.empty(0))
    fused = Run(tag=tag or fusion.method)
    for topic in topics:
        lists = [run.topics.get(topic, nothing) for run in runs]
        for run, ranking in zip(runs, lists, strict=True):
            if not (np.abs(ranking.scores) <= np.finfo(np.float32).max).all():
                raise InputError(
                    f"run {run.tag}, topic {topic}: a score is not a number that float32 can hold"
                )
        fused.topics[topic] = _fuse_rankings(lists, fusion, k)
    fused.metadata = {"fusion": described, "k": k, "fused": [run.tag for run in runs]}
    return fused


def _fuse_rankings(lists: Sequence[Ranking], fusion: Fusion, k: int) -> Ranking:
    ids = list(dict.fromkeys(chain.from_iterable(ranking.ids for ranking in lists)))
    column = dict(zip(ids, range(len(ids)), strict=True))
    scores = np.zeros((len(lists), len(ids)))
    ranks = np.zeros((len(lists), len(ids)), dtype=np.int64)
    for row, ranking in enumerate(lists):
        count = len(ranking.ids)
        if ids[:count] == ranking.ids:  # always true of the first list
            columns = np.arange(count)
        else:
            columns = np.fromiter(map(column.__getitem__, ranking.ids), np.int64, count)
        scores[row, columns] = ranking.scores
        ranks[row, columns] = np.arange(1, count + 1)
    with np.errstate(over="ignore"):
        final = fusion.fuse(scores, ranks).astype(np.float32)
    if not np.isfinite(final).all():
        raise InputError("the fused scores are too large for float32; use norm min-max")
    order = falling_order(ids, final)[:k]
    return Ranking(list(map(ids.__getitem__, order.tolist())), final[order])


def parse_weights(text: str | None, example: str = "40,1,1.5") -> tuple[float, ...] | None:
    """Weights from the command line. example: such as the message shows."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"weights {text!r} are not numbers separated by commas, such as {example}"
        ) from error


def _choose(what: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InputError(f"there is no {what} {value!r}; choose one of {', '.join(choices)}")


def _list(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
