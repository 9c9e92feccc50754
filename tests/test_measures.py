"""Measures: trec_eval's values, over all judged topics."""

from __future__ import annotations

import re

import numpy as np
import pytest
import pytrec_eval
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate, split_measures
from dupmae_toolkit.records import Ranking, Run

#: Our names, and trec_eval's.
NAMES = {
    "nDCG@10": "ndcg_cut_10",
    "nDCG": "ndcg",
    "R@100": "recall_100",
    "R@3": "recall_3",
    "P@5": "P_5",
    "AP": "map",
    "AP@1000": "map_cut_1000",
    "RR": "recip_rank",
    "Rprec": "Rprec",
    "Bpref": "bpref",
    "Success@1": "success_1",
    "NumRet": "num_ret",
}
#: As pytrec_eval is asked for them: a number is set off by a full stop.
ASKED = {re.sub(r"_(\d+)$", r".\1", name) for name in NAMES.values()}


def trec_eval(qrels: dict, run: dict) -> dict[str, dict[str, float]]:
    """trec_eval's own values by measure and topic; as with ``-c``, absent topics count as 0."""
    found = pytrec_eval.RelevanceEvaluator(qrels, ASKED).evaluate(run)
    return {
        ours: {topic: found.get(topic, {}).get(theirs, 0.0) for topic in qrels}
        for ours, theirs in NAMES.items()
    }


def as_run(scores: dict[str, dict[str, float]]) -> Run:
    return Run(
        {
            topic: Ranking.sorted(list(found), np.array(list(found.values())))
            for topic, found in scores.items()
        }
    )


IDS = st.sampled_from(["001", "1", "NA", "1e5", "é", "漢", "a", "B", "c", "d", "e", "😀"])
TOPICS = st.sampled_from(["1", "01", "NA", "q"])
SCORES = st.one_of(
    st.sampled_from([0.0, 0.5, 1.0]), st.floats(-100, 100), st.floats(0.5, 0.5000001)
)
RUNS = st.dictionaries(TOPICS, st.dictionaries(IDS, SCORES, min_size=1), min_size=1)
QRELS = st.dictionaries(TOPICS, st.dictionaries(IDS, st.integers(0, 4), min_size=1), min_size=1)


@settings(max_examples=150, deadline=None)
@given(QRELS, RUNS)
def test_files_of_any_origin_get_the_values_that_trec_eval_gives(tmp_path_factory, qrels, scores):
    if not qrels.keys() & scores.keys():
        return
    path = tmp_path_factory.mktemp("runs") / "a.trec"
    path.write_text(
        "".join(
            f"{topic} Q0 {document} 0 {score!r} t\n"
            for topic, found in scores.items()
            for document, score in found.items()
        ),
        "utf-8",
    )
    result = evaluate(qrels, read_run(path, ties="trec_eval"), list(NAMES))
    expected = trec_eval(qrels, scores)
    assert result.per_topic == expected
    for name, values in expected.items():
        total = sum(values.values())
        assert result.means[name] == pytest.approx(
            total if name == "NumRet" else total / len(qrels)
        )
    assert result.judged == len(qrels)
    assert result.returned == len(qrels.keys() & scores.keys())
    assert result.unjudged == len(scores.keys() - qrels.keys())


@settings(max_examples=100, deadline=None)
@given(QRELS, RUNS)
def test_a_run_in_memory_scores_as_its_file_does_with_trec_eval(tmp_path_factory, qrels, scores):
    if not qrels.keys() & scores.keys():
        return
    path = tmp_path_factory.mktemp("runs") / "a.trec"
    run = as_run(scores)
    write_run(run, path)
    written: dict[str, dict[str, float]] = {}
    for line in path.read_text("utf-8").splitlines():
        topic, _, document, _, score, _ = line.split(" ")
        written.setdefault(topic, {})[document] = float(score)
    assert evaluate(qrels, run, list(NAMES)).per_topic == trec_eval(qrels, written)


@settings(max_examples=100, deadline=None)
@given(st.dictionaries(TOPICS, st.dictionaries(IDS, st.integers(-5, 3), min_size=1)), RUNS)
def test_negative_grades_mean_unjudged_and_never_reach_trec_evals_memory(qrels, scores):
    qrels["q"] = {"e": 1, "a": -1}
    scores["q"] = {"a": 1.0, "e": 0.5}
    positive = {
        topic: {document: grade for document, grade in judged.items() if grade >= 0}
        for topic, judged in qrels.items()
    }
    result = evaluate(qrels, as_run(scores), [*NAMES, "Judged@10"])
    assert result.judged == len(qrels)
    without = {topic: judged for topic, judged in positive.items() if judged}
    expected = evaluate(without, as_run(scores), list(NAMES))
    for name, values in expected.per_topic.items():
        assert {topic: result.per_topic[name][topic] for topic in without} == values
    for topic in qrels.keys() - without.keys():
        assert result.per_topic["nDCG@10"][topic] == 0
        assert result.per_topic["NumRet"][topic] == len(scores.get(topic, ()))


def test_reciprocal_rank_with_a_cutoff_is_that_of_ms_marco():
    run = as_run({"q": {f"d{i:02}": -float(i) for i in range(20)}})
    for place in range(20):
        result = evaluate({"q": {f"d{place:02}": 1}}, run, ["RR@10", "RR"])
        assert result.means["RR"] == pytest.approx(1 / (place + 1))
        assert result.means["RR@10"] == (pytest.approx(1 / (place + 1)) if place < 10 else 0)


def test_topics_that_the_run_lacks_count_as_zero_and_both_counts_are_told():
    qrels = {"a": {"x": 1}, "b": {"x": 1, "y": 2}, "c": {"x": 0}}
    run = as_run({"a": {"x": 1.0}, "other": {"x": 1.0}})
    run.topics["b"] = Ranking([], np.empty(0))
    result = evaluate(qrels, run, ["nDCG@10", "NumQ", "NumRel", "NumRet", "RR@10", "Judged@10"])
    assert result.means["nDCG@10"] == pytest.approx(1 / 3)
    assert result.means["RR@10"] == pytest.approx(1 / 3)
    assert result.means["NumQ"] == 3
    assert result.means["NumRel"] == 3
    assert result.means["NumRet"] == 1
    assert (result.judged, result.returned, result.unjudged) == (3, 1, 1)
    assert result.per_topic["nDCG@10"] == {"a": 1.0, "b": 0.0, "c": 0.0}


def test_a_run_without_any_hit_scores_zero():
    result = evaluate({"a": {"x": 1}}, Run({"a": Ranking([], np.empty(0))}))
    assert set(result.means.values()) == {0.0}
    assert result.returned == 0
    assert evaluate({"a": {"x": 1}}, Run()).means["nDCG@10"] == 0


def test_names_of_trec_eval_are_understood_and_each_measure_comes_once():
    qrels, run = {"a": {"x": 1}}, as_run({"a": {"y": 2.0, "x": 1.0}})
    result = evaluate(qrels, run, ["map", "AP", "MAP", "ndcg_cut_10", "P_5", "recip_rank"])
    assert list(result.means) == ["AP", "nDCG@10", "P@5", "RR"]
    assert result.means["AP"] == 0.5


def test_several_measures_come_in_one_string():
    assert split_measures("nDCG@10 R@100") == ["nDCG@10", "R@100"]
    assert split_measures(" nDCG@10,P(rel=2)@5,  SetF(beta=0.5) ") == [
        "nDCG@10",
        "P(rel=2)@5",
        "SetF(beta=0.5)",
    ]
    assert split_measures("nDCG(gains={0: 1, 1: 2})@10 R@5") == [
        "nDCG(gains={0: 1, 1: 2})@10",
        "R@5",
    ]
    assert split_measures("") == []


@pytest.mark.parametrize(
    "name",
    [
        "nDCG@0",
        "P@0",
        "R@0",
        "Judged@0",
        "nDCG@-1",
        "nDCG@99999999",
        "nDCG@1.5",
        "nDCG@'x'",
        "R",
        "P(rel=0)@5",
        "AP(rel=100000000000000000000)",
        "nDCG(gains={0: 10000000000})@10",
        "nDCG(dcg='exp-log3')@10",
        "nDCG(unheard=1)@10",
        "Accuracy@10",
        "alpha_nDCG@10",
        "nonsense",
        "",
        "(",
        "1",
        "nDCG@10\0",
        "__import__('os').getcwd()",
        "(" * 500,
    ],
)
def test_measures_that_are_not_known_or_would_end_the_process_are_refused(name):
    run = as_run({"a": {"x": 1.0}})
    with pytest.raises(InputError, match="measure") as caught:
        evaluate({"a": {"x": 1}}, run, [name])
    assert len(str(caught.value)) < 900


def test_no_measures_no_qrels_and_foreign_runs_are_refused():
    run = as_run({"a": {"x": 1.0}})
    with pytest.raises(InputError, match="no measure named"):
        evaluate({"a": {"x": 1}}, run, [])
    with pytest.raises(InputError, match="the qrels are empty"):
        evaluate({}, run)
    with pytest.raises(InputError, match=r"none of the run's 1 topic is judged .*'a'.*'b'"):
        evaluate({"b": {"x": 1}}, run)
    with pytest.raises(InputError, match="occurs twice"):
        evaluate({"a": {"x": 1}}, Run({"a": Ranking(["x", "x"], np.array([1.0, 1.0]))}))


def test_several_runs_are_measured_against_the_same_judgements():
    qrels = {"a": {"x": 1}}
    runs = {"good": as_run({"a": {"x": 1.0}}), "bad": as_run({"a": {"y": 1.0}})}
    results = {name: evaluate(qrels, run, ["nDCG@10"]) for name, run in runs.items()}
    assert {name: scores.means["nDCG@10"] for name, scores in results.items()} == {
        "good": 1.0,
        "bad": 0.0,
    }


def test_measures_of_small_and_large_cutoffs_together_are_those_of_ir_measures_alone():
    import ir_measures

    rng = np.random.default_rng(4)
    names = [
        "nDCG@10",
        "R@100",
        "RR@10",
        "P@5",
        "AP@100",
        "AP@1000",
        "nDCG@101",
        "R@300",
        "AP",
        "RR",
    ]
    names += ["RR", "P(rel=2)@20", "Success@1", "Judged@10", "NumRet"]
    judged = ("P", "R", "AP", "nDCG", "Success")
    names += [f"{name}(judged_only=True)@{cutoff}" for name in judged for cutoff in (10, 50)]
    documents = [f"d{number:03}" for number in range(400)]
    qrels = {
        f"q{topic}": {d: int(rng.integers(0, 3)) for d in rng.choice(documents, 60, replace=False)}
        for topic in range(12)
    }
    run = Run()
    for topic in qrels:
        found = rng.permutation(documents)[: int(rng.integers(1, 350))].tolist()
        run.topics[topic] = Ranking(found, np.arange(len(found), 0, -1, dtype=np.float32))
    plain = {
        topic: dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))
        for topic, ranking in run.topics.items()
    }
    found = evaluate(qrels, run, names).per_topic
    for name in names:
        measure = ir_measures.parse_measure(name)
        for metric in ir_measures.iter_calc([measure], qrels, plain):
            assert found[name][metric.query_id] == metric.value


def test_infap_and_judged_take_negative_grades_as_trec_eval_does():
    """By hand: 1/3 for the document itself, 2/3 · 2/2 · 1/2 for the two above it in the pool."""
    qrels = {"q": {"a": 1, "b": -1, "c": -1, "d": 0}, "other": {"x": -1}}
    run = as_run({"q": {"b": 4.0, "c": 3.0, "a": 2.0, "d": 1.0}, "other": {"x": 1.0}})
    result = evaluate(qrels, run, ["infAP", "infAP(rel=2)", "Judged@4", "Judged@2", "AP"])
    values = {name: by_topic["q"] for name, by_topic in result.per_topic.items()}
    assert values["infAP"] == pytest.approx(2 / 3)
    assert values["infAP(rel=2)"] == 0
    # trec_eval: a document of a negative grade "is in text_qrels and was not judged".
    assert (values["Judged@4"], values["Judged@2"]) == (0.5, 0.0)
    assert values["AP"] == pytest.approx(1 / 3)
    assert result.per_topic["infAP"]["other"] == 0


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(IDS, st.integers(0, 4), min_size=1),
    st.permutations(["1", "NA", "a", "B", "c", "d", "e"]),
    st.integers(1, 3),
)
def test_inferred_ap_equals_trec_evals_and_a_grade_below_zero_elsewhere_changes_nothing(
    judged, ids, least
):
    falling = {name: float(-place) for place, name in enumerate(ids)}
    asked = pytrec_eval.RelevanceEvaluator({"q": judged}, {"infAP"}, relevance_level=least)
    wanted = asked.evaluate({"q": falling})["q"]["infAP"]
    name = f"infAP(rel={least})" if least > 1 else "infAP"
    for extra in ({}, {"not in the run": -1}):
        result = evaluate({"q": judged | extra}, as_run({"q": falling}), [name])
        assert result.means[name] == pytest.approx(wanted, abs=1e-12)
