"""Fusing ranked lists: the formulas, the policies, and inputs that lead others to divide by 0."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.fuse import fuse
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.fusing.method import NORMS
from dupmae_toolkit.fusing.norms import normalise
from dupmae_toolkit.fusing.registry import METHODS
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.search.fusion import parse_weights


def run_of(tag: str, **topics: dict[str, float]) -> Run:
    rankings = {
        topic: Ranking.as_trec_eval(list(scores), np.array(list(scores.values()), dtype=np.float64))
        for topic, scores in topics.items()
    }
    return Run(rankings, tag)


def reference(lists, method, weights=None, norm=None, missing="zero", k=60):
    """The same written plainly, a document at a time, from the papers' formulas."""
    norm = norm or {"sum": "none", "rrf": "none"}.get(method, "min-max")
    weights = weights or [1 / len(lists) if method == "linear" else 1.0] * len(lists)
    total = {}
    for scores, weight in zip(lists, weights, strict=True):
        values = list(scores.values())
        if norm == "min-max" and values:
            low, high = min(values), max(values)
            scores = {d: (s - low) / (high - low) if high > low else 1 for d, s in scores.items()}
        if norm == "z-score" and values:
            mean = math.fsum(values) / len(values)
            deviation = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / len(values))
            scores = {d: (s - mean) / deviation if deviation else 0 for d, s in scores.items()}
        ranked = sorted(scores, key=lambda d: (scores[d], d), reverse=True)
        for document in {d for other in lists for d in other}:
            if method == "rrf":
                part = 1 / (k + ranked.index(document) + 1) if document in scores else 0
            elif document in scores:
                part = scores[document]
            else:
                part = min(scores.values()) if missing == "min" and scores else 0
            total[document] = total.get(document, 0) + weight * part
    if method == "combmnz":
        total = {d: s * sum(d in scores for scores in lists) for d, s in total.items()}
    return total


COMBINATIONS = [
    ("sum", None, None, "zero"),
    ("sum", (0.25, 2.0, 1.0), None, "min"),
    ("linear", None, None, "zero"),
    ("linear", (0.2, 0.3, 0.5), "min-max", "min"),
    ("linear", (0.2, 0.3, 0.5), "z-score", "min"),
    ("linear", (1, 0, 3), "none", "zero"),
    ("combsum", None, None, "zero"),
    ("combsum", None, "z-score", "zero"),
    ("combmnz", None, None, "min"),
    ("combmnz", None, "none", "zero"),
    ("rrf", None, None, "zero"),
    ("rrf", (1, 2, 0.5), None, "min"),
]


@pytest.mark.parametrize(("method", "weights", "norm", "missing"), COMBINATIONS)
def test_every_method_equals_a_plain_implementation(method, weights, norm, missing):
    dice = random.Random(5)
    documents = [f"d{i}" for i in range(60)]
    for _ in range(20):
        lists = [
            {d: dice.choice([dice.uniform(-3, 9), 1.5]) for d in dice.sample(documents, size)}
            for size in (dice.randint(0, 40), dice.randint(1, 40), 1)
        ]
        runs = [run_of(f"r{i}", q=scores) for i, scores in enumerate(lists)]
        fused = fuse(runs, Fusion(method, weights, norm, missing), k=1000)["q"]
        expected = reference(lists, method, weights, norm, missing)
        assert set(fused.ids) == set(expected)
        np.testing.assert_allclose(
            fused.scores, [expected[d] for d in fused.ids], rtol=1e-6, atol=1e-6
        )
        keys = list(zip(fused.scores, fused.ids, strict=True))
        assert keys == sorted(keys, reverse=True)


def test_reciprocal_ranks_count_from_1_with_a_k_of_60():
    fused = fuse([run_of("a", q={"x": 9, "y": 3}), run_of("b", q={"y": 5})], Fusion("rrf"))
    assert fused["q"].ids == ["y", "x"]
    np.testing.assert_array_equal(
        fused["q"].scores, np.array([1 / 62 + 1 / 61, 1 / 61], dtype=np.float32)
    )


def test_ties_break_by_falling_id_also_at_the_cut():
    runs = [run_of("a", q={"c": 1, "10": 1, "9": 1, "b": 1}), run_of("b", q={})]
    assert fuse(runs, Fusion("sum"), k=3)["q"].ids == ["c", "b", "9"]


def test_topics_of_any_run_are_kept_in_order_and_as_text():
    runs = [run_of("a", **{"001": {"NA": 1}, "2": {}}), run_of("b", **{"1": {"NA": 2}})]
    fused = fuse(runs, Fusion("rrf"))
    assert list(fused) == ["001", "2", "1"]
    assert fused["001"].ids == ["NA"]
    assert len(fused["2"]) == 0


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("method", METHODS)
def test_lists_of_one_hit_of_equal_scores_and_empty_lists_stay_finite(method):
    lists = [
        {"one": {"x": 7}, "equal": {"x": 2, "y": 2}, "none": {}, "huge": {"x": 3e38, "y": -3e38}},
        {"one": {"y": 0}, "equal": {"y": -4, "z": -4}, "none": {}, "huge": {"z": 1e-45, "x": 0}},
    ]
    for norm in (None, *NORMS):
        low = (-3e38, -4.0) if norm == "theoretical" else None
        try:
            fusion = Fusion(method, norm=norm, low=low)
        except InputError:
            continue
        for missing in ("zero", "min", "leave-out"):
            huge = fusion.normalisation == "none" and fusion.reads_scores
            runs = [
                run_of("r", **{t: s for t, s in topics.items() if t != "huge" or not huge})
                for topics in lists
            ]
            fused = fuse(runs, Fusion(method, norm=norm, missing=missing, low=low))
            assert all(np.isfinite(fused[topic].scores).all() for topic in fused)


def test_scores_that_overflow_are_refused():
    runs = [run_of("a", q={"x": 3e38}), run_of("b", q={"x": 3e38})]
    with pytest.raises(InputError, match="min-max"):
        fuse(runs, Fusion("sum"))


def test_a_single_hit_is_the_best_of_its_list():
    fused = fuse([run_of("a", q={"x": 3, "y": 1}), run_of("b", q={"z": 8})], Fusion("combsum"))
    assert dict(zip(fused["q"].ids, fused["q"].scores.tolist(), strict=True)) == {
        "x": 1,
        "z": 1,
        "y": 0,
    }


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=20))
def test_normalised_scores_are_finite_and_keep_the_order(values):
    for norm in ("min-max", "z-score", "sum", "dbsf", "theoretical"):
        scores = normalise(np.array(values), norm, low=min(values, default=0.0))
        assert np.isfinite(scores).all()
        order = np.argsort(values, kind="stable")
        assert (np.diff(scores[order]) >= 0).all()
    if values and min(values) < max(values):
        ends = normalise(np.array(values), "min-max")
        assert ends.min() == 0 or ends.max() == 1


def test_completed_scores_are_used_and_only_combmnz_and_rrf_see_who_retrieved():
    scores = np.array([[1.0, 0.5, 0.0], [0.0, 2.0, 4.0]])
    ranks = np.array([[1, 2, 0], [0, 0, 1]])
    completed = {"completed": True}
    np.testing.assert_array_equal(Fusion("sum").fuse(scores, ranks, **completed), [1, 2.5, 4])
    np.testing.assert_array_equal(Fusion("linear").fuse(scores, ranks, **completed), [0.5] * 3)
    np.testing.assert_array_equal(Fusion("combmnz").fuse(scores, ranks, **completed), [1, 1, 1])
    rrf = Fusion("rrf").fuse(scores, ranks, **completed)
    np.testing.assert_allclose(rrf, [1 / 61, 1 / 62, 1 / 61])


def test_a_leg_that_found_nothing_adds_nothing():
    scores = np.array([[0.9, 0.1], [0.0, 0.0]])
    ranks = np.array([[1, 2], [0, 0]])
    np.testing.assert_array_equal(Fusion("linear").fuse(scores, ranks, completed=True), [0.5, 0])


def test_what_was_done_is_told():
    described = Fusion("linear", (0.3, 0.7), missing="min").describe(2, completed=False)
    assert described["weights"] == [0.3, 0.7]
    assert described["normalisation"] == "min-max"
    assert "smallest" in described["missing"]
    assert "id descending" in described["ties"]
    searched = Fusion("sum").describe(2, completed=True)
    assert "completed" in searched["missing"]
    assert "id ascending" in searched["ties"]
    assert Fusion("rrf").describe(2, completed=True)["missing"] == "adds 0"
    fused = fuse([run_of("a", q={"x": 1}), run_of("b", q={})], Fusion("rrf"), k=5)
    assert fused.metadata["fusion"]["rrf_k"] == 60
    assert fused.metadata["fused"] == ["a", "b"]
    assert fused.metadata["k"] == 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"method": "bordo"}, "did you mean borda"),
        ({"method": "wonder"}, r"'wonder'; choose one of sum"),
        ({"norm": "zscore", "method": "linear"}, "did you mean z-score"),
        ({"missing": "minimum"}, "did you mean min"),
        ({"method": "linear", "norm": "softmax"}, "none, min-max"),
        ({"method": "sum", "norm": "min-max"}, "use linear"),
        ({"method": "combmnz", "norm": "z-score"}, "below 0"),
        ({"method": "combsum", "weights": (1, 2)}, "takes no weights"),
        ({"method": "sum", "weights": (1, -1)}, "at least 0"),
        ({"method": "sum", "weights": (0, 0)}, "more than 0"),
        ({"method": "sum", "weights": (math.nan, 1)}, "finite"),
        ({"method": "rrf", "rrf_k": 0}, "more than 0"),
        ({"rrf_k": "x"}, "rrf_k is 'x'; give a number"),
        ({"rrf_k": True}, "rrf_k is True; give a number"),
        ({"persistence": None}, "persistence is None; give a number"),
        ({"method": "linear", "weights": 0.5}, r"weights 0\.5: give a number for each list"),
        ({"method": "linear", "weights": ("a", "b")}, "give a number for each list"),
        ({"method": "linear", "weights": "12"}, "give a number for each list"),
        ({"method": "linear", "norm": "theoretical", "low": 0.0}, "give a number for each list"),
        ({"missing": "mean"}, "zero, min, leave-out"),
        ({"method": "borda", "norm": "rank"}, "use linear"),
        ({"method": "dbsf", "norm": "z-score"}, "has its own norm"),
        ({"method": "isr", "weights": (1, 2)}, "takes no weights"),
        ({"method": "rbc", "persistence": 1.0}, "between 0 and 1"),
        ({"method": "rbc", "persistence": math.nan}, "between 0 and 1"),
        ({"method": "linear", "norm": "theoretical"}, "--low"),
        ({"method": "linear", "low": (0.0,)}, "other norms take none"),
        ({"method": "linear", "norm": "theoretical", "low": (math.inf,)}, "finite"),
        ({"method": "linear", "norm": "theoretical", "low": ()}, "finite"),
    ],
)
def test_what_cannot_be_meant_is_refused(arguments, words):
    with pytest.raises(InputError, match=words):
        Fusion(**arguments)


def test_wrong_numbers_of_lists_weights_and_hits_are_refused():
    runs = [run_of("a", q={"x": 1}), run_of("b", q={"x": 1})]
    with pytest.raises(InputError, match="two or more"):
        fuse(runs[:1], Fusion("rrf"))
    with pytest.raises(InputError, match="3 given for 2 lists"):
        fuse(runs, Fusion("linear", (1, 2, 3)))
    with pytest.raises(InputError, match="k is 0"):
        fuse(runs, Fusion("rrf"), k=0)
    runs[1]["q"].scores[0] = math.inf
    with pytest.raises(InputError, match="run b, topic q"):
        fuse(runs, Fusion("combsum"))


def test_weights_are_read_from_text():
    assert parse_weights("0.5, 2") == (0.5, 2.0)
    assert parse_weights(None) is None
    with pytest.raises(InputError, match=r"such as 40,1,1\.5"):
        parse_weights("half,half")
