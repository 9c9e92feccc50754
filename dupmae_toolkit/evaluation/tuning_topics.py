"""The candidates of topics as the exact tuner takes them, and a measure of their rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.evaluation.rank_measures import COUNTED, EACH, FIRST, RankMeasure, rank_measure
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.records import Run


@dataclass(frozen=True, slots=True)
class Topic:
    """The candidates of a topic, in the order in which equal scores are ranked.

    scores: float64 [parts, n]. relevant: int [r], the places of candidates with a gain. gains:
    float64 [r], what each adds at rank 1. by_rank: float64 [cutoff], the share of that at each
    rank; 0 below. kind: see ``rank_measures``. single: sums are compared as float32. A topic
    without candidates has n = 0.
    """

    scores: np.ndarray
    relevant: np.ndarray
    gains: np.ndarray
    by_rank: np.ndarray
    kind: str = EACH
    single: bool = False

    def shares(self, above: np.ndarray, relevant_above: np.ndarray) -> np.ndarray:
        """What relevant documents add, as a share of their gains.

        above: the number of documents above each, int of any shape. relevant_above: of these, the
        number of relevant ones; of the same shape.
        """
        padded = np.append(self.by_rank, 0.0)
        found: np.ndarray = padded[np.minimum(above, len(self.by_rank))]
        if self.kind == FIRST:
            return np.where(relevant_above == 0, found, 0.0)
        return found * (relevant_above + 1) if self.kind == COUNTED else found

    def value(self, weights: np.ndarray) -> float:
        """The measure under Σ weight × score. weights: float64 [parts]."""
        if not len(self.relevant):
            return 0.0
        # Not by a matrix product, which may round equal documents differently.
        fused = weigh(self.scores, weights)
        if self.single:
            fused = fused.astype(np.float32)
        order = np.argsort(-fused, kind="stable")
        ranks = np.empty(len(order), np.int64)
        ranks[order] = np.arange(len(order))
        above = ranks[self.relevant]
        before = np.empty(len(above), np.int64)
        before[np.argsort(above)] = np.arange(len(above))
        return float(self.gains @ self.shares(above, before))

    def reduced(self) -> Topic:
        """The same topic without candidates that change no value, whatever the weights.

        weights: at least 0, and one of them more. A relevant document below as many others as the
        cutoff in all parts adds nothing. Nor does a document count that is below each relevant one
        in all parts.
        """
        places = np.arange(self.scores.shape[1])
        relevant, needed = [], np.zeros(len(places), dtype=bool)
        for place in self.relevant.tolist():
            own = self.scores[:, place, None]
            lead = self.scores - own
            # As float32, sums that differ by less may be equal.
            room = 2.0**-22 * np.maximum(abs(self.scores), abs(own)) if self.single else 0.0
            earlier, later = places < place, places > place
            always = (lead > room).all(axis=0) | ((lead >= 0).all(axis=0) & earlier)
            never = (lead < -room).all(axis=0) | ((lead <= 0).all(axis=0) & later)
            if np.count_nonzero(always) >= len(self.by_rank):
                continue
            relevant.append(place)
            needed |= ~never
        kept = np.array(relevant, np.int64)
        needed[kept] = True
        where = np.cumsum(needed) - 1
        gains = self.gains[np.isin(self.relevant, kept)]
        return replace(self, scores=self.scores[:, needed], relevant=where[kept], gains=gains)


def weigh(scores: np.ndarray, weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """Σ weight × score, float64 [n], added up in the order of the parts as ``Fusion.weigh`` does.

    scores: float64 [parts, n].
    """
    fused = np.zeros(scores.shape[1])
    for row, weight in zip(scores, weights, strict=True):
        fused += weight * row
    return fused


def topic_of(
    measure: RankMeasure,
    judged: Mapping[str, int],
    ids: Sequence[str],
    scores: np.ndarray,
    single: bool = False,
) -> Topic:
    """A topic from its candidates. ids: in the order of ties. scores: float64 [parts, n]."""
    gains = measure.gains(judged)
    places = [place for place, name in enumerate(ids) if name in gains]
    worth = np.array([gains[ids[place]] for place in places])
    by_rank = measure.by_rank(max(len(ids), 1))
    return Topic(scores, np.array(places, np.int64), worth, by_rank, measure.kind, single).reduced()


def topics_of(
    qrels: Qrels, runs: Sequence[Run], measure: str = "nDCG@10", fusion: Fusion | str = "none"
) -> dict[str, Topic]:
    """Every judged topic, with the union of the runs' documents.

    measure: see ``rank_measures``. fusion: how what each run adds is computed, for weights of 1; or
    a norm, of ``linear``: a score that is missing is 0. Raises InputError for another measure.
    """
    if isinstance(fusion, str):
        fusion = Fusion("linear", norm=fusion)
    fusion = replace(fusion, weights=(1.0,) * len(runs))
    taken = rank_measure(measure)
    return {name: _of_runs(name, judged, runs, taken, fusion) for name, judged in qrels.items()}


def _of_runs(
    name: str, judged: dict[str, int], runs: Sequence[Run], measure: RankMeasure, fusion: Fusion
) -> Topic:
    lists = [run.topics.get(name) for run in runs]
    held = {each for ranking in lists if ranking is not None for each in ranking.ids}
    ids = sorted(held, reverse=True)
    place = {each: n for n, each in enumerate(ids)}
    scores = np.zeros((len(runs), len(ids)))
    ranks = np.zeros((len(runs), len(ids)), np.int64)
    for row, ranked, ranking in zip(scores, ranks, lists, strict=True):
        if ranking is not None and len(ranking):
            columns = [place[each] for each in ranking.ids]
            row[columns] = ranking.scores
            ranked[columns] = np.arange(1, len(columns) + 1)
    if ids:
        scores = np.stack(fusion.contributions(scores, ranks))
    return topic_of(measure, judged, ids, scores, single=True)  # as `fuse` compares sums


def values_at(topics: Sequence[Topic], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """The measure of each topic under Σ weight × score, float64 [topics]."""
    given = np.asarray(weights, np.float64)
    return np.array([topic.value(given) for topic in topics])
