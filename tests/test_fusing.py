"""Methods and norms of fusion: against the papers' formulas, Pyserini and plain elections."""

from __future__ import annotations

import itertools
import math
import os
import random
import statistics

import numpy as np
import pytest

from dupmae_toolkit import Fusion, Run, compare, evaluate, fuse, tune, write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.norms import normalise
from dupmae_toolkit.fusing.registry import METHODS
from dupmae_toolkit.records import Ranking
from dupmae_toolkit.search.fusion import METHODS as SEARCHED


def lists_of(seed, sizes=(25, 40, 1, 12), documents=50):
    """Lists of whole scores, with ties, that share some of their documents."""
    dice = random.Random(seed)
    names = [f"d{n}" for n in range(documents)]
    return [{d: dice.randint(1, 30) for d in dice.sample(names, size)} for size in sizes]


def ranked(scores):
    """As trec_eval ranks them."""
    return sorted(scores, key=lambda name: (scores[name], name), reverse=True)


def union(lists):
    return {name for scores in lists for name in scores}


def in_ranks(lists, value, factor=lambda count: 1):
    """Σ value(rank) over the lists that hold a document, times factor(number of these)."""
    places = [{d: n for n, d in enumerate(ranked(scores), 1)} for scores in lists]
    found = {}
    for document in union(lists):
        held = [place[document] for place in places if document in place]
        found[document] = sum(map(value, held)) * factor(len(held))
    return found


def min_max(scores):
    low, high = min(scores.values()), max(scores.values())
    return {d: (s - low) / (high - low) if high > low else 1.0 for d, s in scores.items()}


def held_scores(lists, combine):
    """combine(scores of the lists that hold a document), after min-max."""
    lists = [min_max(scores) for scores in lists]
    return {
        document: combine([scores[document] for scores in lists if document in scores])
        for document in union(lists)
    }


def borda(lists):
    """Points dealt from a heap, as in Aslam and Montague's text."""
    everyone, found = union(lists), dict.fromkeys(union(lists), 0.0)
    for scores in lists:
        heap = list(range(1, len(everyone) + 1))
        for document in ranked(scores):
            found[document] += heap.pop()
        for document in everyone - set(scores):
            found[document] += statistics.fmean(heap)
    return found


def dbsf(lists):
    found = dict.fromkeys(union(lists), 0.0)
    for scores in lists:
        spread = statistics.stdev(scores.values()) if len(scores) > 1 else 0
        low = statistics.fmean(scores.values()) - 3 * spread
        for document, score in scores.items():
            found[document] += (score - low) / (6 * spread) if spread else 0.5
    return found


def copeland(lists):
    """Wins less defeats, a pair at a time."""
    everyone = sorted(union(lists))
    found = dict.fromkeys(everyone, 0)
    places = [{d: n for n, d in enumerate(ranked(scores))} for scores in lists]
    for one, other in itertools.combinations(everyone, 2):
        votes = 0
        for place in places:
            a, b = place.get(one, 1000), place.get(other, 1000)
            votes += (a < b) - (a > b)
        found[one] += (votes > 0) - (votes < 0)
        found[other] -= (votes > 0) - (votes < 0)
    return found


ORACLES = {
    "combanz": lambda lists: held_scores(lists, statistics.fmean),
    "combmin": lambda lists: held_scores(lists, min),
    "combmax": lambda lists: held_scores(lists, max),
    "combmed": lambda lists: held_scores(lists, statistics.median),
    "isr": lambda lists: in_ranks(lists, lambda r: 1 / r**2, lambda n: n),
    "log-isr": lambda lists: in_ranks(lists, lambda r: 1 / r**2, math.log),
    "logn-isr": lambda lists: in_ranks(lists, lambda r: 1 / r**2, lambda n: math.log(n + 0.01)),
    "rbc": lambda lists: in_ranks(lists, lambda r: 0.2 * 0.8 ** (r - 1)),
    "borda": borda,
    "condorcet": copeland,
    "dbsf": dbsf,
}


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("method", ORACLES)
def test_every_method_is_the_formula_of_its_paper(method, seed):
    lists = lists_of(seed)
    runs = [Run.from_dict({"q": scores}) for scores in lists]
    found, expected = fuse(runs, method)["q"], ORACLES[method](lists)
    assert set(found.ids) == set(expected)
    np.testing.assert_allclose(
        found.scores, [expected[name] for name in found.ids], rtol=1e-6, atol=1e-7
    )
    written = dict(zip(found.ids, found.scores.tolist(), strict=True))
    assert found.ids == ranked(written)


def test_every_method_has_an_oracle_here_or_in_the_tests_of_fusion():
    assert set(ORACLES) | set(SEARCHED) == set(METHODS)


@pytest.fixture
def pyserini(monkeypatch):
    monkeypatch.setitem(os.environ, "OPENAI_API_KEY", "none")
    return pytest.importorskip("pyserini.fusion"), pytest.importorskip("pyserini.trectools")


def test_pyserini_gives_the_same_scores(pyserini, tmp_path):
    fusion, tools = pyserini
    dice = random.Random(3)
    runs = []
    for _ in range(3):
        # No two scores alike: Pyserini ranks by the order of the lines.
        values = dice.sample(range(1000), 40)
        names = [f"d{n}" for n in dice.sample(range(70), 40)]
        runs.append({f"q{t}": dict(zip(names, values, strict=True)) for t in range(3)})
    mine, theirs = [], []
    for place, topics in enumerate(runs):
        path = tmp_path / f"{place}.trec"
        path.write_text(
            "".join(
                f"{topic} Q0 {name} {rank} {scores[name]} t\n"
                for topic, scores in topics.items()
                for rank, name in enumerate(ranked(scores), 1)
            )
        )
        mine.append(Run.from_dict(topics))
        theirs.append(tools.TrecRun(str(path)))
    pairs = [
        (Fusion("rrf"), mine, lambda: fusion.reciprocal_rank_fusion(theirs)),
        (Fusion("rrf", rrf_k=5), mine, lambda: fusion.reciprocal_rank_fusion(theirs, rrf_k=5)),
        (Fusion("linear", norm="none"), mine, lambda: fusion.average(theirs)),
        (Fusion("combsum"), mine, lambda: fusion.normalize(theirs)),
        (Fusion("sum", (0.3, 0.7)), mine[:2], lambda: fusion.interpolation(theirs[:2], 0.3)),
    ]
    for how, given, pyserinis in pairs:
        found = fuse(given, how).to_dict()
        table = pyserinis().run_data
        rows = zip(table["topic"], table["docid"], table["score"], strict=True)
        expected = {(topic, name): score for topic, name, score in rows}
        ours = {(t, d): score for t, scores in found.items() for d, score in scores.items()}
        assert ours == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(5))
def test_norms_are_their_formulas(seed):
    dice = random.Random(seed)
    scores = sorted((dice.uniform(-5, 9) for _ in range(12)), reverse=True)
    low, mean = min(scores), statistics.fmean(scores)
    spread, sample = statistics.pstdev(scores), statistics.stdev(scores)
    expected = {
        "none": scores,
        "min-max": [(s - low) / (scores[0] - low) for s in scores],
        "theoretical": [(s + 6) / (scores[0] + 6) for s in scores],
        "z-score": [(s - mean) / spread for s in scores],
        "rank": [1 - n / 12 for n in range(12)],
        "sum": [(s - low) / math.fsum(x - low for x in scores) for s in scores],
        "dbsf": [(s - mean + 3 * sample) / (6 * sample) for s in scores],
    }
    for norm, wanted in expected.items():
        np.testing.assert_allclose(normalise(np.array(scores), norm, low=-6.0), wanted, atol=1e-12)
    assert normalise(np.array(scores), "sum").sum() == pytest.approx(1)


def test_equal_scores_are_the_best_of_their_list_or_lie_in_its_middle():
    equal = np.array([4.0, 4.0])
    values = {"min-max": 1, "z-score": 0, "sum": 0.5, "dbsf": 0.5}
    for norm, value in values.items():
        assert normalise(equal, norm).tolist() == [value, value]
    assert normalise(equal, "rank").tolist() == [1, 0.5]
    assert normalise(equal, "theoretical", low=1.0).tolist() == [1, 1]
    assert normalise(equal, "theoretical", low=4.0).tolist() == [0, 0]


def test_a_missing_score_counts_as_the_policy_says():
    runs = [Run.from_dict({"q": {"x": 4, "y": 2}}), Run.from_dict({"q": {"y": -3}, "p": {"z": 1}})]
    expected = {
        ("combmin", "zero"): {"x": 0, "y": -3},
        ("combmin", "min"): {"x": -3, "y": -3},
        ("combmin", None): {"x": 4, "y": -3},
        ("combmax", "zero"): {"x": 4, "y": 2},
        ("combmed", "min"): {"x": 0.5, "y": -0.5},
        ("combmed", "leave-out"): {"x": 4, "y": -0.5},
        ("combsum", "min"): {"x": 1, "y": -1},
        ("combsum", "leave-out"): {"x": 4, "y": -1},
        ("combanz", "leave-out"): {"x": 4, "y": -0.5},
    }
    for (method, missing), scores in expected.items():
        fused = fuse(runs, Fusion(method, norm="none", missing=missing)).to_dict()
        assert fused["q"] == scores, (method, missing)
        # A run without the topic has no smallest score.
        alone = 0 if (method, missing) == ("combmin", "zero") else 1
        assert fused["p"] == {"z": alone}, (method, missing)


def test_theoretical_lows_belong_to_their_runs():
    runs = [Run.from_dict({"q": {"x": 8, "y": 2}}), Run.from_dict({"q": {"x": 0.5, "y": 1}})]
    how = Fusion("linear", norm="theoretical", low=(0.0, -1.0))
    assert fuse(runs, how).to_dict()["q"] == pytest.approx({"x": 0.875, "y": 0.625})
    both = Fusion("combsum", norm="theoretical", low=(0.0,))
    assert fuse(runs, both).to_dict()["q"] == pytest.approx({"x": 1.5, "y": 1.25})
    with pytest.raises(InputError, match=r"score 0\.5 is below 0\.6"):
        fuse(runs, Fusion("linear", norm="theoretical", low=(0.0, 0.6)))
    with pytest.raises(InputError, match="3 given for 2"):
        fuse(runs, Fusion("linear", norm="theoretical", low=(0.0, 0.0, 0.0)))


# Elections.


def test_the_winner_of_every_pair_comes_first_and_a_transitive_order_is_kept():
    orders = ["abcde", "badce", "acbde", "abdec", "eabcd"]
    runs = [
        Run.from_dict({"q": {name: -place for place, name in enumerate(order)}}) for order in orders
    ]
    found = fuse(runs, "condorcet")["q"]

    def beats(one, other):
        return sum(order.index(one) < order.index(other) for order in orders) > 2

    for one, other in itertools.combinations(found.ids, 2):
        assert beats(one, other)


def test_majorities_in_a_circle_tie():
    runs = [
        Run.from_dict({"q": {name: -n for n, name in enumerate(order)}})
        for order in ("abc", "bca", "cab")
    ]
    assert fuse(runs, "condorcet").to_dict()["q"] == {"c": 0, "b": 0, "a": 0}


def test_weights_are_votes():
    runs = [Run.from_dict({"q": {"x": 2, "y": 1}}), Run.from_dict({"q": {"y": 2, "x": 1}})]
    for method in ("borda", "condorcet", "rbc", "rrf", "dbsf"):
        assert fuse(runs, Fusion(method, (3, 1)))["q"].ids == ["x", "y"]
        assert fuse(runs, Fusion(method, (1, 3)))["q"].ids == ["y", "x"]


def test_votes_that_rounding_leaves_apart_are_tied():
    runs = [
        Run.from_dict({"q": dict(zip(names, (2, 1), strict=True))}) for names in ("ab", "ab", "ba")
    ]
    found = fuse(runs, Fusion("condorcet", (0.1, 0.2, 0.3)))["q"]  # 0.1 + 0.2 - 0.3 is not 0
    assert found.scores.tolist() == [0, 0]


def test_a_long_list_is_counted_in_pieces():
    names = [f"d{n:05}" for n in range(3000)]
    runs = [Run.from_dict({"q": {name: -n for n, name in enumerate(names)}})] * 2
    found = fuse(runs, "condorcet", k=3000)["q"]
    assert found.ids == names
    assert found.scores.tolist() == list(range(2999, -3000, -2))
    weighted = fuse(runs, Fusion("condorcet", (1, 2)), k=3000)["q"]
    assert weighted.scores.tolist() == found.scores.tolist()


# Settings.


def test_weights_may_be_a_list_or_an_array():
    for weights in ([0.25, 2], np.array([0.25, 2])):
        assert Fusion("linear", weights) == Fusion("linear", (0.25, 2.0))
        assert Fusion("linear", norm="theoretical", low=weights).low == (0.25, 2.0)


def test_a_name_alone_is_a_fusion_and_its_tag():
    runs = [Run.from_dict({"q": {"x": 2}}), Run.from_dict({"q": {"y": 2}})]
    assert fuse(runs).tag == "rrf"
    assert fuse(runs, "isr", tag="mine").tag == "mine"
    with pytest.raises(InputError, match="did you mean condorcet"):
        fuse(runs, "condorcett")


def test_what_is_no_run_is_refused_in_a_line():
    run = Run.from_dict({"q": {"x": 2}})
    assert fuse({"a": run, "b": run}).to_dict() == fuse([run, run]).to_dict()
    for call in (
        lambda: fuse([run, {"q": {"x": 1}}]),
        lambda: fuse(["a.trec", "b.trec"]),
        lambda: tune({"q": {"x": 1}}, [run, None]),
        lambda: compare({"q": {"x": 1}}, "a.trec", [run]),
        lambda: compare({"q": {"x": 1}}, run, {"b": "b.trec"}),
    ):
        with pytest.raises(InputError, match="read_run reads a file"):
            call()
    with pytest.raises(InputError, match="same tag"):
        compare({"q": {"x": 1}}, run, [run, run])
    with pytest.raises(InputError, match="no runs to compare"):
        compare({"q": {"x": 1}}, run, [])


@pytest.mark.parametrize("method", METHODS)
def test_every_fusion_says_its_norm_its_policy_and_its_ties(method):
    runs = [Run.from_dict({"q": {"x": 2}}), Run.from_dict({"q": {"y": 2}})]
    said = fuse(runs, method).metadata["fusion"]
    assert said["method"] == method
    assert said["missing"]
    assert said["normalisation"] == Fusion(method).normalisation
    assert said["ties"] == "document id descending, by code points, as in trec_eval"


def test_fusing_needs_neither_torch_nor_faiss_nor_java():
    import subprocess
    import sys

    code = (
        "import sys\nfrom dupmae_toolkit import Run, fuse, read_qrels, read_run, write_run\n"
        "fuse([Run.from_dict({'q': {'x': 1}})] * 2, 'borda')\n"
        "assert not {'torch', 'faiss', 'jnius', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_list_with_a_document_twice_is_refused():
    twice = Run({"q": Ranking(["x", "y", "x"], [3, 2, 1])})
    with pytest.raises(InputError, match="ranks a document twice"):
        fuse([Run({"q": Ranking(["y"], [1])}), twice], "rrf")
    with pytest.raises(InputError, match="ranks a document twice"):
        fuse([twice, twice], "rrf")


@pytest.mark.parametrize("name", ["rrf_k", "persistence"])
def test_an_integer_beyond_all_floats_is_refused(name):
    with pytest.raises(InputError, match=f"{name} is too large"):
        Fusion("rrf", **{name: 10**400})


def test_runs_are_equal_if_their_rankings_are():
    def made(scores, ids=("x", "y")):
        return Run({"q": Ranking(list(ids), np.array(scores))}, "t")

    assert made([2.0, 1.0]) == made(np.array([2, 1], np.float32))
    assert made([2.0, 1.0]) != made([2.0, 0.5])
    assert made([2.0, 1.0]) != made([2.0, 1.0], ("x", "z"))
    assert made([2.0, 1.0]).topics["q"] != "a ranking"


@pytest.mark.parametrize(
    ("call", "fault"),
    [
        (lambda run: evaluate(run, {"q": {"x": 1}}), "a Run; they come first"),
        (lambda run: evaluate("some.qrels", run), "a str; read_qrels reads a file"),
        (lambda run: fuse(run, run), "a Run; give a list of runs"),
        (lambda run: compare({"q": {"x": 1}}, run, run), "a Run; give a list of runs"),
        (lambda run: write_run({"q": {"x": 1}}, "r.trec"), "a dict; the run comes first"),
        (lambda run: write_run("r.trec", run), "a str; the run comes first"),
    ],
)
def test_arguments_in_another_order_are_named(call, fault, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=fault):
        call(Run({"q": Ranking(["x"], [1.0])}))
    assert not list(tmp_path.iterdir())
