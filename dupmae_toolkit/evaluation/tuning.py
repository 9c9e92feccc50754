"""The best weights of a weighted sum of scores, exactly: no grid is searched.

Documents are ranked by (1 − w) · a + w · b. Two documents change places at one w at most. So the
rank of a document, and a measure that adds a value for the rank of each relevant document, is
constant between such points. Only pairs with a relevant document count: others move no gain. (The
idea is the line search of Och, Minimum Error Rate Training, ACL 2003.)

Equal scores are ordered by document id, descending, as trec_eval and ``fuse`` order them. So the
ranking at such a point can differ from the rankings on both sides of it; the point counts as a
place of its own.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.norms import normalise
from dupmae_toolkit.records import Run

_NEVER = np.uint64(2**64 - 1)
#: Sums of gains in another order differ by less.
_EQUAL = 1e-12
#: Places closer than this may be one, told apart by rounding.
_SLIVER = 1e-9
#: Optima of that kind that are tried before all are left out.
_TRIES = 50
_ROUNDS = 20


@dataclass(frozen=True, slots=True)
class Topic:
    """The candidates of a topic, sorted by id descending by code points.

    scores: float64 [parts, n]. relevant: int [r], the places of candidates with a gain. gains:
    float64 [r], what each adds at rank 1. by_rank: float64 [cutoff], the share of that at each
    rank; 0 below. A topic without candidates has n = 0.
    """

    scores: np.ndarray
    relevant: np.ndarray
    gains: np.ndarray
    by_rank: np.ndarray


@dataclass(frozen=True, slots=True)
class Optimum:
    """The highest mean and where it is: w from ``low`` to ``high``; ``weight`` is the middle."""

    value: float
    weight: float
    low: float
    high: float


def topics_of(
    qrels: Qrels, runs: Sequence[Run], measure: str = "nDCG@10", norm: str = "none"
) -> dict[str, Topic]:
    """Every judged topic, with the union of the runs' documents; a score that is missing is 0.

    measure: nDCG@k, R@k or P@k. norm: of each run's scores in a topic, see ``normalise``. Raises
    InputError for another measure.
    """
    parsed = re.fullmatch(r"(nDCG|R|P)@([1-9]\d{0,5})", measure)
    if parsed is None:
        raise InputError(f"measure {measure!r} cannot be tuned; choose nDCG@k, R@k or P@k")
    kind, cutoff = parsed[1], int(parsed[2])
    return {
        topic: _topic(topic, judged, runs, kind, cutoff, norm) for topic, judged in qrels.items()
    }


def _topic(
    name: str, judged: dict[str, int], runs: Sequence[Run], kind: str, cutoff: int, norm: str
) -> Topic:
    lists = [run.topics.get(name) for run in runs]
    held = {each for ranking in lists if ranking is not None for each in ranking.ids}
    ids = sorted(held, reverse=True)
    place = {each: n for n, each in enumerate(ids)}
    scores = np.zeros((len(runs), len(ids)))
    for row, ranking in zip(scores, lists, strict=True):
        if ranking is not None and len(ranking):
            row[[place[each] for each in ranking.ids]] = normalise(ranking.scores, norm)
    positive = {each: grade for each, grade in judged.items() if grade > 0}
    found = [each for each in positive if each in place]
    # No rank is beyond the last document.
    ranks = np.arange(1, min(cutoff, max(len(ids), len(positive), 1)) + 1)
    by_rank = 1 / np.log2(ranks + 1) if kind == "nDCG" else np.ones(len(ranks))
    if kind == "nDCG":
        best = np.sort(list(positive.values()))[::-1][:cutoff]
        whole = float(best @ by_rank[: len(best)])
        gains = np.array([positive[each] for each in found]) / whole if found else np.empty(0)
    else:
        gains = np.full(len(found), 1 / (len(positive) if kind == "R" else cutoff) if found else 0)
    return Topic(scores, np.array([place[each] for each in found], np.int64), gains, by_rank)


def values_at(topics: Sequence[Topic], weights: Sequence[float] | np.ndarray) -> np.ndarray:
    """The measure of each topic under Σ weight × score, float64 [topics]."""
    return np.array([_value(topic, np.asarray(weights, np.float64)) for topic in topics])


def _value(topic: Topic, weights: np.ndarray) -> float:
    if not len(topic.relevant):
        return 0.0
    # Not by a matrix product, which may round equal documents differently.
    fused = (weights[:, None] * topic.scores).sum(axis=0)
    order = np.argsort(-fused, kind="stable")
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order))
    return float(topic.gains @ _shares(topic, ranks[topic.relevant]))


def _shares(topic: Topic, above: np.ndarray) -> np.ndarray:
    """What a rank is worth, by the number of documents above it."""
    padded = np.append(topic.by_rank, 0.0)
    return padded[np.minimum(above, len(topic.by_rank))]


def best_weight(
    topics: Sequence[Topic], one: Sequence[np.ndarray], other: Sequence[np.ndarray]
) -> Optimum:
    """The w from 0 to 1 with the highest mean when (1 − w) · one + w · other ranks.

    one, other: for each topic, float64 [n]. Of several optima, the widest is taken, then the first.
    """
    start, keys, steps = 0.0, [], []
    for topic, a, b in zip(topics, one, other, strict=True):
        if len(topic.relevant):
            value, found, changes = _events(topic, a, b)
            start += value
            keys.append(found)
            steps.append(changes)
    merged = np.concatenate(keys) if keys else np.empty(0, np.uint64)
    order = np.argsort(merged, kind="stable")
    places, first = np.unique(merged[order], return_index=True)
    sums = np.concatenate([[0.0], np.cumsum(np.concatenate(steps)[order])]) if keys else np.zeros(1)
    # The state before any event, then the one after all events of each place.
    levels = start + sums[np.append(first, len(merged))]
    points = np.ascontiguousarray(places >> np.uint64(1)).view(np.float64)
    lows, highs = np.append(0.0, points), np.append(points, 1.0)
    for tried in range(_TRIES):
        if tried == _TRIES - 1:
            levels[highs - lows < _SLIVER] = -np.inf
        good = levels >= levels.max() - _EQUAL * max(1, len(topics))
        edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
        begins, ends = edges[::2], edges[1::2] - 1
        widest = int(np.argmax(highs[ends] - lows[begins]))
        low, high = float(lows[begins[widest]]), float(highs[ends[widest]])
        middle = (low + high) / 2
        told, real = float(levels.max()), _sum_at(topics, one, other, middle)
        # Places that are one may differ by rounding. Between them no ranking has the value told.
        if high - low >= _SLIVER or abs(real - told) <= _EQUAL * max(1, len(topics)):
            break
        levels[begins[widest] : ends[widest] + 1] = -np.inf
    return Optimum(real / max(1, len(topics)), middle, low, high)


def _sum_at(
    topics: Sequence[Topic], one: Sequence[np.ndarray], other: Sequence[np.ndarray], w: float
) -> float:
    """The sum of the measure over topics under (1 − w) · one + w · other."""
    shares = np.array([1 - w, w])
    return sum(
        _value(replace(topic, scores=np.stack([a, b])), shares)
        for topic, a, b in zip(topics, one, other, strict=True)
    )


def _events(topic: Topic, a: np.ndarray, b: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """The value at w = 0, and where it changes by how much: uint64 [events], float64 [events].

    A key is the bits of w, which order as w does, then one bit: 0 if the change holds at w itself,
    where the two scores are equal and ids decide; 1 if it holds only beyond.
    """
    p = a[None, :] - a[topic.relevant, None]  # by how much others lead at w = 0, [r, n]
    q = b[None, :] - b[topic.relevant, None]
    first = np.arange(len(a))[None, :] < topic.relevant[:, None]  # by id
    before = np.where(p == 0, first, p > 0)
    after = np.where(q == 0, first, q > 0)
    # Where both are equal at w = 0, what follows is decided by b; at w = 1, what precedes by a.
    moves = before != after
    with np.errstate(divide="ignore", invalid="ignore"):
        where = np.abs(np.where(moves, p / (p - q), 0.0))
    beyond = after != first
    keys = where.view(np.uint64) << np.uint64(2)
    keys |= beyond.astype(np.uint64) << np.uint64(1) | after.astype(np.uint64)
    keys[~moves] = _NEVER
    keys.sort(axis=1)
    busy = int(moves.sum(axis=1).max())
    keys = keys[:, :busy]
    happens = keys != _NEVER
    changes = np.where(happens, (keys & np.uint64(1)).astype(np.int64) * 2 - 1, 0)
    above = before.sum(axis=1)
    worth = _shares(topic, np.cumsum(np.column_stack([above, changes]), axis=1))
    steps = np.diff(worth, axis=1) * topic.gains[:, None]
    counted = steps != 0
    return float(topic.gains @ worth[:, 0]), keys[counted] >> np.uint64(1), steps[counted]


def tune(topics: Sequence[Topic]) -> tuple[list[float], Optimum]:
    """The best weights, which sum to 1, and the optimum of the last part's weight.

    With two parts this is the true optimum. With more, one weight after another is moved to its own
    optimum against the others as they stand, from equal weights, until none gains: no weight alone
    can then be improved. Raises InputError for fewer than two parts or no topics.
    """
    if not topics or len(topics[0].scores) < 2:
        raise InputError("tuning takes judged topics and two or more runs")
    parts = len(topics[0].scores)
    weights = np.full(parts, 1 / parts)
    reached = float(values_at(topics, weights).mean())
    optimum = Optimum(reached, float(weights[-1]), float(weights[-1]), float(weights[-1]))
    for _ in range(_ROUNDS if parts > 2 else 1):
        gained = False
        for part in range(parts - 1, -1, -1) if parts > 2 else (1,):
            rest = weights.copy()
            rest[part] = 0.0
            if not rest.any():
                continue
            rest /= rest.sum()
            found = best_weight(
                topics, [rest @ t.scores for t in topics], [t.scores[part] for t in topics]
            )
            if found.value > optimum.value + _EQUAL or parts == 2:
                weights = rest * (1 - found.weight)
                weights[part] = found.weight
                optimum, gained = found, True
        if not gained:
            break
    return weights.tolist(), optimum


def tune_norm(by_norm: dict[str, dict[str, Topic]]) -> tuple[str, list[float], Optimum]:
    """The norm whose best weights have the highest value, the first of several; and these weights.

    by_norm: the same topics under each norm, see ``topics_of``.
    """
    best: tuple[str, list[float], Optimum] | None = None
    for norm, topics in by_norm.items():
        weights, optimum = tune(list(topics.values()))
        if best is None or optimum.value > best[2].value + _EQUAL:
            best = norm, weights, optimum
    if best is None:
        raise InputError("no norm to choose from")
    return best


def cross_validate(
    by_norm: dict[str, dict[str, Topic]], folds: int = 5, seed: int = 1
) -> dict[str, float]:
    """Each topic's value under the norm and weights that were tuned on the other folds' topics.

    Topics are dealt to the folds at random. Raises InputError where a fold would have none.
    """
    first = next(iter(by_norm.values()))
    if not 2 <= folds <= len(first):
        raise InputError(f"{folds} folds of {len(first)} topics: take from 2 to as many as topics")
    dealt = np.random.default_rng(seed).permutation(len(first))
    names = list(first)
    values: dict[str, float] = {}
    for fold in range(folds):
        held = [names[n] for n in dealt[fold::folds]]
        apart = set(held)
        kept = {
            norm: {name: topic for name, topic in topics.items() if name not in apart}
            for norm, topics in by_norm.items()
        }
        norm, weights, _ = tune_norm(kept)
        found = values_at([by_norm[norm][name] for name in held], weights)
        values |= dict(zip(held, found.tolist(), strict=True))
    return {name: values[name] for name in first}
