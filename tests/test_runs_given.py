"""Runs and judgements to and from dicts, data frames, Arrow tables, ir_measures and pytrec_eval."""

from __future__ import annotations

import math
import sys

import ir_measures
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import pytrec_eval

from dupmae_toolkit import Qrels, Run, evaluate, read_qrels
from dupmae_toolkit.errors import InputError

SCORES = {"q1": {"d1": 0.1, "d2": 3.5}, "001": {"NA": -2.0}}
GRADES = {"q1": {"d1": 2, "d2": 0}, "001": {"NA": 1}}
ROWS = {
    "qid": ["q1", "q1", "001"],
    "docno": ["d1", "d2", "NA"],
    "rank": [0, 0, 0],
    "score": [0.1, 3.5, -2.0],
}


def test_a_dict_comes_back_as_it_was_best_first():
    run = Run.from_dict(SCORES, "mine")
    assert run.to_dict() == SCORES
    assert (run.tag, run["q1"].ids) == ("mine", ["d2", "d1"])
    assert list(run.to_dict()["q1"]) == ["d2", "d1"]
    assert Run.from_dict({}).to_dict() == {}
    assert Run.from_dict({"q": {}}).to_dict() == {"q": {}}
    assert Qrels.from_dict(GRADES).to_dict() == GRADES
    assert type(Qrels.from_dict(GRADES).to_dict()) is dict


class Polars:
    """As much of a data frame of polars as is read."""

    def __init__(self, columns):
        self._columns = columns

    @property
    def columns(self):
        return list(self._columns)

    def __getitem__(self, name):
        return pa.chunked_array([self._columns[name]])


@pytest.mark.parametrize("form", [pd.DataFrame, pa.table, Polars, dict])
def test_tables_of_any_kind_are_read_by_the_usual_names(form):
    run = Run.from_frame(form(ROWS), tag="mine")
    assert (run.to_dict(), run.tag) == (SCORES, "mine")
    judged = {"query_id": ROWS["qid"], "doc_id": ROWS["docno"], "relevance": [2, 0, 1]}
    assert Qrels.from_frame(form(judged)) == GRADES


def test_columns_of_other_names_are_named():
    frame = pd.DataFrame({"a": ["q"], "b": ["d"], "c": [1.5], "score": [9.0]})
    run = Run.from_frame(frame, topic="a", document="b", score="c")
    assert run.to_dict() == {"q": {"d": 1.5}}
    assert Qrels.from_frame(frame.assign(g=3), topic="a", document="b", grade="g") == {
        "q": {"d": 3}
    }
    with pytest.raises(InputError, match=r"no column of topics; it has a, b, c, score; .*topic=…"):
        Run.from_frame(frame)
    with pytest.raises(InputError, match="no column named 'x'"):
        Run.from_frame(frame, topic="x", document="b")


def test_frames_of_ranx_and_of_ir_measures_are_read_and_ir_measures_reads_ours():
    frame = pd.DataFrame({"q_id": ["q1", "q1"], "doc_id": ["d1", "d2"], "score": [0.25, 3.5]})
    run = Run.from_frame(frame)
    assert run.to_dict() == {"q1": {"d1": 0.25, "d2": 3.5}}
    qrels = Qrels.from_frame(frame.assign(score=[1, 0]))
    measure = ir_measures.parse_measure("RR")
    theirs = ir_measures.calc_aggregate([measure], qrels.to_frame(), run.to_frame())
    assert theirs[measure] == evaluate(qrels, run, ["RR"]).means["RR"] == 0.5
    found = pytrec_eval.RelevanceEvaluator(qrels.to_dict(), {"recip_rank"}).evaluate(run.to_dict())
    assert found["q1"]["recip_rank"] == 0.5


def test_of_pyterriers_columns_docno_is_the_id():
    frame = pd.DataFrame(
        {"qid": ["1"], "docid": [77], "docno": ["d"], "score": [2.5], "query": ["sea"]}
    )
    assert Run.from_frame(frame).to_dict() == {"1": {"d": 2.5}}


def test_a_frame_has_a_row_for_each_hit_and_comes_back():
    run = Run.from_dict({"q2": {"b": 1, "a": 1, "c": 4}, "none": {}, "q1": {"x": 0.5}})
    frame = run.to_frame()
    assert frame.to_dict("list") == {
        "query_id": ["q2", "q2", "q2", "q1"],
        "doc_id": ["c", "b", "a", "x"],
        "score": [4, 1, 1, 0.5],
        "rank": [1, 2, 3, 1],
    }
    assert Run.from_frame(frame).to_dict() == {t: s for t, s in run.to_dict().items() if s}
    assert len(Run().to_frame()) == 0
    assert Run.from_frame(Run().to_frame()).topics == {}
    qrels = Qrels.from_dict(GRADES)
    assert Qrels.from_frame(qrels.to_frame()) == GRADES


def test_integers_are_ids_and_scores_and_numpy_is_no_stranger():
    run = Run.from_dict({1: {np.int64(7): np.float32(0.5), 8: 2}})
    assert run.to_dict() == {"1": {"8": 2.0, "7": 0.5}}
    assert Qrels.from_dict({1: {7: np.int64(2)}}) == {"1": {"7": 2}}
    frame = pd.DataFrame({"qid": [1, 1], "docid": [10, 9], "score": [1, 1]})
    assert Run.from_frame(frame)["1"].ids == ["9", "10"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"q": {"d": math.nan}}, "not a finite number"),
        ({"q": {"d": math.inf}}, "topic q: score inf"),
        ({"q": {"d": "1.5"}}, "score '1.5' is a str"),
        ({"q": {"d": True}}, "score True is a bool"),
        ({"q": {"d": None}}, "score None"),
        ({"q": {"d": 10**400}}, "beyond float64"),
        ({"q": {1.5: 1}}, "document 1.5 is a float; ids are strings"),
        ({None: {"d": 1}}, "topic None is a NoneType"),
        ({"q": {"1": 1, 1: 2}}, "ranks 1 a second time"),
        ({"1": {"a": 1}, 1: {"b": 1}}, "topic 1 is there twice"),
        ({"q": ["d1", "d2"]}, "topic 'q' has a list"),
        ([("q", "d", 1)], "a list; give {topic: {document: score}}"),
    ],
)
def test_what_is_no_run_is_refused_in_a_line(given, words):
    with pytest.raises(InputError, match=words):
        Run.from_dict(given)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (5, "an int; give a data frame"),
        ("run.trec", "a str; give a data frame"),
        (pd.DataFrame({"qid": ["q", "q"], "docid": ["d", "d"], "score": [1, 2]}), "d a second"),
        (pd.DataFrame({"qid": ["q", None], "docid": ["d", "e"], "score": [1, 2]}), "topic"),
        (pd.DataFrame({"qid": [["q"]], "docid": ["d"], "score": [1]}), r"topic \['q'\] is a list"),
        (pd.DataFrame({"qid": [("q", [])], "docid": ["d"], "score": [1]}), "is a tuple"),
        (pd.DataFrame({"qid": ["q"], "docid": [["d"]], "score": [1]}), "document .* is a list"),
        (pd.DataFrame({"qid": [1.0], "docid": ["d"], "score": [1]}), "topic 1.0 is a float"),
        (pd.DataFrame({"qid": ["q"], "docid": ["d"], "score": ["1"]}), "score '1'"),
        ({"qid": ["q", "q"], "docid": ["d"], "score": [1]}, "different lengths"),
        (
            pd.DataFrame([["q", "d", "e", 1.0]], columns=["qid", "docid", "docid", "score"]),
            "two columns are named 'docid'",
        ),
    ],
)
def test_what_is_no_frame_of_a_run_is_refused_in_a_line(frame, words):
    with pytest.raises(InputError, match=words):
        Run.from_frame(frame)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"q": {"d": 0.5}}, "fraction"),
        ({"q": {"d": "high"}}, "not an integer"),
        ({"q": {"d": 10**6}}, "beyond"),
        ({"q": 1}, "topic 'q' has an int"),
        ({"q": {"a\nb": 1}}, "line break"),
        ({"q": {2.5: 1}}, "2.5 is a float"),
        ({"q": {"1": 1, 1: 2}}, "again with a different grade"),
        ({}, "no judgements"),
        (None, "a NoneType; give"),
    ],
)
def test_what_are_no_judgements_is_refused_in_a_line(given, words):
    with pytest.raises(InputError, match=words):
        Qrels.from_dict(given)


def test_the_row_of_a_wrong_grade_is_named():
    frame = pd.DataFrame({"qid": ["q", "q"], "docid": ["d", "e"], "label": [1, -20_000]})
    with pytest.raises(InputError, match=r"row 1 \(from 0\).*beyond"):
        Qrels.from_frame(frame)


def test_judgements_that_are_read_have_the_same_methods(tmp_path):
    path = tmp_path / "qrels"
    path.write_text("q1 0 d1 2\nq1 0 d2 0\n001 0 NA 1\n")
    assert isinstance(read_qrels(path), Qrels)
    assert read_qrels(path).to_dict() == GRADES
    assert isinstance(read_qrels(pd.DataFrame({"qid": ["q"], "docid": ["d"], "rel": [1]})), Qrels)


def test_without_pandas_frames_are_read_and_one_line_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "pandas", None)
    run = Run.from_frame(pa.table(ROWS))
    with pytest.raises(InputError, match="pip install pandas"):
        run.to_frame()
    with pytest.raises(InputError, match="pip install pandas"):
        Qrels.from_dict(GRADES).to_frame()
