"""The options of feedback and of pruned queries: what they do to output and runs, and refuse."""

from __future__ import annotations

import json

import pytest

from dupmae_toolkit import Feedback, HybridIndex
from dupmae_toolkit.collection.trec import read_metadata, read_run
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = pytest.mark.java
TEXT = "title 3 w17 w18"


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("feedback") / "index"
    with HybridIndex.build(path, documents_of(40), HashingEncoder()) as built:
        yield built


@pytest.fixture
def dupmae(capsys, monkeypatch, index):
    monkeypatch.setattr(
        "dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: HashingEncoder()
    )
    return lambda command, *words: run(capsys, command, "--index", index.path, *words)


def test_a_question_is_searched_again(dupmae, index):
    words = ["--feedback", "rocchio", "--fb-docs", 3, "--fb-terms", 4, "--fb-weight", 0.25]
    code, out, _ = dupmae("search", TEXT, *words, "--json")
    found = json.loads(out)
    hits = index.search(TEXT, feedback=Feedback("rocchio", 3, 4, 0.25))
    assert code == 0
    assert [(hit["id"], hit["score"]) for hit in found["hits"]] == [(h.id, h.score) for h in hits]
    given = {"method": "rocchio", "documents": 3, "terms": 4, "weight": 0.25}
    assert found["feedback"] == given | {"proven": 1, "without_documents": 0}
    assert found["query_terms"] is None
    code, _, err = dupmae("search", TEXT, *words)
    assert (code, err) == (
        0,
        "10 of 40 documents, hybrid after rocchio of 3 documents, exact top 10\n",
    )
    code, out, _ = dupmae("search", TEXT, "--json")
    assert json.loads(out)["feedback"] is None


def test_a_run_says_how_its_queries_were_changed(dupmae, index, tmp_path):
    (tmp_path / "q.tsv").write_text(f"1\t{TEXT}\n02\tw5 w6 w7\n")
    words = ["--queries", tmp_path / "q.tsv", "--output", tmp_path / "run"]
    code, out, err = dupmae("search", *words, "--feedback", "average", "--query-terms", 2, "-k", 5)
    assert (code, out) == (0, "")
    wanted = index.search(TEXT, 5, feedback="average", query_terms=2)
    assert read_run(tmp_path / "run")["1"].ids == [hit.id for hit in wanted]
    about = read_metadata(tmp_path / "run")
    assert about["feedback"]["method"] == "average"
    assert about["query_terms"]["most"] == 2
    left = about["query_terms"]["left_out"]
    assert left["lexical"] > 0
    assert left["bm25"] > 0
    assert "hybrid after average of 10 documents, queries of 2 terms, 2 of 2 rankings" in err
    said = f"left out weights of the queries: {left['lexical']:,} of lexical, {left['bm25']:,} of"
    assert said in err


def test_a_page_past_the_end_says_where_the_ranking_ends(dupmae):
    code, _, err = dupmae("search", "w17", "--mode", "bm25", "--feedback", "rm3", "--offset", 500)
    assert code == 0
    assert "the ranking ends at rank " in err


def test_explanations_mark_the_terms_that_feedback_added(dupmae, index):
    code, out, _ = dupmae("explain", TEXT, "-k", 2, "--feedback", "rm3", "--json")
    assert code == 0
    found = json.loads(out)
    assert found["feedback"] == Feedback("rm3").to_dict()
    terms = [term for hit in found["hits"] for term in hit["terms"]]
    assert {term["added"] for term in terms} == {True, False}
    code, out, _ = dupmae("explain", TEXT, "-k", 2, "--feedback", "rm3", "--terms", 0)
    added = [line for line in out.splitlines() if line.rstrip().endswith("by feedback")]
    assert len(added) == sum(term["added"] for term in terms)
    assert str(index.explain(TEXT, k=2, feedback="rm3")[0]).count(", by feedback") > 0


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (["--fb-docs", 3], "--fb-docs: goes with --feedback; name its method"),
        (["--fb-terms", 3, "--fb-weight", 0.1], "--fb-terms, --fb-weight: goes with --feedback"),
        (["--feedback", "bo1"], "bo1"),
        (["--feedback", "rm3", "--fb-docs", 0], "feedback of 0 documents"),
        (["--feedback", "rm3", "--fb-weight", 2], "weight is 2.0"),
        (["--feedback", "rm3", "--fb-weight", "nan"], "weight is nan"),
        (["--feedback", "average", "--fb-weight", 0.5], "leave out its weight"),
        (["--feedback", "rm3", "--mode", "dense"], "mode dense has no terms, which rm3 mixes"),
        (["--query-terms", 3, "--mode", "dense"], "mode dense has no terms to prune"),
        (["--query-terms", 0], "query terms 0"),
    ],
)
@pytest.mark.parametrize("command", ["search", "explain"])
def test_what_makes_no_sense_is_refused_in_one_line(dupmae, command, words, fault):
    code, out, err = dupmae(command, TEXT, *words)
    assert (code, out) == (2, "")
    assert fault in err
    assert err.count("\n") == 1
