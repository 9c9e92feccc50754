"""Intervals of means by the bootstrap, against all possible draws, scipy's, and the normal law."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from scipy import stats

from dupmae_toolkit.evaluation.bootstrap import Interval, interval, interval_of_means


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 0.25, 1.0], [-1.0, 0.5, 0.5, 3.0]])
@pytest.mark.parametrize("level", [0.5, 0.8, 0.95])
def test_few_topics_give_the_percentiles_of_all_their_draws(values, level):
    found = interval(values, level=level, samples=40_000)
    means = np.sort([np.mean(draw) for draw in product(values, repeat=len(values))])
    # Between two neighbours a percentile of samples may fall on either.
    for got, tail in ((found.low, (1 - level) / 2), (found.high, (1 + level) / 2)):
        near = np.quantile(means, [max(0, tail - 0.02), min(1, tail + 0.02)], method="inverted_cdf")
        assert near[0] - 1e-12 <= got <= near[1] + 1e-12
    assert found.mean == pytest.approx(np.mean(values))
    assert found.topics == len(values)


def test_many_topics_give_what_scipy_gives():
    values = np.random.default_rng(5).beta(0.4, 0.6, 300)
    theirs = stats.bootstrap(
        (values,), np.mean, method="percentile", n_resamples=5000, batch=500
    ).confidence_interval
    ours = interval(values)
    wide = theirs.high - theirs.low
    assert ours.low == pytest.approx(theirs.low, abs=wide / 20)
    assert ours.high == pytest.approx(theirs.high, abs=wide / 20)


def test_sets_count_alike_and_are_drawn_apart():
    dice = np.random.default_rng(2)
    sets = [dice.normal(0.2, 1, 900), dice.normal(0.8, 2, 400), dice.normal(0.5, 0.1, 2500)]
    found = interval_of_means(sets)
    assert found.mean == pytest.approx(np.mean([each.mean() for each in sets]))
    error = np.sqrt(sum(each.var() / len(each) for each in sets)) / 3
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.06)
    assert found.topics == 3800


def test_two_sets_of_equal_values_are_not_drawn_alike():
    """Else their errors would add up instead of partly cancelling."""
    values = np.random.default_rng(3).normal(size=500)
    one, two = interval(values), interval_of_means([values, values])
    assert two.high - two.low == pytest.approx((one.high - one.low) / np.sqrt(2), rel=0.1)


def test_the_same_values_give_the_same_interval():
    values = np.random.default_rng(4).random(77)
    assert interval(values) == interval(list(values))
    assert interval(values, seed=2) != interval(values)


def test_equal_values_have_no_spread_and_one_topic_no_interval():
    assert interval([0.3] * 9).low == pytest.approx(0.3)
    assert interval([0.3] * 9).high == pytest.approx(0.3)
    assert interval([0.3]) == Interval(0.3, None, None, 1)
    assert interval_of_means([[0.5], [0.1, 0.3]]).low is None
    assert not interval([0.3]).is_above_zero


@pytest.mark.parametrize("sets", [[], [[]], [[0.1, 0.2], []]])
def test_nothing_has_no_mean(sets):
    with pytest.raises(ValueError, match="at least one topic"):
        interval_of_means(sets)


def test_signs_are_read_from_the_interval():
    assert interval([1.0, 2.0, 3.0]).is_above_zero
    assert interval([-1.0, -2.0]).is_below_zero
    either = interval([-1.0, 1.0] * 20)
    assert not either.is_above_zero
    assert not either.is_below_zero
