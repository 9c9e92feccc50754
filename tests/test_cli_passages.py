"""Passages on the command line: built, encoded, searched, explained, added to, refused."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from tests.cli_support import run
from tests.tiny import save_tiny

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

TEXTS = {f"d{n}": " ".join(f"w{(n * 7 + m) % 50}" for m in range(n * 6 + 3)) for n in range(12)}
CUT = ("--passages", 16, "--overlap", 4)


def write(path: Path, texts: dict[str, str]) -> Path:
    path.write_text("".join(json.dumps({"_id": k, "text": v}) + "\n" for k, v in texts.items()))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny(folder)
    return folder


@pytest.fixture
def corpus(tmp_path):
    return write(tmp_path / "corpus.jsonl", TEXTS)


@pytest.fixture
def index(tmp_path, corpus, model, capsys):
    words = ("index", corpus, "--index", tmp_path / "index", "--model", model, *CUT)
    code, out, err = run(capsys, *words)
    assert (code, out) == (0, "")
    assert "12 documents in 37 passages indexed" in err
    assert "--passages" not in err
    return tmp_path / "index"


def test_info_counts_both(index, capsys):
    _, out, _ = run(capsys, "info", "--index", index)
    lines = dict(line.split(maxsplit=1) for line in out.splitlines())
    assert lines["documents"] == "12"
    assert lines["passages"] == "37, 0 deleted; up to 16 tokens, 4 shared with the next"
    _, out, _ = run(capsys, "info", "--index", index, "--json")
    assert json.loads(out)["passages"] == {"size": 16, "overlap": 4, "count": 37}


def test_a_search_shows_passages(index, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "160")
    question = ("search", "--index", index, "w3 w4 w5", "-k", 12)
    code, out, err = run(capsys, *question, "--json")
    assert code == 0
    found = json.loads(out)
    assert found["passages"] == {"size": 16, "overlap": 4, "count": 37, "aggregate": "max"}
    for hit in found["hits"]:
        where = hit["passage"]
        assert hit["text"] == TEXTS[hit["id"]][where["start"] : where["end"]]
    assert sorted(hit["id"] for hit in found["hits"]) == sorted(TEXTS)
    _, out, _ = run(capsys, *question, "--format", "csv")
    header, first, *_ = csv.reader(out.splitlines())
    row = dict(zip(header, first, strict=True))
    assert row["text"] == TEXTS[row["id"]][int(row["start"]) : int(row["end"])]
    assert row["passage"] == str(found["hits"][0]["passage"]["number"])
    code, out, err = run(capsys, *question)
    assert "passage" in out.splitlines()[0]
    assert "12 of 12 documents, hybrid, exact" in err
    _, out, _ = run(capsys, *question, "--json", "--aggregate", "sum3")
    assert json.loads(out)["passages"]["aggregate"] == "sum3"
    assert [h["score"] for h in json.loads(out)["hits"]] != [h["score"] for h in found["hits"]]


def test_a_run_has_the_ids_of_documents(index, tmp_path, capsys):
    queries = write(tmp_path / "queries.jsonl", {"q1": "w1 w2", "q2": "w30"})
    output = tmp_path / "run.trec"
    words = ("search", "--index", index, "--queries", queries, "--output", output)
    assert run(capsys, *words)[0] == 0
    lines = [line.split() for line in output.read_text().splitlines()]
    for topic in ("q1", "q2"):
        assert sorted(line[2] for line in lines if line[0] == topic) == sorted(TEXTS)
    about = json.loads((tmp_path / "run.trec.json").read_text())
    assert about["passages"]["count"] == 37


def test_explanations_name_the_passage(index, capsys):
    code, out, _ = run(capsys, "explain", "--index", index, "w3 w4", "d9", "--json")
    assert code == 0
    (hit,) = json.loads(out)["hits"]
    assert hit["id"] == "d9"
    assert set(hit["passage"]) == {"number", "start", "end"}
    _, out, _ = run(capsys, "explain", "--index", index, "w3 w4", "d9")
    assert f"d9  passage {hit['passage']['number']}" in out
    how = ("explain", "--index", index, "w3 w4", "d9", "--aggregate", "sum3")
    (hit,) = json.loads(run(capsys, *how, "--json")[1])["hits"]
    assert len(hit["passages"]) == 3
    assert f"d9  passages {', '.join(map(str, hit['passages']))}" in run(capsys, *how)[1]


def test_additions_are_cut_alike(index, tmp_path, capsys):
    more = write(tmp_path / "more.jsonl", {"d3": "w1", "new": "w1 w2 " * 20})
    code, _, err = run(capsys, "add", more, "--index", index)
    assert code == 2
    assert "'d3' is in the index already" in err
    code, _, err = run(capsys, "add", more, "--index", index, "--replace")
    assert code == 0
    assert "2 added, 1 replaced; 13 documents" in err
    assert run(capsys, "delete", "d0", "d1", "--index", index)[2].count("2 deleted; 11 documents")
    assert run(capsys, "compact", "--index", index)[0] == 0
    assert run(capsys, "verify", "--index", index)[0] == 0
    _, out, _ = run(capsys, "info", "--index", index, "--json")
    assert json.loads(out)["documents"] == 11


def test_an_encoded_corpus_states_its_passages(corpus, model, tmp_path, capsys):
    encoded, index = tmp_path / "encoded", tmp_path / "again"
    words = ("encode", corpus, "--output", encoded, "--model", model)
    code, out, err = run(capsys, *words, *CUT, "--json")
    assert code == 0
    assert "37 passages encoded" in err
    assert json.loads(out)["passages"] == {"size": 16, "overlap": 4}
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "made with passages" in err
    code, _, err = run(capsys, "index", encoded, "--index", index, *CUT)
    assert code == 2
    assert "is encoded already; leave out" in err
    code, _, err = run(capsys, "index", encoded, "--index", index, "--model", model)
    assert code == 0
    assert "12 documents in 37 passages" in err


def test_what_is_cut_without_passages_names_the_way_out(corpus, model, tmp_path, capsys):
    words = ("--model", model, "--max-length", 20)
    _, _, err = run(capsys, "index", corpus, "--index", tmp_path / "index", *words)
    assert "texts cut at 20 tokens (--passages indexes all of a long text)" in err
    _, _, err = run(capsys, "encode", corpus, "--output", tmp_path / "encoded", *words)
    assert "cut at 20 tokens (--passages indexes all of a long text)" in err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--passages", 0), "at least 1"),
        (("--passages", 20, "--overlap", 20), "less than the 20 tokens"),
        (("--overlap", 5), "goes with passages"),
        (("--passages", 5000), "would read 40; give fewer"),
        (("--passages", 10, "--vectors", "v.npy"), "vectors of whole documents"),
    ],
)
def test_what_cannot_be_done_is_one_line(corpus, model, tmp_path, capsys, words, said):
    index = tmp_path / "index"
    code, out, err = run(capsys, "index", corpus, "--index", index, "--model", model, *words)
    assert (code, out) == (2, "")
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not index.exists()


def test_vectors_of_whole_documents_are_not_added(index, tmp_path, capsys):
    import pyarrow as pa
    import pyarrow.parquet as pq

    more = write(tmp_path / "more.jsonl", {"new": "w1 w2"})
    width = json.loads(run(capsys, "info", "--index", index, "--json")[1])["encoder"]["dense_dim"]
    row = {"id": "new", "dense": [1.0] * width, "terms": ["w1"], "weights": [1.0]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "v.parquet")
    words = ("add", more, "--index", index, "--vectors", tmp_path / "v.parquet")
    code, out, err = run(capsys, *words)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "cut into passages, so it takes no vectors of whole documents" in err
    assert "--passages" not in err


def test_whole_documents_have_no_aggregate(corpus, model, tmp_path, capsys):
    index = tmp_path / "plain"
    run(capsys, "index", corpus, "--index", index, "--model", model)
    code, _, err = run(capsys, "search", "--index", index, "w1", "--aggregate", "max")
    assert code == 2
    assert "have no passages to aggregate" in err
    _, out, _ = run(capsys, "search", "--index", index, "w1", "--json")
    assert "passages" not in json.loads(out)
    assert "passage" not in json.loads(out)["hits"][0]
