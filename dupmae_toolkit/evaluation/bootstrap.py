"""Intervals of means over topics, by the bootstrap.

Topics are drawn with replacement, and the interval is between percentiles of the means of many such
draws (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). To compare two
rankings, give the differences of their values topic by topic: the draws are then paired, and the
spread between easy and hard topics cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

LEVEL, SAMPLES, SEED = 0.95, 5000, 1
#: How many values are drawn at once.
_AT_ONCE = 2_000_000


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean over ``topics`` topics and its interval; None if there are too few topics for one."""

    mean: float
    low: float | None
    high: float | None
    topics: int

    @property
    def is_above_zero(self) -> bool:
        return self.low is not None and self.low > 0

    @property
    def is_below_zero(self) -> bool:
        return self.high is not None and self.high < 0


def interval(
    values: Sequence[float] | np.ndarray,
    *,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Interval:
    """The mean of ``values``, one for each topic, and its interval."""
    return interval_of_means([values], level=level, samples=samples, seed=seed)


def interval_of_means(
    sets: Sequence[Sequence[float] | np.ndarray],
    *,
    level: float = LEVEL,
    samples: int = SAMPLES,
    seed: int = SEED,
) -> Interval:
    """The mean of the means of several sets of topics, and its interval.

    sets: for each set, a value for each of its topics. Topics are drawn within each set, so every
    set counts alike, however many topics it has. A set of one topic has no spread of its own; if
    any set has fewer than two, there is no interval.
    """
    groups = [np.asarray(values, np.float64) for values in sets]
    if not groups or not all(len(values) for values in groups):
        raise ValueError("a mean takes at least one topic of each set")
    topics = sum(map(len, groups))
    mean = float(np.mean([values.mean() for values in groups]))
    if min(map(len, groups)) < 2:
        return Interval(mean, None, None, topics)
    means = np.mean([_drawn(values, samples, seed + n) for n, values in enumerate(groups)], axis=0)
    tail = (1 - level) / 2
    low, high = np.quantile(means, [tail, 1 - tail])
    return Interval(mean, float(low), float(high), topics)


def _drawn(values: np.ndarray, samples: int, seed: int) -> np.ndarray:
    """The means of ``samples`` draws of as many values, with replacement, float64 [samples]."""
    dice, count = np.random.default_rng(seed), len(values)
    means = np.empty(samples)
    step = max(1, _AT_ONCE // count)
    for start in range(0, samples, step):
        rows = dice.integers(0, count, (min(step, samples - start), count))
        means[start : start + step] = values[rows].mean(axis=1)
    return means
