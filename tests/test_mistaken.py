"""Folders that are no index: each is named, with what to do."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.bm25 import build_index
from dupmae_toolkit.index.dense import write_faiss
from dupmae_toolkit.index.lucene import write_lucene
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.interop.pyserini import PyseriniIndex
from dupmae_toolkit.interop.pyserini_index import open_searcher
from dupmae_toolkit.records import Document
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.tiny import save_tiny

ENCODER = HashingEncoder(size=64, dim=16)
DOCUMENTS = [{"id": f"d{n}", "text": "sea " * (n + 1) + "blue"} for n in range(5)]


def place(tmp_path: Path, kind: str) -> Path:
    """Something of this kind."""
    path = tmp_path / "x"
    if kind == "model":
        save_tiny(path)
    elif kind == "encoded":
        encode_corpus(DOCUMENTS, ENCODER, path)
    elif kind == "faiss":
        write_faiss(path, ["a"], np.ones((1, 4), np.float32))
    elif kind == "lucene":
        path.mkdir()
        (path / "segments_1").touch()
    elif kind == "baseline":
        path.mkdir()
        (path / "manifest.json").write_text('{"format_version": 1, "kind": "bm25"}')
    elif kind == "queries":
        path.mkdir()
        stated = {"format_version": 1, "encoder": {}, "parts": [], "kind": "queries"}
        (path / "manifest.json").write_text(json.dumps(stated))
    elif kind == "data set":
        path.mkdir()
        (path / "corpus.jsonl").touch()
    elif kind == "several":
        for name in "abcd":
            (path / name / "segments").mkdir(parents=True)
            (path / name / "manifest.json").write_text("{}")
    elif kind == "part":
        (tmp_path / "segments" / "000001" / "faiss").mkdir(parents=True)
        (tmp_path / "manifest.json").write_text('{"segments": []}')
        path = tmp_path / "segments" / "000001" / "faiss"
    return path


SAID = {
    "model": "not an index but a model; `dupmae index CORPUS --model {x} ",
    "encoded": "not an index but encoded texts; `dupmae index {x} --index DIR`",
    "queries": "not an index but encoded queries; give them to `dupmae search --queries`",
    "faiss": "not an index but a FAISS index alone; `dupmae search` reads",
    "lucene": "not an index but a Lucene index alone; `dupmae search` reads",
    "baseline": "not an index but the BM25 baseline of `dupmae beir`",
    "data set": "not an index but a data set; `dupmae index {x} --index DIR`",
    "several": "not an index but a folder that holds 4; name one: {x}/a, {x}/b, {x}/c …",
    "part": "not an index but a part of one; name the index itself, {top}",
}


@pytest.mark.parametrize("kind", SAID)
def test_a_wrong_folder_is_named_with_what_to_do(tmp_path: Path, kind: str, capsys) -> None:
    path = place(tmp_path, kind)
    before = sorted(tmp_path.rglob("*"))
    wanted = f"{path}: {SAID[kind].format(x=path, top=tmp_path)}"
    with pytest.raises(InputError) as raised:
        Manifest.load(path)
    assert str(raised.value).startswith(wanted)
    for command in (["info"], ["verify"], ["delete", "d1"], ["compact"]):
        code, out, err = run(capsys, *command, "--index", path)
        assert (code, out, err.count("\n")) == (2, "", 1)
        assert err.startswith(f"dupmae: {wanted}")
    assert sorted(tmp_path.rglob("*")) == before


def test_a_file_of_an_index_leads_to_the_index(tmp_path: Path) -> None:
    place(tmp_path, "part")
    with pytest.raises(InputError, match=f"is a file; name the index itself, {tmp_path}"):
        Manifest.load(tmp_path / "manifest.json")


@pytest.mark.parametrize("content", ["", "[", "[1]", "null", '"encoder"', "\x00"])
def test_broken_manifests_are_not_taken_for_something_else(tmp_path: Path, content: str) -> None:
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(InputError, match=r"manifest\.json"):
        Manifest.load(tmp_path)


@pytest.mark.java
def test_counts_of_words_are_not_searched_as_impacts(tmp_path: Path, capsys) -> None:
    documents = [Document(document["id"], document["text"]) for document in DOCUMENTS]
    folder = build_index(documents, tmp_path / "bm25") / "lucene"
    with pytest.raises(InputError, match=r"words and their counts.*LuceneSearcher.*`dupmae index`"):
        open_searcher(folder, ENCODER)
    code, out, err = run(capsys, "search", "--index", tmp_path / "bm25", "sea")
    assert (code, out) == (2, "")
    assert "BM25 baseline" in err


@pytest.mark.java
def test_impacts_without_norms_and_our_own_are_searched(tmp_path: Path) -> None:
    write_lucene(tmp_path / "own", ["a", "b"], csr_matrix(np.array([[3, 0], [1, 2]])), ["x", "y"])
    found = PyseriniIndex.open(tmp_path / "own").search_terms({"q": {"x": 1.0}})
    assert found["q"].ids == ["a", "b"]
    index = HybridIndex.build(tmp_path / "i", DOCUMENTS, ENCODER)
    opened = PyseriniIndex.open(index.path / "segments/000001/lucene", ENCODER)
    assert len(opened) == len(DOCUMENTS)


def test_json_of_a_deep_manifest_does_not_end_the_process(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("[" * 100_000)
    with pytest.raises(InputError):
        Manifest.load(tmp_path)
