"""Many topics in one pass, against each topic by itself."""

from __future__ import annotations

import numpy as np
import pytest

from dupmae_toolkit.evaluation import topic_sets
from dupmae_toolkit.evaluation.line_search import curve
from dupmae_toolkit.evaluation.rank_measures import COUNTED, EACH, FIRST
from dupmae_toolkit.evaluation.topic_sets import TopicSet
from dupmae_toolkit.evaluation.tuning_topics import Topic, values_at


def drawn(kind, count=40, single=False, seed=1, decimals=1):
    """Topics with many equal scores; some without relevant documents, one without candidates."""
    dice = np.random.default_rng(seed)
    topics = []
    for number in range(count):
        size = 0 if number == 3 else int(dice.integers(1, 12))
        scores = np.round(dice.random((3, size)), decimals)
        relevant = np.flatnonzero(dice.random(size) < (0.0 if number % 7 == 0 else 0.4))
        gains = dice.integers(1, 4, len(relevant)) / 3
        by_rank = 1 / np.log2(np.arange(2, 3 + int(dice.integers(0, 6))))
        topics.append(Topic(scores, relevant, gains, by_rank, kind, single))
    return topics


KINDS = pytest.mark.parametrize("kind", [EACH, FIRST, COUNTED])


@KINDS
@pytest.mark.parametrize("single", [False, True])
def test_each_topic_has_the_value_that_it_has_alone(kind, single):
    topics = drawn(kind, single=single)
    together = TopicSet(topics)
    assert len(together) == len(topics)
    for weights in ([1, 1, 1], [0.3, 0, 0.7], [0, 0, 1], [2, 5, 1], [0, 0, 0]):
        np.testing.assert_allclose(
            together.values(weights), values_at(topics, weights), rtol=0, atol=1e-12
        )


@KINDS
def test_the_curve_is_that_of_the_rankings(kind):
    """Between the places where something changes, each mean is what the rankings give."""
    topics = drawn(kind, decimals=2)
    together = TopicSet(topics)
    found = curve(together, together.scores[0], together.scores[1])
    wide = np.flatnonzero(found.highs - found.lows > 1e-6)
    assert len(wide) > 30
    for place in wide:
        w = (found.lows[place] + found.highs[place]) / 2
        assert values_at(topics, [1 - w, w, 0]).mean() == pytest.approx(found.means[place])


@KINDS
@pytest.mark.parametrize("pairs", [1, 7, 100])
def test_blocks_of_any_size_give_the_same_curve(kind, pairs, monkeypatch):
    topics = drawn(kind)
    whole = TopicSet(topics)
    expected = curve(whole, whole.scores[0], whole.scores[2])
    monkeypatch.setattr(topic_sets, "_PAIRS", pairs)
    assert len(list(whole._blocks())) > 1
    found = curve(whole, whole.scores[0], whole.scores[2])
    np.testing.assert_array_equal(found.lows, expected.lows)
    np.testing.assert_allclose(found.means, expected.means, rtol=0, atol=1e-12)


def test_nothing_to_rank_is_worth_nothing():
    nothing = np.array([], np.int64)
    none = Topic(np.empty((2, 0)), nothing, np.array([]), np.ones(1))
    unjudged = Topic(np.ones((2, 3)), nothing, np.array([]), np.ones(1))
    for topics in ([none], [unjudged], [none, unjudged, none]):
        together = TopicSet(topics)
        assert together.values([1, 1]).tolist() == [0.0] * len(topics)
        found = curve(together, *together.scores)
        assert found.means.tolist() == [0.0]
        assert (found.lows.tolist(), found.highs.tolist()) == ([0.0], [1.0])


def test_topics_of_two_measures_do_not_go_together():
    with pytest.raises(ValueError, match="different measures"):
        TopicSet([*drawn(EACH), *drawn(FIRST)])
