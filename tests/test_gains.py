"""nDCG over fractions, RBP and ERR: values of other programs, and of the definitions."""

from __future__ import annotations

import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit import Qrels
from dupmae_toolkit.collection.opening import read_qrels, read_real_qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate, parse_measures
from dupmae_toolkit.records import Run
from tests.cli_support import run
from tests.support import ranked

DOCUMENTS = ["a", "B", "NA", "1", "01", "é", "x y", "z"]
JUDGED = {"a": 4, "b": 1, "c": 2, "d": 3, "e": 0, "f": -1}
RANKED = ["b", "x", "a", "f", "d"]


def value(name: str, judged: dict[str, float], ids: list[str]) -> float:
    (found,) = evaluate({"q": judged}, ranked(q=ids), [name]).per_topic.values()
    return found["q"]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # gdeval 1.2a, which prints five digits.
        ("ERR@1", 0.0625),
        ("ERR@3", 0.35547),
        ("ERR@10", 0.3606),
        ("ERR", 0.3606),
        ("nDCG(dcg='exp-log2')@3", 0.40638),
        ("nDCG(dcg='exp-log2')@10", 0.52503),
        # cwl-eval 1.0.12.
        ("RBP(rel=1)", 0.40992),
        ("RBP(p=0.5,rel=2)", 0.15625),
        ("RBP(p=0.95,rel=3)", 0.0858503125),
        # By hand: (1 - 0.8) · (1 + 0.8²).
        ("RBP(rel=1)@3", 0.328),
    ],
)
def test_values_are_those_of_gdeval_and_cwl_eval(name, expected):
    assert value(name, JUDGED, RANKED) == pytest.approx(expected, abs=5.1e-6)


QUARTERS = st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(0, 16), min_size=1)
RANKINGS = st.permutations(DOCUMENTS).flatmap(
    lambda ids: st.integers(1, len(ids)).map(lambda length: ids[:length])
)


@settings(max_examples=100, deadline=None)
@given(QUARTERS, RANKINGS, st.sampled_from(["nDCG", "nDCG@1", "nDCG@3", "nDCG@10"]))
def test_ndcg_of_fractions_is_trec_evals_of_the_same_grades_times_four(judged, ids, name):
    quarters = {document: grade / 4 for document, grade in judged.items()}
    assert value(name, quarters, ids) == pytest.approx(value(name, judged, ids), abs=1e-12)
    only = name.replace("nDCG", "nDCG(judged_only=True)")
    assert value(only, quarters, ids) == pytest.approx(value(only, judged, ids), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(QUARTERS, RANKINGS)
def test_gains_by_grade_may_be_fractions_and_are_grades_otherwise(judged, ids):
    mapped = {document: {0: 0, 1: 0.25, 2: 0.5}.get(g, g) for document, g in judged.items()}
    name = "nDCG(gains={1: 0.25, 2: 0.5})@5"
    assert value(name, judged, ids) == pytest.approx(value("nDCG@5", mapped, ids), abs=1e-12)


@settings(max_examples=100, deadline=None)
@given(
    st.dictionaries(st.sampled_from(DOCUMENTS), st.integers(-1, 2), min_size=1),
    RANKINGS,
    st.lists(st.integers(0, 30), min_size=3, max_size=3),
)
def test_fractional_gains_of_every_grade_are_trec_evals_of_ten_times_the_gains(judged, ids, gains):
    """Unjudged documents gain nothing, even where grade 0 gains."""
    fractions = dict(enumerate(gain / 10 for gain in gains))
    found = value(f"nDCG(gains={fractions})@5", judged, ids)
    expected = value(f"nDCG(gains={dict(enumerate(gains))})@5", judged, ids)
    assert found == pytest.approx(expected, abs=1e-12)


def test_unjudged_documents_gain_nothing_with_exponents_either():
    name = "nDCG(dcg='exp-log2',gains={0: 1, 1: 2})@5"
    found = value(name, {"a": 1, "b": 0}, ["x", "a", "b"])
    expected = (3 / math.log2(3) + 1 / 2) / (3 + 1 / math.log2(3))
    assert found == pytest.approx(expected, abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=6))
def test_err_is_the_mean_of_one_over_the_rank_at_which_a_user_stops(grades):
    """Every rank as the one at which the user stops, with its probability as a fraction."""
    expected = Fraction(0)
    for stop in range(len(grades)):
        probability = Fraction(2 ** grades[stop] - 1, 16)
        for above in grades[:stop]:
            probability *= 1 - Fraction(2**above - 1, 16)
        expected += probability / (stop + 1)
    ids = DOCUMENTS[: len(grades)]
    judged = dict(zip(ids, grades, strict=True)) | {"not found": 4}
    assert value("ERR", judged, ids) == pytest.approx(float(expected), abs=1e-12)


def test_rbp_of_fractions_weighs_each_gain_by_the_chance_that_its_rank_is_read():
    judged = {"a": 0.5, "b": 1, "c": 0.25}
    expected = 0.2 * (0.25 + 0.8**2 * 0.5)
    assert value("RBP", judged, ["c", "x", "a"]) == pytest.approx(expected)
    assert value("RBP(p=0.5)@1", judged, ["b", "a"]) == pytest.approx(0.5)
    # Of infinitely many relevant documents it is 1; of n it lacks p to the n.
    every = {f"d{n}": 1 for n in range(50)}
    assert value("RBP", every, list(every)) == pytest.approx(1 - 0.8**50)


def test_measures_that_take_fractions_agree_with_their_counts_and_negative_grades_are_unjudged():
    judged = {"a": 0.5, "b": -0.5, "c": -1}
    names = ["NumQ", "NumRet", "Judged@2", "nDCG@3", "Compat"]
    means = evaluate({"q": judged, "r": {"a": 0.5}}, ranked(q=["b", "a", "x"]), names).means
    assert (means["NumQ"], means["NumRet"], means["Judged@2"]) == (2, 3, 0.25)
    assert means["nDCG@3"] == pytest.approx(1 / math.log2(3) / 2)
    assert 0 < means["Compat"] < 1
    assert value("nDCG@3", {"a": -0.5}, ["a"]) == 0


def test_compat_is_one_for_the_ideal_ranking_of_fractions_alone():
    judged = {"a": 0.5, "b": 1, "c": 0.25}
    assert value("Compat", judged, ["b", "a", "c"]) == pytest.approx(1)
    assert value("Compat", judged, ["a", "b", "c"]) < 1


def test_numbers_of_other_types_are_grades():
    run_ = ranked(q=["a", "b"])
    for grade in (2.0, np.int64(2), np.float32(2), Fraction(2)):
        found = evaluate({"q": {"b": grade, "a": 1}}, run_, ["nDCG@10", "R@2"])
        assert found.means == evaluate({"q": {"b": 2, "a": 1}}, run_, ["nDCG@10", "R@2"]).means


@pytest.mark.parametrize(
    ("grades", "names", "fault"),
    [
        ({"a": 0.5}, ["nDCG@10", "R@100", "AP"], "judges a 0.5, but R@100, AP need whole grades"),
        ({"a": 0.5}, ["RBP(rel=1)"], "but RBP(rel=1) needs whole grades"),
        ({"a": 0.5}, ["NumRet(rel=1)"], "needs whole grades"),
        ({"a": 2}, ["RBP"], "judges a 2, but RBP takes grades up to 1; name the lowest relevant"),
        ({"a": 5}, ["ERR@10"], "judges a 5, but ERR@10 takes grades up to 4, as in TREC's gdeval"),
        ({"a": 1000}, ["nDCG(dcg='exp-log2')@5"], "takes grades up to 100"),
        ({"a": math.nan}, ["nDCG"], "judges a 'nan', which is no number from -10,000 to 10,000"),
        ({"a": math.inf}, ["nDCG"], "no number"),
        ({"a": "x"}, ["nDCG"], "'x', which is no number"),
        ({"a": None}, ["nDCG"], "no number"),
    ],
)
def test_grades_that_a_measure_does_not_take_are_named_with_it(grades, names, fault):
    with pytest.raises(InputError) as caught:
        evaluate({"q": grades}, ranked(q=["a"]), names)
    assert str(caught.value).startswith("topic q judges a")
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("RBP(p=1.0)", "p must be between 0 and 1"),
        ("RBP(p=0.0)", "p must be between 0 and 1"),
        ("Compat(p=1.5)", "p must be between 0 and 1"),
        ("alpha_nDCG(alpha=1.5)@10", "alpha must be from 0 to 1"),
        ("NRBP(beta=1.0)", "beta must be between 0 and 1"),
        ("nDCG(gains={0: 1e9})@10", "gains must be numbers from 0 to 10,000"),
        ("nDCG(gains={0.5: 1})@10", "gains must be numbers"),
        ("nDCG(dcg='exp-log2',gains={1: 5000})@10", "gains must be numbers from 0 to 100, by"),
        ("nDCG(gains={0: True})@10", "gains must be numbers"),
        ("ERR(p=0.5)@10", "is not known"),
        ("Accuracy@10", "is not supported"),
    ],
)
def test_parameters_without_a_meaning_are_refused(name, fault):
    with pytest.raises(InputError) as caught:
        parse_measures([name], subtopics=True)
    assert fault in str(caught.value)


@pytest.mark.parametrize(
    "name", ["SDCG(max_rel=3)@10", "INST(max_rel=3)", "BPM(max_rel=3)@5", "NERR8(max_rel=1)@5"]
)
def test_the_package_that_a_measure_needs_is_named(name, monkeypatch):
    import ir_measures

    monkeypatch.setattr(ir_measures.cwl_eval, "_is_available", False)
    with pytest.raises(InputError) as caught:
        parse_measures([name])
    assert "needs the package cwl-eval, which is not installed; `pip install cwl-eval`" in str(
        caught.value
    )


FORMS = {
    "q.tsv": "query-id\tcorpus-id\tscore\nq\ta\t0.5\nq\tb\t1.0\nq\tc\t2e-1\n",
    "q.txt": "# by hand\nq 0 a 0.5\nq 0 b 1.0\nq 0 c 2e-1\n",
    "q.json": '{"q": {"a": 0.5, "b": 1.0, "c": "0.2"}}',
    "q.jsonl": '{"qid": "q", "docid": "a", "rel": 0.5}\n{"qid": "q", "docid": "b", "rel": 1}\n'
    '{"qid": "q", "docid": "c", "rel": "0.2"}\n',
    "q.csv": "query_id,doc_id,score\nq,a,0.5\nq,b,1\nq,c,0.2\n",
}


@pytest.mark.parametrize("name", FORMS)
def test_fractions_are_read_from_every_form_and_refused_where_grades_are_integers(tmp_path, name):
    path = tmp_path / name
    path.write_text(FORMS[name])
    found = read_real_qrels(path)
    assert found == {"q": {"a": 0.5, "b": 1, "c": 0.2}}
    assert type(found["q"]["b"]) is int
    with pytest.raises(InputError, match=r"grade '0.5' is a fraction; grades are integers"):
        read_qrels(path)


def test_fractions_of_a_split_of_frames_and_of_topics_that_begin_with_a_hash(tmp_path):
    import pandas as pd

    folder = tmp_path / "set"
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text('{"_id": "a", "text": "x"}\n')
    (folder / "qrels" / "dev.tsv").write_text(FORMS["q.tsv"])
    assert read_real_qrels(folder, "dev")["q"]["a"] == 0.5
    frame = pd.DataFrame({"qid": ["q"], "docid": ["a"], "rel": [0.25]})
    assert read_real_qrels(frame) == {"q": {"a": 0.25}}
    (tmp_path / "hash.txt").write_text("#1 0 a 0.5\n# 1 0 b 0.5\n")
    assert read_real_qrels(tmp_path / "hash.txt") == {"#1": {"a": 0.5}}
    with pytest.raises(InputError, match=r"hash.txt:1: grade '0.5' is a fraction"):
        read_qrels(tmp_path / "hash.txt")


@pytest.mark.parametrize(
    "grade", ["1e9", "-20000.5", "0.5x", "nan", "inf", "1e999", ".", "1.2.3e1", ".e1"]
)
def test_what_is_no_grade_is_refused_as_a_fraction_too(tmp_path, grade):
    (tmp_path / "q.txt").write_text(f"q 0 a {grade}\n")
    with pytest.raises(InputError, match=r"q.txt:1: grade .* (is not a number|is beyond 10,000)"):
        read_real_qrels(tmp_path / "q.txt")


def test_eval_and_compare_take_fractions_and_say_which_measures_do_not(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "q.tsv").write_text(FORMS["q.tsv"])
    (tmp_path / "a.trec").write_text("q Q0 b 1 3 t\nq Q0 a 2 2 t\nq Q0 c 3 1 t\n")
    (tmp_path / "b.trec").write_text("q Q0 c 1 3 t\nq Q0 b 2 2 t\nq Q0 a 3 1 t\n")
    words = ("--qrels", "q.tsv", "a.trec", "--measures", "nDCG@10 RBP")
    code, out, err = run(capsys, "eval", *words, "--json")
    assert (code, err) == (0, "")
    means = json.loads(out)["runs"][0]["measures"]
    assert means == pytest.approx({"nDCG@10": 1, "RBP": 0.2 * (1 + 0.8 * 0.5 + 0.64 * 0.2)})
    code, out, err = run(capsys, "compare", "--qrels", "q.tsv", "b.trec", *words[2:], "--json")
    assert (code, err) == (0, "")
    assert json.loads(out)["runs"][0]["difference"] > 0
    for command in (("eval",), ("compare", "b.trec")):
        code, out, err = run(capsys, *command, "--qrels", "q.tsv", "a.trec")
        assert (code, out) == (2, "")
        assert err == (
            "dupmae: q.tsv: topic q judges a 0.5, but R@100, RR@10, AP@1000 need whole grades; "
            "round them, or choose only measures that take fractions: nDCG@10, ERR@10, RBP, "
            "Compat\n"
        )


def test_a_run_may_be_a_mapping_and_measures_one_name():
    scores = {"q": {"a": 2.0, "b": 1.0, "c": 2.0}}
    for judged in ({"q": {"a": 1}}, {"q": {"a": 0.5, "b": 0.25}}):
        found = evaluate(judged, scores, "nDCG@10")
        assert found.means == evaluate(judged, Run.from_dict(scores), ["nDCG@10"]).means
        assert list(found.means) == ["nDCG@10"]
    for wrong in ("q", ["q"], {"q": ["a"]}, None):
        with pytest.raises(InputError):
            evaluate({"q": {"a": 1}}, wrong, "RR")


@pytest.mark.parametrize("grade", [10_001, 3_000_000_000, -3_000_000_000, 10**400])
@pytest.mark.parametrize("beside", [1, 0.5])
def test_a_grade_beyond_the_limit_is_refused_whatever_stands_beside_it(grade, beside):
    with pytest.raises(InputError, match="no number from -10,000 to 10,000"):
        evaluate({"q": {"d": grade, "e": beside}}, ranked(q=["d"]), ["nDCG@10"])


@pytest.mark.parametrize("kind", ["float16", "float32", "float64", "int64"])
def test_grades_of_numpy_are_grades(kind):
    assert Qrels.from_dict({"q": {"d": np.dtype(kind).type(2)}}) == {"q": {"d": 2}}
