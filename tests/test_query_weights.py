"""Weights per query: learned where the queries' features tell them, and not where nothing does."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from dupmae_toolkit.evaluation.query_weights import (
    FEATURES,
    best_change,
    changed,
    features_of,
    predicted_gain,
)
from dupmae_toolkit.evaluation.tuning_topics import Topic
from dupmae_toolkit.search.engine import Candidates


def topic(dense_is_right: bool, dice) -> Topic:
    """One relevant document; one part ranks it first, and the other ranks another first."""
    right, wrong = (0, 1) if dense_is_right else (1, 0)
    scores = np.sort(dice.random((2, 8)) * 0.2, axis=1)[:, ::-1].copy()
    scores[right, 5], scores[wrong, 5] = 0.6, 0.0
    scores[wrong, 3], scores[right, 3] = 0.6, 0.0  # first where both are equal
    return Topic(scores, np.array([5]), np.array([1.0]), np.array([1.0]))


def made(count: int, telling: bool):
    dice = np.random.default_rng(4)
    topics, features = {}, {}
    for n in range(count):
        kind = bool(dice.random() < 0.5)
        topics[f"q{n}"] = topic(kind, dice)
        hint = float(kind) if telling else dice.random()
        features[f"q{n}"] = np.array([hint, dice.random(), 1.0])
    return topics, features


def test_features_that_tell_which_part_is_right_gain_on_topics_held_out():
    found = predicted_gain(*made(60, telling=True))
    assert found.predicting == found.folds == 5
    assert found.fixed.mean < 0.7
    assert found.predicted.mean > 0.95
    assert found.gain.is_above_zero
    assert found.gain.mean == pytest.approx(found.predicted.mean - found.fixed.mean)


def test_features_that_tell_nothing_gain_nothing():
    found = predicted_gain(*made(60, telling=False))
    assert not found.gain.is_above_zero
    assert abs(found.gain.mean) < 0.2


def test_the_best_change_is_the_nearest_of_those_that_no_change_beats():
    dice = np.random.default_rng(8)
    moved = 0
    for _ in range(40):
        relevant = np.sort(dice.choice(9, 2, replace=False))
        one = Topic(dice.random((3, 9)), relevant, np.ones(2) / 2, 1 / np.arange(2.0, 5))
        weights = dice.random(3) + 0.1
        change = best_change(one, weights)
        value = one.value(changed(weights, change))
        grid = np.linspace(-2.999, 2.999, 1201)
        values = np.array([one.value(changed(weights, each)) for each in grid])
        # Beyond exp(±3) there may be better ones, of which the end of the range is taken.
        if abs(change) < 3:
            assert value >= values.max() - 1e-12
            good = values >= value - 1e-12
            nearest = grid[good][np.abs(grid[good]).argmin()]
            between = (grid >= min(nearest, change)) & (grid <= max(nearest, change))
            assert good[between].all()  # on the nearest plateau
            moved += change != 0
    assert moved > 10


def test_no_change_without_a_relevant_document_or_another_part():
    dice = np.random.default_rng(1)
    empty = Topic(dice.random((2, 5)), np.array([], np.int64), np.array([]), np.ones(3))
    assert best_change(empty, np.array([1.0, 1.0])) == 0
    some = topic(True, dice)
    assert best_change(some, np.array([0.0, 1.0])) == 0
    assert best_change(some, np.array([1.0, 0.0])) == 0


def test_features_of_a_query_by_hand():
    counted = SimpleNamespace(
        of_words=lambda words: np.array([{"cat": 4, "dog": 2}.get(word, 0) for word in words]),
        idf=lambda frequencies: 8.0 / frequencies,
    )
    scores = np.array([np.arange(12, 0, -1.0), np.zeros(12)])
    ranks = np.array([np.arange(1, 13), [*range(12, 0, -1)]])
    found = Candidates(np.arange(12), scores, ranks)
    features = features_of("cats, a dog and zyzzyva dogs", found, counted)
    assert len(features) == len(FEATURES)
    assert features[:4] == pytest.approx([np.log1p(4), 3.0, 4.0, 1 / 3])
    # Both lists have eight of the first ten in common; the second has no spread.
    assert features[4:] == pytest.approx([0.8, 9 / np.arange(12).std(), 0.0])


@pytest.mark.parametrize("text", ["", "the", "zyzzyva"])
def test_features_are_finite_whatever_the_query(text):
    counted = SimpleNamespace(of_words=lambda words: np.zeros(len(words)), idf=lambda f: 1 / f)
    nothing = Candidates(np.zeros(0, np.int64), np.zeros((2, 0)), np.zeros((2, 0), np.int64))
    features = features_of(text, nothing, counted)
    assert np.isfinite(features).all()
    assert features[3] == 1
