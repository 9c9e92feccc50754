"""The report of mining: counts, reasons for leaving candidates out, ranks and scores."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

#: Why a candidate is left out; only the first reason that applies is counted.
REASONS = {
    "rank": "outside the ranks asked for",
    "positive": "judged to answer the query",
    "self": "the query's own document",
    "margin": "too near to the positive's score",
    "teacher": "too near to the positive by the teacher's scores",
    "blank": "a title alone, where titles are the queries",
    "same_text": "the text of a positive, or of the query",
    "same_title": "the title of a positive, or the query as title",
    "duplicate": "the text of another negative",
}


@dataclass(slots=True)
class MiningReport:
    """Counts and distributions; see ``to_dict``.

    candidates = dropped + not_needed (there were enough before them) + negatives.
    """

    queries: int = 0
    written: int = 0
    without_positives: int = 0
    without_negatives: int = 0
    with_fewer: int = 0
    positives: int = 0
    positives_not_found: int = 0
    positives_without_score: int = 0
    unknown_to_teacher: int = 0
    candidates: int = 0
    not_needed: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    positives_not_listed: int = 0
    _ranks: array[int] = field(default_factory=lambda: array("q"))
    _margins: array[float] = field(default_factory=lambda: array("d"))
    _scores: array[float] = field(default_factory=lambda: array("d"))
    _positive_ranks: array[int] = field(default_factory=lambda: array("q"))

    def drop(self, reason: str) -> None:
        """Count a candidate that was left out."""
        self.dropped[reason] += 1

    def positive_rank(self, rank: int | None) -> None:
        """Record a positive's rank in the list; None if it is not listed."""
        if rank is None:
            self.positives_not_listed += 1
        else:
            self._positive_ranks.append(rank)

    def negative(self, rank: int, score: float, positive: float | None) -> None:
        """Record a chosen negative; ``positive``: the best score of the query's positives."""
        self._ranks.append(rank)
        self._scores.append(score)
        if positive is not None:
            self._margins.append(positive - score)

    @property
    def negatives(self) -> int:
        return len(self._ranks)

    def to_dict(self) -> dict[str, Any]:
        """For OUTPUT.json. margins: best positive's score minus the negative's, where known."""
        return {
            "queries": self.queries,
            "written": self.written,
            "without_positives": self.without_positives,
            "without_negatives": self.without_negatives,
            "with_fewer_negatives": self.with_fewer,
            "positives": self.positives,
            "positives_not_in_corpus": self.positives_not_found,
            "positives_not_listed": self.positives_not_listed,
            "queries_without_positive_score": self.positives_without_score,
            "queries_unknown_to_teacher": self.unknown_to_teacher,
            "negatives": self.negatives,
            "candidates": self.candidates,
            "dropped": {reason: self.dropped[reason] for reason in REASONS},
            "not_needed": self.not_needed,
            "positive_ranks": quantiles(self._positive_ranks),
            "ranks": quantiles(self._ranks),
            "scores": quantiles(self._scores),
            "margins": quantiles(self._margins),
            "negatives_above_positive": sum(margin < 0 for margin in self._margins),
        }


def quantiles(values: Any) -> dict[str, float] | None:
    """Minimum, 10 %, 25 %, median, 75 %, 90 %, maximum, and mean; None for no values."""
    numbers = np.asarray(values, dtype=np.float64)
    if not len(numbers):
        return None
    names = {"min": 0, "p10": 0.1, "p25": 0.25, "median": 0.5, "p75": 0.75, "p90": 0.9, "max": 1}
    found = np.quantile(numbers, list(names.values()))
    rounded = {name: float(f"{value:.6g}") for name, value in zip(names, found, strict=True)}
    return rounded | {"mean": float(f"{numbers.mean():.6g}")}
