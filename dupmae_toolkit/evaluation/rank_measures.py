"""Measures that are sums over the relevant documents of a ranking, as the exact tuner takes them.

What a relevant document adds depends on how many documents, and how many relevant ones, are above
it. So nothing changes between two weights unless a relevant document changes its rank:

| measure | a relevant document at rank n adds |
|---|---|
| nDCG | its grade / log2(n + 1), divided by the sum of the best ranking |
| R, P | 1 / the number of relevant documents; 1 / the cutoff |
| RR, Success | 1 / n; 1; if no relevant document is above it |
| RBP(rel=…) | (1 − p) · p^(n − 1) |
| AP | (1 + the number of relevant documents above it) / n / the number of relevant documents |

Values are those of trec_eval. ERR and bpref, which read the grades or the number of other documents
above, are no such sums.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import parse_measures

#: By what a relevant document counts: by its rank alone; if it is the first relevant one; times
#: the number of relevant documents down to it.
EACH, FIRST, COUNTED = "each", "first", "counted"
_KINDS = {
    "nDCG": EACH,
    "R": EACH,
    "P": EACH,
    "RR": FIRST,
    "Success": FIRST,
    "RBP": EACH,
    "AP": COUNTED,
}
CHOICES = "nDCG@k, R@k, P@k, RR@k, AP@k, Success@k, RBP(rel=1)@k"


@dataclass(frozen=True, slots=True)
class RankMeasure:
    """A measure of a ranking. cutoff: None: the whole ranking. least: grade of a relevant one.

    persistence: of RBP, by which each rank counts less than the one before.
    """

    name: str
    kind: str
    cutoff: int | None
    least: int
    persistence: float = 0.0

    def gains(self, judged: Mapping[str, int]) -> dict[str, float]:
        """What each relevant document adds at rank 1, without relevant ones above it."""
        relevant = {name: grade for name, grade in judged.items() if grade >= self.least}
        if self.name == "nDCG":
            best = np.sort(list(relevant.values()))[::-1][: self.cutoff]
            whole = float(best @ (1 / np.log2(np.arange(2, len(best) + 2)))) if relevant else 1.0
            return {name: grade / whole for name, grade in relevant.items()}
        if self.name == "P":
            return dict.fromkeys(relevant, 1 / (self.cutoff or 1))
        if self.name == "RBP":
            return dict.fromkeys(relevant, 1 - self.persistence)
        return dict.fromkeys(relevant, 1 / len(relevant) if self.name in ("R", "AP") else 1.0)

    def by_rank(self, documents: int) -> np.ndarray:
        """The share of a gain at each rank, float64 [ranks]; 0 at those below.

        documents: how many are ranked; no rank is beyond the last.
        """
        ranks = np.arange(1, max(1, min(self.cutoff or documents, documents)) + 1)
        if self.name == "nDCG":
            return np.asarray(1 / np.log2(ranks + 1))
        if self.name == "RBP":
            return np.asarray(self.persistence ** (ranks - 1.0))
        return 1 / ranks if self.name in ("RR", "AP") else np.ones(len(ranks))


def rank_measure(name: str) -> RankMeasure:
    """The measure of a name of ir_measures. Raises InputError for one that is no such sum."""
    parsed = parse_measures([name])
    found = parsed[0]
    settings = dict(found.params)
    # Without a level, RBP's gains are the grades themselves.
    persistence = 0.0
    if found.NAME == "RBP" and "rel" in settings:
        settings.pop("p", None)
        persistence = float(found["p"])
    elif found.NAME == "RBP":
        settings["rel"] = None
    cutoff, least = settings.pop("cutoff", None), settings.pop("rel", 1)
    needs_cutoff = found.NAME in ("R", "P", "Success")
    if (
        least is None
        or len(parsed) > 1
        or found.NAME not in _KINDS
        or settings
        or (needs_cutoff and not cutoff)
    ):
        raise InputError(f"measure {name!r} cannot be tuned exactly; choose one of {CHOICES}")
    return RankMeasure(found.NAME, _KINDS[found.NAME], cutoff, least, persistence)
