"""One rule for equal scores: every command reads a tied run as trec_eval does, and fuses it so."""

from __future__ import annotations

import json
import random
from functools import partial

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit import Fusion, HybridIndex, Run, evaluate, fuse, read_run, write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.comparing import compare
from dupmae_toolkit.fusing.registry import METHODS
from dupmae_toolkit.mining.candidates import RunCandidates
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Query, Ranking
from tests.cli_support import run as command
from tests.support import HashingEncoder

MEASURES = ("RR", "AP", "nDCG@10")
NAMES = ("recip_rank", "map", "ndcg_cut_10")


@pytest.fixture
def dupmae(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return partial(command, capsys)


def tied(seed, size=40, largest=6):
    """Scores of three topics with many ties; the documents are called d0, d1 … d49."""
    dice = random.Random(seed)
    return {
        f"q{t}": {f"d{n}": float(dice.randint(1, largest)) for n in dice.sample(range(50), size)}
        for t in range(3)
    }


def judgements(seed=9):
    dice = random.Random(seed)
    return {f"q{t}": {f"d{n}": dice.randint(0, 2) for n in range(0, 50, 3)} for t in range(3)}


def trec_eval(qrels, scores):
    """The means of MEASURES by trec_eval's own code, which gets scores, no ranking."""
    found = pytrec_eval.RelevanceEvaluator(qrels, set(NAMES)).evaluate(scores)
    return [float(np.mean([values[name] for values in found.values()])) for name in NAMES]


def write(path, scores):
    """A run with its lines in no order."""
    lines = [f"{t} Q0 {d} 0 {s:g} tag\n" for t, found in scores.items() for d, s in found.items()]
    random.Random(1).shuffle(lines)
    path.write_text("".join(lines))


def write_qrels(path, qrels):
    path.write_text("".join(f"{t} 0 {d} {g}\n" for t, j in qrels.items() for d, g in j.items()))


def measured(dupmae, path):
    """The means that `dupmae eval` prints."""
    names = " ".join(MEASURES)
    code, out, _ = dupmae("eval", "--qrels", "qrels", path, "--measures", names, "--json")
    assert code == 0
    return [json.loads(out)["runs"][0]["measures"][name] for name in MEASURES]


def test_a_run_fused_with_itself_measures_as_the_run(dupmae, tmp_path):
    """Case: d10, d2 and d9 all score 1; d9 is first for trec_eval, and was last when fused."""
    (tmp_path / "a").write_text("q Q0 d10 1 1 a\nq Q0 d2 2 1 a\nq Q0 d9 3 1 a\n")
    (tmp_path / "qrels").write_text("q 0 d9 1\n")
    assert measured(dupmae, "a")[0] == 1
    for method in METHODS:
        assert dupmae("fuse", "a", "a", "-o", "fused", "--method", method)[0] == 0
        assert read_run("fused")["q"].ids == ["d9", "d2", "d10"]
        assert measured(dupmae, "fused")[0] == 1


@pytest.mark.parametrize("method", METHODS)
def test_eval_of_what_fuse_wrote_is_what_trec_eval_says_of_the_fused_scores(
    dupmae, tmp_path, method
):
    write(tmp_path / "a", tied(1))
    write(tmp_path / "b", tied(2))
    write_qrels(tmp_path / "qrels", judgements())
    assert dupmae("fuse", "a", "b", "-o", "fused", "--method", method)[0] == 0
    fused = fuse([read_run("a"), read_run("b")], method)
    expected = trec_eval(judgements(), fused.to_dict())
    assert measured(dupmae, "fused") == pytest.approx(expected, abs=1e-9)
    assert dupmae("fuse", "fused", "fused", "-o", "again", "--method", method)[0] == 0
    assert measured(dupmae, "again") == pytest.approx(expected, abs=1e-9)
    assert measured(dupmae, "a") == pytest.approx(trec_eval(judgements(), tied(1)), abs=1e-9)


def test_a_long_run_fused_with_itself_keeps_its_order():
    names = [f"d{n}" for n in range(1000)]
    random.Random(1).shuffle(names)
    run = Run.from_dict({"q": {name: -float(place) for place, name in enumerate(names)}})
    for method in METHODS:
        assert fuse([run, run], method)["q"].ids == names, method


def test_files_in_memory_and_written_again_are_one_ranking(tmp_path):
    for scores in (tied(3), {"q0": {"a": 1.00000001, "b": 1.0, "c": 1.00000002}}):
        path = tmp_path / "run"
        path.write_text(
            "".join(f"{t} Q0 {d} 0 {s!r} x\n" for t, f in scores.items() for d, s in f.items())
        )
        read, given = read_run(path), Run.from_dict(scores)
        write_run(read, tmp_path / "again")
        again = read_run(tmp_path / "again")
        frame = Run.from_frame(given.to_frame())
        for topic in scores:
            assert read[topic].ids == given[topic].ids == again[topic].ids == frame[topic].ids
    assert read["q0"].ids == ["c", "b", "a"]  # equal as float32


@settings(max_examples=60, deadline=None)
@given(
    st.dictionaries(
        st.text("ab1", min_size=1, max_size=3),
        st.sampled_from([1.0, 1.0000000001, 2.0, -1.0, 0.0, -0.0, 1e300, 1e301, 1e-300]),
        min_size=1,
        max_size=12,
    )
)
def test_any_scores_are_ranked_as_trec_eval_ranks_them(scores):
    ranking = Ranking.as_trec_eval(list(scores), np.array(list(scores.values())))
    assert (ranking.scores[1:] <= ranking.scores[:-1]).all()
    for wanted in scores:
        [found] = (
            pytrec_eval.RelevanceEvaluator({"q": {wanted: 1}}, {"recip_rank"})
            .evaluate({"q": scores})
            .values()
        )
        assert found["recip_rank"] == pytest.approx(1 / (1 + ranking.ids.index(wanted)))


def test_tune_compare_and_eval_see_one_ranking(dupmae, tmp_path):
    write(tmp_path / "a", tied(4))
    write(tmp_path / "b", tied(5))
    write_qrels(tmp_path / "qrels", judgements())
    runs, qrels = [read_run("a"), read_run("b")], judgements()
    fused = fuse(runs, Fusion("linear", (0.5, 0.5), "none"))
    values = tuning.values_at(
        list(tuning.topics_of(qrels, runs, "nDCG@10", "none").values()), (0.5, 0.5)
    )
    expected = trec_eval(qrels, fused.to_dict())[2]
    assert float(values.mean()) == pytest.approx(expected, abs=1e-9)
    assert evaluate(qrels, fused, ["nDCG@10"]).means["nDCG@10"] == pytest.approx(expected, abs=1e-9)

    dupmae("fuse", "a", "a", "-o", "same", "--method", "sum")
    code, out, _ = dupmae("compare", "--qrels", "qrels", "a", "same", "b", "--json")
    assert code == 0
    rows = json.loads(out)["runs"]
    assert {row["difference"] for row in rows if row["run"] == "same"} == {0}
    assert any(row["difference"] for row in rows if row["run"] == "b")
    options = ("--qrels", "qrels", "--folds", 3, "--norm", "none", "--training-figure", "--json")
    tuned = json.loads(dupmae("tune", "a", "b", *options)[1])
    weights = ",".join(map(repr, tuned["weights"].values()))
    how = ("--method", "linear", "--norm", "none", "--weights", weights)
    assert dupmae("fuse", "a", "b", "-o", "best", *how)[0] == 0
    assert measured(dupmae, "best")[2] == pytest.approx(tuned["training_figure"], abs=1e-9)


def test_mining_takes_the_best_documents_of_a_tied_run(tmp_path):
    write(tmp_path / "a", {"q": {"d10": 1.0, "d2": 1.0, "d9": 1.0, "d1": 0.5}})
    run = read_run(tmp_path / "a")
    assert run["q"].ids[:2] == ["d9", "d2"]
    [found] = RunCandidates(run, 2)([Topic(Query("q", "text"), (), frozenset())])
    assert found.ranking.ids == ["d9", "d2"]


@pytest.mark.java
def test_a_search_by_ranks_differs_from_fuse_only_in_the_order_of_equal_scores(tmp_path):
    texts = ["sea sky", "sky sea", "sea sea sky", "sky", "sea", "stone sea", "sky stone", "stone"]
    documents = {f"d{n}": text for n, text in enumerate(texts * 2)}
    with HybridIndex.build(tmp_path / "index", documents, HashingEncoder()) as index:
        queries = {"q": "sea", "p": "sky stone"}
        searched = index.search_batch(queries, k=50, fusion="rrf", plain=True)
        legs = [index.search_batch(queries, k=50, mode=mode) for mode in ("dense", "lexical")]
        fused = fuse(legs, "rrf", k=50)
    assert "ascending" in searched.metadata["fusion"]["ties"]
    assert "descending" in fused.metadata["fusion"]["ties"]
    ties = 0
    for topic in queries:
        assert searched.to_dict()[topic] == fused.to_dict()[topic]
        pairs = list(zip(searched[topic].scores.tolist(), searched[topic].ids, strict=True))
        assert pairs == sorted(pairs, key=lambda pair: (-pair[0], pair[1]))
        pairs = list(zip(fused[topic].scores.tolist(), fused[topic].ids, strict=True))
        assert pairs == sorted(pairs, reverse=True)
        ties += len(pairs) - len({score for score, _ in pairs})
    assert ties > 0


@pytest.mark.java
@pytest.mark.parametrize(
    ("fusion", "words"),
    [
        (Fusion("borda"), "no fusion borda; choose one of sum, linear, rrf"),
        (Fusion("linear", norm="rank"), "no norm rank; choose one of none"),
    ],
)
def test_a_search_refuses_what_only_runs_take(tmp_path, fusion, words):
    with (
        HybridIndex.build(tmp_path / "index", {"d": "sea"}, HashingEncoder()) as index,
        pytest.raises(InputError, match=words),
    ):
        index.search("sea", fusion=fusion)


def test_compare_in_python_is_the_command(dupmae, tmp_path):
    write(tmp_path / "a", tied(6))
    write(tmp_path / "b", tied(7))
    write_qrels(tmp_path / "qrels", judgements())
    code, out, _ = dupmae("compare", "--qrels", "qrels", "a", "b", "--json")
    assert code == 0
    rows = compare(judgements(), read_run("a"), {"b": read_run("b")})
    for row, printed in zip(rows, json.loads(out)["runs"], strict=True):
        assert (row.run, row.measure, row.mean) == (
            printed["run"],
            printed["measure"],
            printed["mean"],
        )
        assert row.holm["t"] == printed["tests"]["t"]["holm"]
