"""The best of all weights between two scores, exactly: no grid is searched.

Documents are ranked by (1 − w) · a + w · b. Two documents change places at one w at most. So the
rank of a document, and a measure that adds up what the relevant documents are worth at their ranks,
is constant between such points. Only pairs with a relevant document count: others move no gain.
(The idea is the line search of Och, Minimum Error Rate Training, ACL 2003.)

Equal scores are ordered as the topic's candidates are, by document id; so a single point can rank
otherwise than both its sides, and counts as a place of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.evaluation.topic_sets import SCALE, TopicSet
from dupmae_toolkit.evaluation.tuning_topics import weigh

_NEVER = np.uint64(2**64 - 1)
#: Sums of gains in another order differ by less.
EQUAL = 1e-12
#: Places closer than this may be one, told apart by rounding.
_SLIVER = 1e-9
_ROUNDING = 1e-12
#: Optima of that kind that are tried before all are left out.
_TRIES = 50
#: The most single points that are tried, and the most topics that are ranked for all of them.
_POINTS, _RANKED = 64, 20_000


@dataclass(frozen=True, slots=True)
class Optimum:
    """The highest mean and where it is: w from ``low`` to ``high``; ``weight`` is the middle."""

    value: float
    weight: float
    low: float
    high: float


@dataclass(slots=True)
class Curve:
    """The mean over topics for every w from 0 to 1: ``means[i]`` from ``lows[i]`` to ``highs[i]``.

    float64 [places]. Where the bounds are equal, the mean is that of this point alone. Places
    closer together than 1e-9 may be one: then ``means`` has what no ranking gives. doubtful: groups
    of points at which rounding decides what is equal, each after the most that they can give.
    """

    lows: np.ndarray
    highs: np.ndarray
    means: np.ndarray
    doubtful: list[tuple[float, list[float]]]

    def around(self, w: float) -> tuple[float, float]:
        """The widest range around ``w`` in which the mean is as high as at it, or higher."""
        place = int(np.searchsorted(self.highs, w))
        place = min(place, len(self.means) - 1)
        good = self.means >= self.means[place] - EQUAL
        bad = np.flatnonzero(~good)
        after = np.searchsorted(bad, place)
        first = int(bad[after - 1]) + 1 if after else 0
        last = int(bad[after]) - 1 if after < len(bad) else len(self.means) - 1
        return float(self.lows[first]), float(self.highs[last])


def curve(topics: TopicSet, one: np.ndarray, other: np.ndarray) -> Curve:
    """The mean for every w from 0 to 1 when (1 − w) · one + w · other ranks.

    one, other: of all candidates, float64 [N].
    """
    start, merged, steps = topics.events(one, other)
    order = np.argsort(merged, kind="stable")
    merged = merged[order]
    changed = steps[order]
    count = max(1, len(topics))
    first = np.flatnonzero(np.diff(merged, prepend=_NEVER) != 0)
    sums = np.concatenate([[0.0], np.cumsum(changed)])
    # The state before any event, then the one after all events of each place.
    levels = start + sums[np.append(first, len(merged))]
    points = _places(merged[first])
    lows, highs = np.append(0.0, points), np.append(points, 1.0)
    doubtful = _doubtful(_places(merged), changed, start + sums[:-1], count)
    return Curve(lows, highs, levels / count, doubtful)


def _places(keys: np.ndarray) -> np.ndarray:
    scaled = (keys >> np.uint64(1)).view(np.float64)
    return np.ldexp(scaled, SCALE)


def _doubtful(
    places: np.ndarray, steps: np.ndarray, before: np.ndarray, topics: int
) -> list[tuple[float, list[float]]]:
    """Places at which several scores are equal, of which rounding may keep some apart.

    Those that may be one are together. With each group the most that the mean can be there: all
    that gains has happened, and nothing that loses.
    """
    if len(places) < 2:
        return []
    heads = np.flatnonzero(np.diff(places, prepend=-1.0) > _ROUNDING)
    tails = np.append(heads[1:], len(places))
    several = tails - heads > 1
    if not several.any():
        return []
    most = before[heads] + np.add.reduceat(np.maximum(steps, 0), heads)
    return [
        (float(most[n]) / topics, np.unique(places[heads[n] : tails[n]])[:8].tolist())
        for n in np.flatnonzero(several)
    ]


def best_weight(topics: TopicSet, one: np.ndarray, other: np.ndarray) -> Optimum:
    """The w from 0 to 1 with the highest mean when (1 − w) · one + w · other ranks.

    one, other: of all candidates, float64 [N]. Of several optima, the widest is taken, then the
    first. Where places are so close that rounding decides what is equal, the rankings of single
    points are tried, up to a limit.
    """
    found = curve(topics, one, other)
    best = _widest(found, topics, one, other)
    tries = _points(found.doubtful, best.value, max(1, _RANKED // max(1, len(topics))))
    for w in tries:
        value = mean_at(topics, one, other, w)
        if value > best.value + EQUAL:
            best = Optimum(value, w, w, w)
    return best


def _points(doubtful: list[tuple[float, list[float]]], value: float, most: int) -> Iterator[float]:
    tries = min(_POINTS, most)
    for bound, places in sorted(doubtful, reverse=True):
        for place in places:
            if bound <= value + EQUAL or not tries:
                return
            tries -= 1
            yield place


def _widest(found: Curve, topics: TopicSet, one: np.ndarray, other: np.ndarray) -> Optimum:
    lows, highs, means = found.lows, found.highs, found.means.copy()
    for tried in range(_TRIES):
        if tried == _TRIES - 1:
            means[highs - lows < _SLIVER] = -np.inf
        good = means >= means.max() - EQUAL
        edges = np.flatnonzero(np.diff(np.concatenate([[0], good.astype(np.int8), [0]])))
        begins, ends = edges[::2], edges[1::2] - 1
        widest = int(np.argmax(highs[ends] - lows[begins]))
        low, high = float(lows[begins[widest]]), float(highs[ends[widest]])
        middle = (low + high) / 2
        told, real = float(means.max()), mean_at(topics, one, other, middle)
        # Places that are one may differ by rounding. Between them no ranking has the value told.
        if high - low >= _SLIVER or abs(real - told) <= EQUAL:
            break
        means[begins[widest] : ends[widest] + 1] = -np.inf
    return Optimum(real, middle, low, high)


def mean_at(topics: TopicSet, one: np.ndarray, other: np.ndarray, w: float) -> float:
    """The mean of the measure over topics under (1 − w) · one + w · other."""
    values = topics.values_by(weigh(np.stack([one, other]), [1 - w, w]))
    return float(values.sum()) / max(1, len(topics))
