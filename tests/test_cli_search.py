"""`dupmae search`: tables, JSON, runs, and what it refuses."""

from __future__ import annotations

import json
import os
import zipfile

import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from tests.cli_support import run
from tests.support import HashingEncoder

pytestmark = pytest.mark.java

ENCODER = HashingEncoder(size=256, dim=16)
DOCUMENTS = [
    {"id": "dates", "title": "Dates [bold]", "text": "Parse a date from a string of text."},
    {"id": "001", "text": "Sort a list of numbers, " + "and more words, " * 60 + "then parse it."},
    {"id": "NA", "text": "Open a file \x1b[31mfor reading\x07 and close it."},
] + [{"id": f"x{i}", "text": f"Filler text number {i} about nothing"} for i in range(30)]
TOPICS = {"1": "parse a date", "02": "sort numbers", "none": "unheardofword"}


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    path = tmp_path_factory.mktemp("search") / "index"
    HybridIndex.build(path, DOCUMENTS, ENCODER)
    return path


@pytest.fixture
def queries(tmp_path):
    path = tmp_path / "queries.tsv"
    path.write_text("".join(f"{topic}\t{text}\n" for topic, text in TOPICS.items()))
    return path


@pytest.fixture
def dupmae(capsys, monkeypatch, index):
    """Run `dupmae search` on the index; gives the exit code, stdout and stderr."""

    def load(name, info, **settings):
        if name not in ("hashing", "other"):
            raise InputError(f"{name}: no such model")
        return HashingEncoder(size=256, dim=16, name=name)

    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", load)

    return lambda *words, index=index: run(capsys, "search", "--index", index, *words)


@pytest.mark.parametrize("question", ["", " \t\n"])
def test_a_question_without_words_is_refused_before_the_index_is_opened(dupmae, tmp_path, question):
    for place in ({}, {"index": tmp_path / "nowhere"}):
        code, out, err = dupmae(question, **place)
        assert (code, out) == (2, "")
        assert err == "dupmae: the question has no text; give it some words\n"


def test_a_question_gives_a_table_with_both_parts(dupmae):
    code, out, err = dupmae("parse a date")
    assert code == 0
    lines = [line.rstrip() for line in out.splitlines()]
    assert lines[0].split()[:5] == ["score", "dense", "lexical", "bm25", "id"]
    assert lines[1].split()[0] == "1"
    assert "dates" in lines[1]
    assert "Dates [bold]" in out
    assert err.strip() == "10 of 33 documents, hybrid, exact top 10"


def test_the_snippet_shows_where_the_words_are_and_nothing_steers_the_terminal(dupmae):
    _, out, _ = dupmae("then parse a file")
    assert "then parse it." in out
    assert "\x1b" not in out
    assert "\x07" not in out


def test_the_words_that_matched_are_highlighted_whatever_their_form(dupmae, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    _, out, _ = dupmae("sorting the numbers", "--mode", "bm25", "-k", 1)
    assert "\x1b[1;33mSort\x1b[0m a list of \x1b[1;33mnumbers\x1b[0m, and" in out


def test_one_mode_shows_one_score(dupmae):
    _, out, _ = dupmae("parse a date", "--mode", "lexical", "-k", 2)
    assert "dense" not in out.splitlines()[0]
    assert len([line for line in out.splitlines() if line[:2].strip().isdigit()]) == 2


def test_a_ranking_that_is_not_proven_is_not_called_exact(dupmae, tmp_path):
    assert dupmae("parse a date", "--fusion", "rrf", "-k", 3)[2].strip().endswith("fused by rrf")
    HybridIndex.build(tmp_path / "hnsw", DOCUMENTS, ENCODER, faiss="HNSW8")
    words = ("parse a date", "--mode", "dense", "-k", 3)
    said = dupmae(*words, index=tmp_path / "hnsw")[2].strip()
    assert said == "3 of 33 documents, dense, top 3 not proven exact; --exact proves it"
    said = dupmae(*words, "--exact", index=tmp_path / "hnsw")[2].strip()
    assert said == "3 of 33 documents, dense, exact top 3"


def test_json_has_everything_and_is_alone_on_stdout(dupmae, index):
    code, out, _ = dupmae("parse a date", "--json", "-k", 3, "--exact")
    assert code == 0
    answer = json.loads(out)
    expected = HybridIndex.open(index, ENCODER).search("parse a date", k=3, exact=True)
    assert [hit["id"] for hit in answer["hits"]] == [hit.id for hit in expected]
    assert [hit["score"] for hit in answer["hits"]] == [hit.score for hit in expected]
    assert answer["hits"][0]["text"] == "Parse a date from a string of text."
    assert set(answer["hits"][0]) == {
        "rank",
        "id",
        "score",
        "dense",
        "lexical",
        "bm25",
        "title",
        "text",
        "metadata",
    }
    assert answer["certificate"]["certified"]
    assert answer["fusion"]["method"] == "sum"


def test_a_query_that_finds_nothing_is_no_error(dupmae):
    code, out, err = dupmae("!!!", "--mode", "lexical")
    assert (code, out) == (0, "")
    assert err.strip() == "0 of 33 documents, lexical"
    assert json.loads(dupmae("!!!", "--mode", "lexical", "--json")[1])["hits"] == []


def test_many_queries_become_a_run_with_its_story_beside_it(dupmae, queries, tmp_path, index):
    output = tmp_path / "runs" / "out.trec"
    code, out, err = dupmae("--queries", queries, "--output", output, "--tag", "mine", "--exact")
    assert (code, out) == (0, "")
    assert "3 topics" in err
    assert "3 of 3 rankings proven exact" in err
    run = read_run(output)
    expected = HybridIndex.open(index, ENCODER).search_batch(
        [Query(*pair) for pair in TOPICS.items()], 1000, exact=True
    )
    assert list(run) == ["1", "02", "none"]
    assert {topic: run[topic].ids for topic in run} == {t: expected[t].ids for t in expected}
    assert run.tag == "mine"
    story = json.loads((tmp_path / "runs" / "out.trec.json").read_text())
    assert story["queries"] == str(queries)
    assert story["fusion"]["method"] == "sum"
    assert story["certificate"]["certified"] == 3


def test_the_same_command_writes_the_same_bytes(dupmae, queries, tmp_path):
    for name in ("a", "b"):
        dupmae("--queries", queries, "--output", tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_encoded_queries_need_no_model(dupmae, queries, tmp_path, monkeypatch):
    folder = tmp_path / "encoded"
    topics = [Query(*pair) for pair in TOPICS.items()]
    encode_corpus(topics, ENCODER, folder, kind="queries")
    dupmae("--queries", queries, "--output", tmp_path / "texts")
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", None)
    code, _, _ = dupmae("--queries", folder, "--output", tmp_path / "vectors")
    assert code == 0
    assert (tmp_path / "texts").read_bytes() == (tmp_path / "vectors").read_bytes()


def test_a_split_takes_its_judged_queries(dupmae, tmp_path):
    with zipfile.ZipFile(tmp_path / "set.zip", "w") as archive:
        archive.writestr("set/corpus.jsonl", '{"_id": "dates", "text": "x"}\n')
        archive.writestr(
            "set/queries.jsonl",
            '{"_id": "1", "text": "parse a date"}\n{"_id": "2", "text": "sort"}\n',
        )
        archive.writestr("set/qrels/test.tsv", "query-id\tcorpus-id\tscore\n2\tdates\t1\n")
    where = ("--queries", tmp_path / "set.zip", "--output", tmp_path / "run")
    assert dupmae(*where, "--split", "test")[0] == 0
    assert list(read_run(tmp_path / "run")) == ["2"]
    code, _, err = dupmae(*where, "--split", "dev")
    assert code == 2
    assert "test" in err


def test_fusions_and_their_settings_reach_the_search(dupmae, queries, tmp_path):
    settings = [
        "--fusion",
        "linear",
        "--weights",
        "0.8,0.1,0.1",
        "--norm",
        "z-score",
        "--depth",
        "20",
    ]
    code, out, _ = dupmae(
        "--queries", queries, "--output", tmp_path / "run", *settings, "-k", 5, "--json"
    )
    assert code == 0
    story = json.loads(out)
    assert story["fusion"]["weights"] == [0.8, 0.1, 0.1]
    assert story["fusion"]["normalisation"] == "z-score"
    assert (story["depth"], story["k"], story["topics"], story["hits"]) == (20, 5, 3, 15)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("date", "-k", 0), "k is 0"),
        (("date", "-k", -5), "k is -5"),
        (("",), "no text"),
        (("  ",), "no text"),
        ((), "or --queries"),
        (("date", "--mode", "both"), "hybrid"),
        (("date", "--fusion", "mean"), "rrf"),
        (
            ("date", "--weights", "1"),
            "1 weight for the 3 parts of the score; give one each for dense",
        ),
        (("date", "--weights", "a,b"), "such as"),
        (("date", "--norm", "min-max"), "use linear"),
        (("date", "--fusion", "rrf", "--exact"), "cannot be certified"),
        (("date", "--depth", 3), "at least k"),
        (("date", "--model", "missing"), "no such model"),
        (("date", "--model", "other"), "'other'"),
        (("date", "--output", "run"), "--queries"),
        (("--queries", "nowhere.tsv", "--output", "run"), "nowhere.tsv"),
        (("--queries", "nowhere.tsv"), "--output"),
        (
            ("a date", "--queries", "nowhere.tsv", "--output", "run"),
            "the question 'a date' and --queries nowhere.tsv do not go together; give one of them",
        ),
        (("--queries", "..", "--output", "run"), "..: no queries.jsonl in it; name a file"),
        (("--queries", "nowhere.tsv", "--output", ".."), "..: is a folder; name a file for the"),
    ],
)
def test_bad_usage_is_one_line_and_exit_2(dupmae, words, message, tmp_path, monkeypatch):
    place = tmp_path / "place"  # and nothing of other tests above it
    place.mkdir()
    monkeypatch.chdir(place)
    code, out, err = dupmae(*words)
    assert code == 2
    assert out == ""
    assert message in err
    assert err.count("\n") == 1
    assert os.listdir(place) == []


def test_a_missing_index_is_one_line(dupmae, tmp_path):
    code, out, err = dupmae("date", index=tmp_path / "nothing")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "dupmae index" in err


def test_what_cannot_be_written_is_refused_before_the_search(dupmae, queries, tmp_path):
    (tmp_path / "file").write_text("x")
    for place in (tmp_path, tmp_path / "file" / "run", "/proc/nowhere/run"):
        code, out, err = dupmae("--queries", queries, "--output", place)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert str(place) in err or "/proc" in err
    code, _, err = dupmae("--queries", queries, "--output", tmp_path / "run", "--tag", "two words")
    assert code == 2
    assert "white space" in err
    assert sorted(os.listdir(tmp_path)) == ["file", "queries.tsv"]


def test_a_broken_query_file_leaves_the_old_run(dupmae, tmp_path):
    old = "1 Q0 old 1 1.0 tag\n"
    (tmp_path / "run").write_text(old)
    (tmp_path / "queries.jsonl").write_text('{"_id": "1", "text": "date"}\n{"_id": \n')
    code, _, err = dupmae("--queries", tmp_path / "queries.jsonl", "--output", tmp_path / "run")
    assert code == 2
    assert "queries.jsonl:2" in err
    assert (tmp_path / "run").read_text() == old
    assert sorted(os.listdir(tmp_path)) == ["queries.jsonl", "run"]


def test_the_help_has_examples(capsys):
    code, out, _ = run(capsys, "search", "--help")
    assert code == 0
    assert "Examples:" in out


def test_an_index_of_one_kind_refuses_options_of_fusion(tmp_path, capsys):
    from dupmae_toolkit.index.dense import write_faiss

    write_faiss(tmp_path / "faiss", ["a", "b"], ENCODER.encode_documents(["x", "y"]).dense)
    code, _, err = run(capsys, "search", "--index", tmp_path / "faiss", "x", "--fusion", "rrf")
    assert code == 2
    assert "mode dense fuses nothing" in err
