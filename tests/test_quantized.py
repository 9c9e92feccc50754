"""Vectors in bytes: the bound on their scores holds, and no answer of a search depends on them."""

from __future__ import annotations

import sys
import time

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.search import arithmetic
from dupmae_toolkit.search import dense as dense_module
from dupmae_toolkit.search import quantized as quantized_module
from dupmae_toolkit.search.arithmetic import contenders, scan
from dupmae_toolkit.search.dense import DenseShard
from dupmae_toolkit.search.quantized import Quantized, quantized_if_faster
from tests.index_support import documents_of
from tests.support import HashingEncoder
from tests.test_processor import saturating

DICE = np.random.default_rng(5)


def normal(count: int, width: int) -> np.ndarray:
    return DICE.normal(size=(count, width)).astype(np.float32)


def outliers(count: int, width: int) -> np.ndarray:
    vectors = normal(count, width)
    vectors[:, 0] *= 50
    vectors[3] *= 1000
    return vectors


VECTORS = {
    "unit": lambda: (lambda v: v / np.linalg.norm(v, axis=1, keepdims=True))(normal(500, 384)),
    "outliers": lambda: outliers(300, 63),
    "two dimensions": lambda: normal(200, 2),
    "wide": lambda: normal(65, 2000),
    "one": lambda: normal(1, 17),
    "zero": lambda: np.zeros((70, 16), np.float32),
    "tiny": lambda: normal(100, 32) * np.float32(1e-38),
    "large": lambda: normal(100, 32) * np.float32(1e36),
    "the same": lambda: np.repeat(normal(1, 48), 90, axis=0),
    "at the steps' middles": lambda: (np.arange(64 * 255).reshape(-1, 64) % 255 - 127 + 0.5).astype(
        np.float32
    ),
}


@pytest.mark.parametrize("name", VECTORS)
def test_no_score_is_off_by_more_than_the_bound(name):
    vectors = VECTORS[name]()
    quantized = Quantized(vectors)
    queries = [vectors[0], vectors[-1], *normal(20, vectors.shape[1]), np.zeros_like(vectors[0])]
    queries += [np.float32(1e-30) * queries[2], np.float32(1e30) * queries[3]]
    for query in queries:
        query = query.astype(np.float32)
        exact = vectors.astype(np.longdouble) @ query.astype(np.longdouble)
        scores, error = quantized.scores(query)
        assert np.abs(scores - exact).max() <= error
        # And says something: a bound of a tenth of what the lengths allow, or there is nothing.
        assert error <= 0.1 * quantized.largest_norm * np.linalg.norm(
            query.astype(np.float64)
        ) or vectors.shape[1] in (2, 63, 2000)


def test_a_bound_that_were_half_as_wide_would_be_broken():
    # Otherwise the test above could not tell a bound from a guess.
    vectors = np.full((8, 64), 0.5, np.float32)
    vectors[0, 0] = 127  # a step of 1: every other number lies between two
    query = np.full(64, 0.5, np.float32)
    query[0] = 0
    quantized = Quantized(vectors)
    exact = vectors.astype(np.float64) @ query
    scores, error = quantized.scores(query)
    off = np.abs(scores - exact).max()
    assert 0.5 * error < off <= error


def test_contenders_are_all_that_may_be_among_the_best():
    for seed in range(200):
        dice = np.random.default_rng(seed)
        true = np.round(dice.normal(size=60), 1)
        error = float(dice.choice([0.0, 0.05, 0.5]))
        seen = true + dice.uniform(-error, error, 60)
        for k in (1, 7, 59, 60, 61):
            least = np.sort(true)[::-1][min(k, 60) - 1]
            assert set(np.flatnonzero(true >= least)) <= set(contenders(seen, k, error))
    assert not len(contenders(np.arange(5.0), 0, 1.0))
    assert not len(contenders(np.empty(0), 3, 1.0))
    assert contenders(np.array([1.0, np.nan, 2.0]), 1, 0.0).tolist() == [0, 1, 2]


def test_scores_that_are_equal_as_float32_are_contenders():
    scores = np.array([1.0, 1.0 - 2.0**-26, 0.5])
    assert contenders(scores, 1, 0.0).tolist() == [0, 1]


@pytest.fixture
def always(monkeypatch):
    """The copy is made, and used, for whatever vectors, whether or not it is faster."""
    monkeypatch.setattr(dense_module, "quantized_if_faster", Quantized)
    monkeypatch.setattr(arithmetic, "EXACT_COST", 1)


@pytest.mark.parametrize("k", [1, 10, 499, 500, 900])
def test_a_scan_finds_the_same_with_it(always, k):
    vectors = VECTORS["unit"]()
    vectors[7:40] = vectors[6]
    quick = DenseShard(vectors)
    assert quick.all_scores(vectors[:1])[1] == 0.0
    quick.prepare()
    for query in (vectors[6], *normal(5, 384)):
        ((rows, scores),) = quick.scan(query[None], k)
        ((expected, values),) = scan(vectors, query[None], k)
        # float32 products of fewer rows may be rounded otherwise; equal vectors stay together.
        np.testing.assert_allclose(scores, values, rtol=0, atol=1e-5)
        exact = vectors.astype(np.float64) @ query
        np.testing.assert_allclose(exact[rows], exact[expected], rtol=0, atol=1e-5)
        assert len(set(rows.tolist())) == len(rows) == min(k, 500)
        assert quick.all_scores(query[None])[1] > 0.0


def test_several_queries_at_once_do_not_use_it(always):
    vectors = VECTORS["unit"]()
    flat = DenseShard(vectors)
    flat.prepare()
    scores, error = flat.all_scores(vectors[:3])
    assert error == 0.0
    np.testing.assert_array_equal(scores, vectors[:3] @ vectors.T)


def test_it_is_made_when_queries_keep_coming_alone(always):
    vectors = VECTORS["unit"]()
    flat = DenseShard(vectors)
    for _ in range(3):
        flat.all_scores(vectors[:1])
        flat.all_scores(vectors[:2])
    time.sleep(0.1)
    assert flat.all_scores(vectors[:1])[1] == 0.0
    until = time.monotonic() + 60
    while not flat.all_scores(vectors[:1])[1]:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_an_index_answers_the_same_before_and_after(tmp_path, always):
    documents = documents_of(90)
    index = HybridIndex.build(tmp_path / "index", documents, HashingEncoder(), segment_size=40)
    index.delete([document.id for document in documents][5:20])
    texts = [*(document.contents for document in documents[::9]), "unheard"]

    def answers():
        return [
            index.search(text, k, mode=mode, fusion=fusion, depth=max(k, 20), exact=exact)
            for text in texts
            for k in (1, 10, 75)
            for mode, fusion, exact in (
                ("dense", "sum", False),
                ("dense", "sum", True),
                ("hybrid", "sum", False),
                ("hybrid", "sum", True),
                ("hybrid", "rrf", False),
            )
        ]

    before = answers()
    index.warm()
    for shard in index._snapshot._shards.dense(index._snapshot.searched):
        assert shard._quantized is not None
    assert answers() == before
    index.close()


def test_without_torch_in_the_process_it_is_not_made_unasked(always, monkeypatch):
    vectors = VECTORS["unit"]()
    flat = DenseShard(vectors)
    monkeypatch.delitem(sys.modules, "torch")
    for _ in range(20):
        flat.all_scores(vectors[:1])
    assert not flat._begun


def test_vectors_that_are_not_finite_get_none(monkeypatch):
    monkeypatch.setattr(quantized_module, "MIN_ROWS", 1)
    for bad in (np.nan, np.inf, -np.inf):
        vectors = normal(50, 8)
        vectors[3, 3] = bad
        assert quantized_if_faster(vectors) is None


def test_a_product_that_is_wrong_is_noticed(monkeypatch):
    import torch

    monkeypatch.setattr(quantized_module, "MIN_ROWS", 1)
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b).roll(1, 1))
    vectors = normal(50, 8)
    with pytest.raises(RuntimeError, match="miscomputes"):
        Quantized(vectors)
    assert quantized_if_faster(vectors) is None
    monkeypatch.delattr(torch, "_int_mm")
    assert quantized_if_faster(vectors) is None


def test_sums_of_pairs_that_stay_in_16_bits_are_noticed_whatever_the_width(monkeypatch):
    import torch

    monkeypatch.setattr(torch, "_int_mm", saturating)
    for sign in (1, -1):
        with pytest.raises(RuntimeError, match="miscomputes"):
            Quantized(np.full((9, 16), sign, np.float32))


def test_there_is_none_where_it_would_leave_too_many_documents(monkeypatch):
    monkeypatch.setattr(quantized_module, "MIN_ROWS", 1)
    monkeypatch.setattr(quantized_module, "_seconds", lambda work: next(times))
    vectors = normal(2000, 8)
    times = iter([1.0] * quantized_module._TRIALS + [2.0] * quantized_module._TRIALS)
    assert quantized_if_faster(vectors) is not None
    vectors[:, 5] += 1000  # one dimension that is larger than all others, as encoders have them
    assert quantized_if_faster(vectors) is None


def test_too_many_contenders_are_not_looked_at_one_by_one(tmp_path, monkeypatch):
    index = HybridIndex.build(tmp_path / "index", documents_of(90), HashingEncoder())
    searches = [("dense", "sum"), ("hybrid", "sum"), ("hybrid", "rrf")]

    def answers():
        return [index.search("list of words", 2, mode=m, fusion=f, depth=3) for m, f in searches]

    class Useless(Quantized):
        def scores(self, query):
            return super().scores(query)[0], 1e3

    before, looked_at = answers(), []
    monkeypatch.setattr(dense_module, "quantized_if_faster", Useless)
    index.warm()
    (shard,) = index._snapshot._shards.dense(index._snapshot.searched)
    assert shard.all_scores(index.encoder.encode_queries(["list"]).dense)[1] == 1e3
    exact = type(shard).score
    monkeypatch.setattr(
        type(shard), "score", lambda s, q, rows: looked_at.append(len(rows)) or exact(s, q, rows)
    )
    assert answers() == before
    assert max(looked_at) < 40
    index.close()


def test_a_search_needs_no_thread_and_no_room_for_the_copy(monkeypatch):
    import threading

    def refuse(*_):
        raise RuntimeError("can't start new thread")

    vectors = VECTORS["unit"]()
    flat = DenseShard(vectors)
    monkeypatch.setattr(threading.Thread, "start", refuse)
    for _ in range(9):
        assert flat.all_scores(vectors[:1])[1] == 0.0

    def full(_):
        raise MemoryError

    monkeypatch.setattr(quantized_module, "MIN_ROWS", 1)
    monkeypatch.setattr(quantized_module, "Quantized", full)
    flat.prepare()
    assert flat.all_scores(vectors[:1])[1] == 0.0


def test_the_copy_is_made_once_whoever_asks_for_it(monkeypatch):
    made = []
    monkeypatch.setattr(
        dense_module, "quantized_if_faster", lambda v: made.append(v) or Quantized(v)
    )
    flat = DenseShard(VECTORS["unit"]())
    flat.prepare()
    flat.prepare()
    assert len(made) == 1


def test_it_is_taken_only_where_it_is_faster(monkeypatch):
    monkeypatch.setattr(quantized_module, "MIN_ROWS", 1)
    vectors = normal(50, 8)
    for ours, theirs in ((1.0, 2.0), (2.0, 1.0)):
        times = iter([ours] * quantized_module._TRIALS + [theirs] * quantized_module._TRIALS)
        monkeypatch.setattr(quantized_module, "_seconds", lambda work, times=times: next(times))
        assert (quantized_if_faster(vectors) is not None) == (ours < theirs)
    monkeypatch.setattr(quantized_module, "MIN_ROWS", 51)
    assert quantized_if_faster(vectors) is None
