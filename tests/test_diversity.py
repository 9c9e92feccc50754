"""Measures of diversity: ndeval's values, worked examples, and judgements by subtopic."""

from __future__ import annotations

import itertools
import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection.opening import read_subtopics
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.diversity import DIVERSITY, _greedy
from dupmae_toolkit.evaluation.measures import evaluate, evaluate_subtopics
from tests.cli_support import run
from tests.support import ranked

JUDGED = {
    "a": {"1": 1, "2": 1, "3": -2},
    "b": {"1": 1},
    "c": {"2": 2, "3": 1},
    "d": {"1": 0, "3": 3},
    "e": {"4": 0},
}
RANKED = ["b", "a", "x", "d", "e", "c"]
#: Computed once by ndeval, by way of pyndeval 0.0.8.
NDEVAL = {
    "alpha_DCG@3": 0.45040890657938043,
    "alpha_nDCG@3": 0.6089343949810363,
    "alpha_nDCG@10": 0.8011407833282549,
    "alpha_nDCG(alpha=0.9)@5": 0.7623359825854004,
    "alpha_nDCG(rel=2)@5": 0.2640681225725909,
    "ERR_IA@3": 0.4375,
    "nERR_IA@10": 0.7123287671232876,
    "NRBP": 0.4765625,
    "nNRBP": 0.648936170212766,
    "NRBP(alpha=0.2,beta=0.8)": 0.41715455999999995,
    "AP_IA": 0.5694444444444443,
    "AP_IA(rel=2)": 0.20833333333333331,
    "P_IA@4": 0.3333333333333333,
    "StRecall@3": 0.6666666666666666,
    "StRecall@6": 1.0,
}


def values(names, judged, ids) -> dict[str, float]:
    return evaluate_subtopics({"q": judged}, ranked(q=ids), list(names)).means


@pytest.mark.parametrize("source", [{"q": {"d": {"1": 1}}}, None, ["q 1 d 1"]])
def test_what_is_no_name_of_judgements_is_refused(source):
    with pytest.raises(InputError, match=r"judgements by subtopic: an? .*; name their file"):
        read_subtopics(source)


def test_values_are_those_of_ndeval():
    assert values(NDEVAL, JUDGED, RANKED) == pytest.approx(NDEVAL, abs=1e-12)
    assert set(DIVERSITY) == {name.partition("(")[0].partition("@")[0] for name in NDEVAL}


def test_alpha_ndcg_and_err_ia_by_hand():
    """Two documents about subtopic 1, then one about 2; half is lost by each repetition."""
    judged = {"a": {"1": 1}, "b": {"1": 1}, "c": {"2": 1}}
    found = values(["alpha_nDCG@3", "ERR_IA@3", "StRecall@2", "P_IA@2"], judged, ["a", "b", "c"])
    gained = 1 + 0.5 / math.log2(3) + 1 / math.log2(4)
    ideal = 1 + 1 / math.log2(3) + 0.5 / math.log2(4)
    assert found["alpha_nDCG@3"] == pytest.approx(gained / ideal)
    assert found["ERR_IA@3"] == pytest.approx(
        (1 + 0.5 / 2 + 1 / 3) / (2 * (1 + 0.5 / 2 + 0.25 / 3))
    )
    assert (found["StRecall@2"], found["P_IA@2"]) == (0.5, 0.5)


SUBTOPICS = st.dictionaries(
    st.sampled_from("abcdef"),
    st.dictionaries(st.sampled_from("123"), st.integers(-1, 2), min_size=1),
    min_size=1,
)


@settings(max_examples=80, deadline=None)
@given(SUBTOPICS, st.permutations("abcdef"))
def test_without_a_loss_for_repetition_alpha_ndcg_is_ndcg_of_the_number_of_subtopics(judged, ids):
    counts = {d: sum(g >= 1 for g in grades.values()) for d, grades in judged.items()}
    found = values(["alpha_nDCG(alpha=0.0)@4"], judged, ids)
    expected = evaluate({"q": counts}, ranked(q=list(ids)), ["nDCG@4"]).means["nDCG@4"]
    assert found["alpha_nDCG(alpha=0.0)@4"] == pytest.approx(expected, abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(SUBTOPICS, st.permutations("abcdef"))
def test_means_over_subtopics_are_those_of_each_subtopic_alone(judged, ids):
    by_subtopic = {
        subtopic: {d: grades.get(subtopic, 0) for d, grades in judged.items()}
        for subtopic in "123"
        if any(grades.get(subtopic, 0) >= 1 for grades in judged.values())
    }
    found = values(["AP_IA", "P_IA@3", "StRecall@3"], judged, list(ids))
    each = [
        evaluate({"q": grades}, ranked(q=list(ids)), ["AP", "P@3", "Success@3"]).means
        for grades in by_subtopic.values()
    ]
    for name, single in (("AP_IA", "AP"), ("P_IA@3", "P@3"), ("StRecall@3", "Success@3")):
        mean = sum(means[single] for means in each) / len(each) if each else 0
        assert found[name] == pytest.approx(mean, abs=1e-12)


def plainly_greedy(about: dict[str, set[str]], alpha: float, depth: int) -> list[set[str]]:
    """In each step, all gains anew."""
    left, seen, best = dict(about), [], []
    while left and len(best) < depth:
        name = max(
            left, key=lambda d: (math.fsum((1 - alpha) ** seen.count(t) for t in left[d]), d)
        )
        best.append(left.pop(name))
        seen += best[-1]
    return best


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text("ab1", min_size=1, max_size=3), st.sets(st.sampled_from("1234"))),
    st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    st.integers(0, 20),
)
def test_the_best_ranking_is_that_of_computing_all_gains_in_each_step(about, alpha, depth):
    assert _greedy(about, alpha, depth) == plainly_greedy(about, alpha, depth)


def test_gains_are_not_all_computed_anew_in_each_step(monkeypatch):
    sums = []
    monkeypatch.setattr(math, "fsum", lambda values: sums.append(1) or sum(values))
    about = {f"d{n}": {str(n % 7), str(n % 11)} for n in range(2000)}
    assert len(_greedy(about, 0.5, 2000)) == 2000
    assert len(sums) < 100 * 2000
    sums.clear()
    _greedy({f"d{n}": {"1"} for n in range(2000)}, 0.5, 2000)
    assert len(sums) < 3 * 2000


@settings(max_examples=30, deadline=None)
@given(SUBTOPICS)
def test_no_ranking_exceeds_one_by_more_than_greed_may_miss(judged):
    names = ["alpha_nDCG@6", "nERR_IA@6", "nNRBP", "alpha_DCG@6", "ERR_IA@6", "NRBP"]
    documents = sorted(judged)
    best = dict.fromkeys(names, 0.0)
    for ids in itertools.permutations(documents):
        for name, value in values(names, judged, list(ids)).items():
            best[name] = max(best[name], value)
    if any(grade >= 1 for grades in judged.values() for grade in grades.values()):
        assert all(best[name] >= 1 - 1e-12 for name in names[:3])  # the greedy one is among them
        assert all(0 < best[name] <= 1 + 1e-12 for name in names[3:])
    else:
        assert set(best.values()) == {0.0}


def test_topics_that_a_run_lacks_count_as_zero_and_unjudged_topics_do_not_count():
    judged = {"q": {"a": {"1": 1}}, "r": {"a": {"1": 1}}, "s": {"a": {"1": 0}}}
    found = evaluate_subtopics(judged, ranked(q=["a"], s=["a"], t=["a"]), ["StRecall@5"])
    assert found.per_topic["StRecall@5"] == {"q": 1.0, "r": 0.0, "s": 0.0}
    assert found.means["StRecall@5"] == pytest.approx(1 / 3)
    assert (found.judged, found.returned, found.unjudged) == (3, 2, 1)


def test_judged_only_skips_documents_without_judgements():
    name = "alpha_nDCG(judged_only=True)@10"
    assert values([name], JUDGED, ["x", "b", "y", "a"]) == pytest.approx(
        {name: values(["alpha_nDCG@10"], JUDGED, ["b", "a"])["alpha_nDCG@10"]}
    )


def test_a_measure_of_one_kind_is_refused_with_judgements_of_the_other():
    with pytest.raises(InputError, match="'alpha_nDCG@10' needs judgements by subtopic"):
        evaluate({"q": {"a": 1}}, ranked(q=["a"]), ["alpha_nDCG@10"])
    with pytest.raises(InputError, match="'nDCG@10' takes judgements without subtopics"):
        evaluate_subtopics({"q": JUDGED}, ranked(q=["a"]), ["nDCG@10"])
    with pytest.raises(InputError, match="name a cutoff, as in ERR_IA@10"):
        evaluate_subtopics({"q": JUDGED}, ranked(q=["a"]), ["ERR_IA"])
    with pytest.raises(InputError, match="the qrels are empty"):
        evaluate_subtopics({}, ranked(q=["a"]), ["ERR_IA@5"])


def test_subtopics_are_read_as_strings_with_comments_and_grades_without_fractions(tmp_path):
    path = tmp_path / "diversity.txt"
    path.write_text("# TREC\n1 01 doc%%20a 1.0\n1 1 doc%%20a -2\n#7 0 b 0\n1 01 doc%%20a 1\n")
    assert read_subtopics(path) == {"1": {"doc a": {"01": 1, "1": -2}}, "#7": {"b": {"0": 0}}}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("1 a 1\n", ":1: 3 columns; measures of diversity need four columns: topic, subtopic"),
        ("1 1 a 1\n1 1 a 2\n", ":2: topic 1 judges a again for subtopic 1 with a different grade"),
        ("1 1 a 0.5\n", ":1: grade '0.5' is a fraction"),
        ("1 1 a 1\n1 1 a\n", ":2: 3 columns after lines of 4"),
        ("", "no judgements in it"),
        ('{"1": {"a": 1}}', ":1: 3 columns; measures of diversity need"),
    ],
)
def test_what_is_no_judgement_by_subtopic_is_refused_with_its_line(tmp_path, text, fault):
    path = tmp_path / "d.txt"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_subtopics(path)
    assert str(caught.value).startswith(str(path))
    assert fault in str(caught.value)


def test_subtopics_of_ir_datasets_are_read_by_id(tmp_path):
    import ir_datasets
    from ir_datasets.formats import TrecSubQrel

    class Sub(ir_datasets.formats.BaseQrels):
        def qrels_iter(self):
            yield TrecSubQrel("1", "a", 1, "01")
            yield TrecSubQrel("1", "a", 0, "2")

        def qrels_cls(self):
            return TrecSubQrel

    plain = tmp_path / "plain.txt"
    plain.write_text("1 0 a 1\n")
    registered = {
        "toy-diverse": ir_datasets.Dataset(Sub()),
        "toy-plain": ir_datasets.create_dataset(qrels_trec=str(plain)),
    }
    try:
        for name, dataset in registered.items():
            ir_datasets.registry.register(name, dataset)
        assert read_subtopics("irds:toy-diverse") == {"1": {"a": {"01": 1, "2": 0}}}
        with pytest.raises(InputError, match="irds:toy-plain: this data set has no judgements by"):
            read_subtopics("irds:toy-plain")
    finally:
        for name in registered:
            ir_datasets.registry._registered.pop(name)


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    lines = [f"1 {s} {d} {g}\n" for d, grades in JUDGED.items() for s, g in grades.items()]
    (tmp_path / "d.txt").write_text("".join(lines))
    for name, ids in (("a", RANKED), ("b", RANKED[::-1])):
        rows = [f"1 Q0 {d} {n} {9 - n} t\n" for n, d in enumerate(ids, 1)]
        (tmp_path / f"{name}.trec").write_text("".join(rows))
    return tmp_path


def test_eval_and_compare_measure_diversity(files, capsys):
    words = ("--qrels", "d.txt", "--measures", "alpha_nDCG@10 ERR_IA@3", "--json")
    code, out, err = run(capsys, "eval", *words, "a.trec")
    assert (code, err) == (0, "")
    (entry,) = json.loads(out)["runs"]
    assert entry["measures"] == pytest.approx(
        {name: NDEVAL[name] for name in ("alpha_nDCG@10", "ERR_IA@3")}
    )
    # a, b, c and d are relevant to a subtopic; the run has them all.
    assert (entry["relevant"], entry["relevant_missed"]) == (4, 0)
    code, out, err = run(capsys, "compare", *words, "a.trec", "b.trec")
    assert code == 0
    assert [row["measure"] for row in json.loads(out)["runs"]] == ["alpha_nDCG@10", "ERR_IA@3"]


def test_two_kinds_of_measures_at_once_and_splits_without_subtopics_are_refused(files, capsys):
    code, _, err = run(
        capsys, "eval", "--qrels", "d.txt", "a.trec", "--measures", "nDCG@10 ERR_IA@3"
    )
    assert code == 2
    assert "ERR_IA@3 needs judgements by subtopic and nDCG@10 judgements without" in err
    code, _, err = run(
        capsys, "eval", "--qrels", ".", "--split", "test", "a.trec", "--measures", "NRBP"
    )
    assert code == 2
    assert "BEIR data sets have no subtopics, which NRBP needs" in err
