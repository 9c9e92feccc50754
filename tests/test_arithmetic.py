"""The scan of all vectors, and the choice of the best, against sorting everything."""

from __future__ import annotations

import faiss
import numpy as np
import pytest

from dupmae_toolkit.search import arithmetic
from dupmae_toolkit.search.arithmetic import best, kth_largest, rounding, scan


def sorted_all(scores: np.ndarray, k: int) -> np.ndarray:
    return np.lexsort((np.arange(len(scores)), -scores))[:k]


@pytest.mark.parametrize("kind", ["different", "many ties", "all the same", "negative", "infinite"])
@pytest.mark.parametrize("count", [1, 2, 17, 400])
@pytest.mark.parametrize("k", [1, 2, 16, 399, 400, 1000])
def test_the_best_are_those_of_a_whole_sort(kind, count, k):
    dice = np.random.default_rng(count)
    scores = dice.normal(size=count).astype(np.float32)
    if kind == "many ties":
        scores = np.round(scores)
    elif kind == "all the same":
        scores[:] = 3
    elif kind == "negative":
        scores = -np.abs(scores)
    elif kind == "infinite":
        scores[::3] = np.inf
        scores[1::3] = -np.inf
    places, values = best(scores, k)
    assert places.dtype == np.int32
    np.testing.assert_array_equal(places, sorted_all(scores, k))
    np.testing.assert_array_equal(values, scores[places])


@pytest.mark.parametrize("spoilt", [1, 3, 10, 50])
@pytest.mark.parametrize("first", [True, False])
def test_a_score_that_is_no_number_is_among_the_best(spoilt, first):
    scores = np.random.default_rng(0).normal(size=50).astype(np.float32)
    scores[slice(0, spoilt) if first else slice(50 - spoilt, 50)] = np.nan
    assert np.isnan(best(scores, 5)[1]).sum() == min(spoilt, 5)


@pytest.mark.parametrize("row", [0, 7])
def test_a_norm_that_is_no_number_is_told(row, monkeypatch):
    monkeypatch.setattr(arithmetic, "_NORM_ROWS", 4)
    vectors = np.ones((8, 3), np.float32)
    assert arithmetic.largest_norm(vectors) == np.sqrt(3)
    vectors[row] = np.nan
    assert np.isnan(arithmetic.largest_norm(vectors))


@pytest.mark.parametrize("queries", [1, 2, 30])
@pytest.mark.parametrize("k", [1, 10, 700])
@pytest.mark.parametrize("block", [50, 2**22])
def test_a_scan_finds_what_faiss_finds(queries, k, block, monkeypatch):
    monkeypatch.setattr(arithmetic, "MAX_SCORES", block)
    dice = np.random.default_rng(k)
    vectors = dice.normal(size=(700, 48)).astype(np.float32)
    asked = dice.normal(size=(queries, 48)).astype(np.float32)
    scores, rows = faiss.knn(asked, vectors, k, metric=faiss.METRIC_INNER_PRODUCT)
    found = scan(vectors, asked, k)
    exact = asked.astype(np.float64) @ vectors.T.astype(np.float64)
    for number, (places, values) in enumerate(found):
        assert len(places) == k
        # Two scores that differ by rounding alone may change places.
        reach = np.linalg.norm(asked[number]) * np.linalg.norm(vectors, axis=1).max()
        bound = rounding(48, float(reach))
        np.testing.assert_allclose(values, scores[number], rtol=0, atol=2 * bound)
        np.testing.assert_allclose(values, exact[number][places], rtol=0, atol=bound)
        assert len(set(places.tolist()) & set(rows[number].tolist())) >= k - 1


@pytest.mark.parametrize("block", [7, 2**22])
def test_equal_vectors_come_in_the_order_of_their_rows(block, monkeypatch):
    monkeypatch.setattr(arithmetic, "MAX_SCORES", block)
    vectors = np.ones((40, 8), np.float32)
    for asked in (np.ones((1, 8), np.float32), np.ones((5, 8), np.float32)):
        for places, values in scan(vectors, asked, 11):
            assert places.tolist() == list(range(11))
            assert values.tolist() == [8.0] * 11


def test_the_best_none_are_none():
    places, values = best(np.ones(3), 0)
    assert len(places) == len(values) == 0


def test_no_query_and_no_vector_are_no_trouble():
    vectors = np.ones((4, 3), np.float32)
    assert scan(vectors, np.empty((0, 3), np.float32), 2) == []
    for queries in (1, 2):
        for places, values in scan(vectors[:0], np.ones((queries, 3), np.float32), 2):
            assert len(places) == len(values) == 0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [1, 2, 63, 64, 127, 128, 129, 5_000, 20_011])
@pytest.mark.parametrize("kind", ["normal", "ties", "zeros", "nan", "infinite", "rising"])
def test_kth_largest_is_that_of_a_sorted_copy(size, kind, dtype):
    rng = np.random.default_rng(size)
    scores = rng.normal(size=size).astype(dtype)
    if kind == "ties":
        scores = np.rint(scores)
    elif kind == "zeros":
        scores = np.maximum(scores - 3, 0)
    elif kind == "nan":
        scores[rng.random(size) < 0.1] = np.nan
    elif kind == "infinite":
        scores[rng.random(size) < 0.2] = -np.inf
        scores[rng.random(size) < 0.01] = np.inf
    elif kind == "rising":
        scores.sort()
    falling = np.sort(scores)[::-1]  # NaN first
    before = scores.copy()
    for k in {1, 2, 10, 32, size // 32, size // 31, size // 128, size - 1, size} - {0}:
        if k <= size:
            np.testing.assert_array_equal(kth_largest(scores, k), falling[k - 1])
    np.testing.assert_array_equal(scores, before)
