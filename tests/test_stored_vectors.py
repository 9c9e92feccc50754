"""Vectors that exist already are indexed and searched as they are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.encoding.vectors import StoredVectors
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import EncoderInfo
from tests.cli_support import run

DENSE = np.random.default_rng(0).normal(size=(6, 5)).astype(np.float32)
TERMS = [{f"t{i}": 1.0 + i, "every": 0.5} for i in range(6)]
IDS = [f"d{i}" for i in range(6)]
#: As a model states it whose vectors lie in files.
INFO = EncoderInfo("model", "0" * 64, "1" * 64, 1, 5, lexical_head="none")


def lines(path: Path, rows: list) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    return lines(tmp_path / "c.jsonl", [{"id": i, "text": f"word {i}"} for i in IDS])


def stored(tmp_path: Path, kind: str) -> Path:
    order = [3, 1, 0, 5, 4, 2]  # the order of the corpus does not matter
    if kind == "npy":
        np.save(tmp_path / "v.npy", DENSE[order])
        (tmp_path / "v.ids").write_text("".join(f"{IDS[i]}\n" for i in order))
        return tmp_path / "v.npy"
    if kind == "parquet":
        table = {
            "id": [IDS[i] for i in order],
            "dense": pa.FixedSizeListArray.from_arrays(pa.array(DENSE[order].ravel()), 5),
            "terms": [list(TERMS[i]) for i in order],
            "weights": [list(TERMS[i].values()) for i in order],
        }
        pq.write_table(pa.table(table), tmp_path / "v.parquet")
        return tmp_path / "v.parquet"
    vectors = DENSE.tolist() if kind == "dense" else TERMS
    rows = [{"id": IDS[i], "contents": "x", "vector": vectors[i]} for i in order]
    return lines(tmp_path / "v.jsonl", rows)


@pytest.mark.parametrize("kind", ["npy", "parquet", "dense", "lexical"])
def test_an_index_of_them_ranks_by_them(tmp_path: Path, corpus: Path, capsys, kind: str):
    path, index = stored(tmp_path, kind), tmp_path / "index"
    words = ("index", corpus, "--index", index, "--vectors", path, "--no-bm25")
    code, _, err = run(capsys, *words)
    assert code == 0, err
    queries = tmp_path / "q.tsv"
    queries.write_text("q1\tfirst\nq2\tsecond\n")
    both = {"q1": (DENSE[2], {"t2": 1.0, "every": 2.0, "new": 3.0}), "q2": (DENSE[4], {"t4": 1.0})}
    if kind == "parquet":
        table = {
            "id": list(both),
            "dense": [dense.tolist() for dense, _ in both.values()],
            "terms": [list(terms) for _, terms in both.values()],
            "weights": [list(terms.values()) for _, terms in both.values()],
        }
        asked = tmp_path / "q.parquet"
        pq.write_table(pa.table(table), asked)
    else:
        part = 1 if kind == "lexical" else 0
        rows = [{"id": q, "vector": v[1] if part else v[0].tolist()} for q, v in both.items()]
        asked = lines(tmp_path / "qv.jsonl", rows)
    output = tmp_path / "run.trec"
    words = ("search", "--index", index, "--queries", queries, "--output", output)
    code, _, err = run(capsys, *words, "--query-vectors", asked, "--idf-power", "0")
    assert code == 0, err
    assert ("1 weights of terms" in err) == (kind in ("lexical", "parquet"))
    found = read_run(output)
    for topic, (dense, terms) in both.items():
        wanted = np.zeros(6)
        if kind != "lexical":
            wanted += DENSE @ dense
        if kind in ("lexical", "parquet"):
            shared = [sum(terms.get(t, 0) * w for t, w in own.items()) for own in TERMS]
            wanted += np.array(shared)
        ranking = found[topic]
        scores = dict(zip(ranking.ids, ranking.scores, strict=True))
        expected = dict(zip(IDS, wanted, strict=True))
        for name in scores:
            assert scores[name] == pytest.approx(expected[name], abs=0.05)
        assert ranking.ids[0] == IDS[int(np.argmax(wanted))]
    code, _, err = run(capsys, "search", "--index", index, "first")
    assert code == 2
    assert "--query-vectors" in err


def test_a_file_of_texts_and_vectors_is_both(tmp_path: Path, capsys):
    rows = [{"id": i, "contents": f"word {i}", "vector": TERMS[n]} for n, i in enumerate(IDS)]
    path = lines(tmp_path / "v.jsonl", rows)
    index = tmp_path / "index"
    code, _, err = run(capsys, "index", path, "--index", index, "--vectors", path)
    assert code == 0, err
    with HybridIndex.open(index) as opened:
        hits = opened.search("d3", mode="bm25")  # words alone need no vectors
        assert hits[0].id == "d3"
        assert hits[0].metadata == {}


def test_vectors_of_other_texts_are_other_vectors(tmp_path: Path):
    """As .npy, the ids stand in a file of their own."""
    np.save(tmp_path / "v.npy", np.eye(3, dtype=np.float32))
    made = []
    for ids in ("a\nb\nc\n", "b\na\nc\n"):
        (tmp_path / "v.ids").write_text(ids)
        made.append(StoredVectors(tmp_path / "v.npy"))
    assert made[0].info != made[1].info
    assert made[0].arithmetic != made[1].arithmetic


def refused(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        StoredVectors(path)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    "row",
    [
        3,
        {"id": "a"},
        {"vector": [1.0]},
        {"id": "a", "vector": 3},
        {"id": "a", "vector": [1.0, 2.0]},  # the first has five
        {"id": "a", "vector": [1.0, 2.0, 3.0, 4.0, "x"]},
        {"id": "a", "vector": [1.0, 2.0, 3.0, 4.0, float("nan")]},
        {"id": "a", "vector": [1.0, 2.0, 3.0, 4.0, 1e300]},
        {"id": "a", "vector": [1.0, 2.0, 3.0, 4.0, 10**400]},
        {"id": "a", "vector": {"": 1.0}},
        {"id": "d0", "vector": [1.0] * 5},
    ],
)
def test_a_line_that_is_no_vector_is_refused(tmp_path: Path, row):
    refused(lines(tmp_path / "v.jsonl", [{"id": "d0", "vector": DENSE[0].tolist()}, row]))


@pytest.mark.parametrize("weight", [-1.0, float("inf"), float("nan"), "x", None])
def test_a_weight_that_cannot_be_is_refused(tmp_path: Path, weight):
    assert "weight" in refused(lines(tmp_path / "v.jsonl", [{"id": "a", "vector": {"t": weight}}]))


def test_arrays_that_do_not_fit_are_refused(tmp_path: Path):
    np.save(tmp_path / "v.npy", DENSE)
    assert "v.ids" in refused(tmp_path / "v.npy")
    (tmp_path / "v.ids").write_text("a\n")
    assert "1 ids for 6" in refused(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert "not readable" in refused(tmp_path / "v.npy")
    np.save(tmp_path / "v.npy", np.arange(3))
    assert "floats" in refused(tmp_path / "v.npy")
    assert "no such file" in refused(tmp_path / "gone.npy")
    assert "no vectors" in refused(lines(tmp_path / "v.jsonl", []))
    (tmp_path / "v.parquet").write_bytes(b"PAR1")
    assert "Parquet" in refused(tmp_path / "v.parquet")


def test_a_document_without_a_vector_is_named(tmp_path: Path, corpus: Path, capsys):
    path = lines(tmp_path / "v.jsonl", [{"id": "d0", "vector": [1.0, 2.0]}])
    words = ("index", corpus, "--index", tmp_path / "index", "--vectors", path)
    code, _, err = run(capsys, *words)
    assert code == 2
    assert "'d1'" in err


@pytest.mark.parametrize("kind", ["npy", "parquet", "dense", "lexical"])
def test_an_index_that_grows_by_vectors_is_the_one_built_at_once(
    tmp_path: Path, corpus: Path, capsys, kind: str
):
    path = stored(tmp_path, kind)
    lines = corpus.read_text().splitlines(keepends=True)
    (tmp_path / "first.jsonl").write_text("".join(lines[:6]))  # so that all terms are known
    common = ("--index", tmp_path / "grown", "--vectors", path)
    assert run(capsys, "index", tmp_path / "first.jsonl", *common, "--no-bm25")[0] == 0
    assert run(capsys, "delete", "d4", "d5", "--index", tmp_path / "grown")[0] == 0
    (tmp_path / "rest.jsonl").write_text("".join(lines[4:]))
    code, _, err = run(capsys, "add", tmp_path / "rest.jsonl", *common)
    assert code == 0, err
    assert f"{path}: 4 vectors of no document" in err
    code, _, err = run(capsys, "add", tmp_path / "rest.jsonl", *common)
    assert code == 2
    assert "the id 'd4' is in the index already" in err
    code, _, err = run(capsys, "add", tmp_path / "rest.jsonl", *common, "--replace")
    assert code == 0, err
    whole = ("--index", tmp_path / "whole", "--vectors", path)
    assert run(capsys, "index", corpus, *whole, "--no-bm25")[0] == 0
    asked = lines_of_queries(tmp_path, kind)
    found = []
    for name in ("grown", "whole"):
        words = ("search", "--index", tmp_path / name, "--queries", tmp_path / "q.tsv")
        output = tmp_path / f"{name}.trec"
        code, _, err = run(
            capsys, *words, "--query-vectors", asked, "--output", output, "--idf-power", "0"
        )
        assert code == 0, err
        found.append(output.read_text())
    assert found[0] == found[1] != ""


def lines_of_queries(tmp_path: Path, kind: str) -> Path:
    (tmp_path / "q.tsv").write_text("q0\tfirst\nq1\tsecond\n")
    vectors = [{"t1": 1.0, "every": 1.0}, {"t5": 2.0}] if kind == "lexical" else DENSE[2:4].tolist()
    if kind == "parquet":
        rows = {"id": ["q0", "q1"], "dense": vectors, "terms": [["t1"], ["t5"]]}
        pq.write_table(pa.table(rows | {"weights": [[1.0], [2.0]]}), tmp_path / "q.parquet")
        return tmp_path / "q.parquet"
    return lines(
        tmp_path / "qv.jsonl", [{"id": f"q{i}", "vector": v} for i, v in enumerate(vectors)]
    )


def test_vectors_that_are_not_the_indexs_are_not_added(tmp_path: Path, corpus: Path, capsys):
    index = tmp_path / "index"
    made = run(capsys, "index", corpus, "--index", index, "--vectors", stored(tmp_path, "lexical"))
    assert made[0] == 0
    more = lines(tmp_path / "more.jsonl", [{"id": "n", "text": "new"}])
    before = sorted(path.name for path in index.rglob("*"))
    for vector, said in (
        ({"never-seen": 1.0}, "the term 'never-seen' of 'n' is not in the vocabulary"),
        ([0.5, 1.0], "those of 'vectors' are lexical, of 0"),
    ):
        path = lines(tmp_path / "n.jsonl", [{"id": "n", "vector": vector}])
        code, _, err = run(capsys, "add", more, "--index", index, "--vectors", path)
        assert code == 2
        assert said in err
    code, _, err = run(capsys, "add", more, "--index", index, "--vectors", path, "--model", "m")
    assert code == 2
    assert "leave out --model" in err
    assert sorted(path.name for path in index.rglob("*")) == before


def test_interrupted_work_on_other_vectors_is_not_continued(tmp_path: Path, corpus: Path):
    folders = []
    for scale in (1.0, 2.0):
        rows = [{"id": i, "vector": (scale * DENSE[n]).tolist()} for n, i in enumerate(IDS)]
        vectors = StoredVectors(lines(tmp_path / f"{scale}.jsonl", rows), INFO, ["[none]"])
        folders.append(vectors)
    first, second = folders
    encode_corpus(open_corpus(corpus), first, tmp_path / "out")
    with pytest.raises(InputError, match="delete the folder or name another output"):
        encode_corpus(open_corpus(corpus), second, tmp_path / "out")
