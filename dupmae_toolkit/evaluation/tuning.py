"""The best weights of a weighted sum of scores, and the settings beside them; held-out values.

A setting is anything that is chosen beside the weights: a norm, rrf's k, a power of frequencies.
Each has candidates of its own, since it changes the scores that are added up.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.line_search import EQUAL, Curve, Optimum, best_weight, curve
from dupmae_toolkit.evaluation.topic_sets import TopicSet
from dupmae_toolkit.evaluation.tuning_topics import Topic, topics_of, values_at, weigh
from dupmae_toolkit.progress import Advance

__all__ = [
    "Optimum",
    "Topic",
    "TopicSet",
    "best_weight",
    "cross_validate",
    "curve_of",
    "dealt",
    "plateaus",
    "rounded",
    "starts",
    "topics_of",
    "tune",
    "tune_setting",
    "values_at",
    "without",
]

Setting = TypeVar("Setting")
_ROUNDS = 20


def tune(
    topics: Sequence[Topic], given: Sequence[Sequence[float]] = ()
) -> tuple[list[float], Optimum]:
    """The best weights, which sum to 1, and the optimum of the weight that was moved last.

    With two parts this is the true optimum. With more, one weight after another is moved to its own
    optimum against the others as they stand, until none gains: no weight alone can then be
    improved. This is done from each of ``starts``, and the best end is taken, the first of several.
    given: further weights to start from. Raises InputError for fewer than two parts or no topics.
    """
    if not topics or len(topics[0].scores) < 2:
        raise InputError("tuning takes judged topics and two or more runs")
    together = TopicSet(topics)
    if len(together.scores) == 2:
        found = best_weight(together, *together.scores)
        return [1 - found.weight, found.weight], found
    best: tuple[np.ndarray, Optimum] | None = None
    for start in starts(topics, given):
        weights, optimum = _climb(together, start)
        if best is None or optimum.value > best[1].value + EQUAL:
            best = weights, optimum
    assert best is not None
    return best[0].tolist(), best[1]


def starts(topics: Sequence[Topic], given: Sequence[Sequence[float]] = ()) -> list[np.ndarray]:
    """Where three or more weights start: equal; those given; equal after division by the spread of
    each part's scores; each part alone. Each sums to 1; equal ones are there once.
    """
    parts = len(topics[0].scores)
    held = [topic.scores for topic in topics if topic.scores.size]
    spreads = np.mean([scores.std(axis=1) for scores in held], axis=0) if held else np.ones(parts)
    found = [np.ones(parts), *(np.asarray(each, np.float64) for each in given)]
    if (spreads > 0).all():
        found.append(1 / spreads)
    found += list(np.eye(parts))
    listed = {tuple((each / each.sum()).tolist()): None for each in found if each.sum() > 0}
    return [np.array(each) for each in listed]


def _climb(topics: TopicSet, start: np.ndarray) -> tuple[np.ndarray, Optimum]:
    """Move one weight after another to its optimum until no move gains."""
    weights = start
    reached, last = float(topics.values(weights).mean()), float(weights[-1])
    optimum = Optimum(reached, last, last, last)
    for _ in range(_ROUNDS):
        before = optimum.value
        for part in range(len(weights) - 1, -1, -1):
            rest = _rest(weights, part)
            if rest is None:
                continue
            found = best_weight(topics, *_line(topics, rest, part))
            if found.value > optimum.value + EQUAL:
                weights = rest * (1 - found.weight)
                weights[part] = found.weight
                optimum = found
        if optimum.value <= before:
            break
    return weights, optimum


def _rest(weights: np.ndarray, part: int) -> np.ndarray | None:
    """The other weights, which sum to 1; None if all are 0."""
    rest = weights.copy()
    rest[part] = 0.0
    return rest / rest.sum() if rest.any() else None


def _line(topics: TopicSet, rest: np.ndarray, part: int) -> tuple[np.ndarray, np.ndarray]:
    return weigh(topics.scores, rest), topics.scores[part]


def plateaus(
    topics: Sequence[Topic] | TopicSet, weights: Sequence[float]
) -> list[tuple[float, float] | None]:
    """For each part, the range of its weight that is as good while the others stay as they are.

    The upper end may be infinite. None for a part that has the only weight.
    """
    given, together = np.asarray(weights, np.float64), TopicSet.of(topics)
    found: list[tuple[float, float] | None] = []
    for part, weight in enumerate(given.tolist()):
        drawn = curve_of(together, weights, part)
        if drawn is None:
            found.append(None)
            continue
        others = given.sum() - weight
        low, high = drawn.around(weight / given.sum())
        bounds = [float(others) * w / (1 - w) if w < 1 else math.inf for w in (low, high)]
        found.append((bounds[0], bounds[1]))
    return found


def curve_of(
    topics: Sequence[Topic] | TopicSet, weights: Sequence[float], part: int
) -> Curve | None:
    """The mean by the share of one part's weight while the ratios of the others stay.

    None if no other part has a weight.
    """
    together, rest = TopicSet.of(topics), _rest(np.asarray(weights, np.float64), part)
    return None if rest is None else curve(together, *_line(together, rest, part))


def rounded(topics: Sequence[Topic], weights: Sequence[float]) -> tuple[float, ...]:
    """The weights with as few digits as give the same mean, at least two; else as they are.

    Each moves by half the way to the end of its plateau at most. Of two weights that sum to 1, the
    second is rounded and the first fills it up.
    """
    together = TopicSet(topics)
    value = float(together.values(weights).mean())
    shares = len(weights) == 2 and abs(sum(weights) - 1) < EQUAL
    room = [
        (weight, weight) if bounds is None else ((bounds[0] + weight) / 2, (bounds[1] + weight) / 2)
        for weight, bounds in zip(weights, plateaus(together, weights), strict=True)
    ]
    for digits in range(2, 16):
        short = tuple(float(f"{weight:.{digits}g}") for weight in weights)
        inside = all(low <= each <= high for each, (low, high) in zip(short, room, strict=True))
        if shares:
            last = round(weights[1], digits)
            short = (round(1 - last, digits), last)
            # The plateau is that of the second weight while the first stays as it is.
            low, high = (1 - weights[0] / (bound + weights[0]) for bound in room[1])
            inside = low <= last <= high
        if inside and any(short) and together.values(short).mean() >= value - EQUAL:
            return short
    return tuple(map(float, weights))


def tune_setting(
    by_setting: Mapping[Setting, Mapping[str, Topic]], given: Sequence[Sequence[float]] = ()
) -> tuple[Setting, list[float], Optimum]:
    """The setting whose best weights have the highest value, the first of several; and these.

    by_setting: the same topics under each setting. given: see ``tune``.
    """
    best: tuple[Setting, list[float], Optimum] | None = None
    for setting, topics in by_setting.items():
        weights, optimum = tune(list(topics.values()), given)
        if best is None or optimum.value > best[2].value + EQUAL:
            best = setting, weights, optimum
    if best is None:
        raise InputError("no setting to choose from")
    return best


def dealt(names: Sequence[str], folds: int, seed: int) -> list[list[str]]:
    """The topics of each fold, at random. Raises InputError where a fold would have none."""
    if not 2 <= folds <= len(names):
        raise InputError(f"{folds} folds of {len(names)} topics: take from 2 to as many as topics")
    order = np.random.default_rng(seed).permutation(len(names))
    return [[names[n] for n in order[fold::folds]] for fold in range(folds)]


def without(
    by_setting: Mapping[Setting, Mapping[str, Topic]], held: Sequence[str]
) -> dict[Setting, dict[str, Topic]]:
    """The same settings without some topics."""
    apart = set(held)
    return {
        setting: {name: topic for name, topic in topics.items() if name not in apart}
        for setting, topics in by_setting.items()
    }


def cross_validate(
    by_setting: Mapping[Setting, Mapping[str, Topic]],
    folds: int = 5,
    seed: int = 1,
    given: Sequence[Sequence[float]] = (),
    advance: Advance = lambda done: None,
) -> dict[str, float]:
    """Each topic's value under the setting and weights tuned on the other folds' topics.

    Raises InputError where a fold would have no topics. given: see ``tune``. advance: is told of
    each fold that is done.
    """
    names = list(next(iter(by_setting.values())))
    values: dict[str, float] = {}
    for held in dealt(names, folds, seed):
        setting, weights, _ = tune_setting(without(by_setting, held), given)
        found = values_at([by_setting[setting][name] for name in held], weights)
        values |= dict(zip(held, found.tolist(), strict=True))
        advance(1)
    return {name: values[name] for name in names}
