"""The command line reads anybody's documents, and says what it took for what."""

from __future__ import annotations

import io
import json
import sys

import pandas as pd
import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from tests.cli_support import run
from tests.support import HashingEncoder

ROWS = [
    {"docno": "a b", "headline": "Sea", "abstract": "blue sea", "dept": "sales", "year": 2020},
    {"docno": "c", "headline": "", "abstract": "a zebra", "dept": "legal", "year": 2021},
]


@pytest.fixture(autouse=True)
def encoder(monkeypatch):
    def load(*_, **__):
        return HashingEncoder(size=256, dim=16)

    monkeypatch.setattr("dupmae_toolkit.model.loading.load_encoder", load)
    monkeypatch.setattr("dupmae_toolkit.search.queries.load_encoder", load)
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", load)


def given(monkeypatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def encoded(folder) -> list[tuple[str, str, str]]:
    parts = list(EncodedCorpus.open(folder).parts())
    return [row for part in parts for row in zip(part.ids, part.titles, part.texts, strict=True)]


def test_named_fields_are_read_and_the_others_named(tmp_path, capsys, monkeypatch):
    frame = pd.DataFrame(ROWS)
    frame.to_csv(tmp_path / "c.csv", index=False)
    frame.to_parquet(tmp_path / "c.parquet")
    expected = [("a b", "Sea", "blue sea"), ("c", "", "a zebra")]
    given(monkeypatch, (tmp_path / "c.csv").read_bytes())
    for source in ("c.csv", "c.parquet", "-"):
        path = "-" if source == "-" else tmp_path / source
        output = tmp_path / f"out {source}"
        words = ["encode", path, "-o", output, "--text", "abstract"]
        code, _, err = run(capsys, *words)
        assert code == 0, err
        assert encoded(output) == expected
        assert "other fields, kept as metadata: dept, year" in err
    reading = json.loads((output / "manifest.json").read_text())["reading"]
    assert reading["fields"] == {"id": "docno", "title": "headline", "text": "abstract"}
    code, _, err = run(capsys, "encode", tmp_path / "c.csv", "-o", tmp_path / "no", "--id", "key")
    assert code == 2
    assert "no field 'key' in it" in err
    assert not (tmp_path / "no").exists()


def test_row_numbers_and_duplicates_are_said(tmp_path, capsys):
    path = tmp_path / "c.csv"
    path.write_text("text\nblue sea\n")
    code, _, err = run(capsys, "encode", path, "-o", tmp_path / "out")
    assert code == 0
    assert "no field is an id, so ids are row numbers, from 0" in err
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["reading"]["ids"] == "row numbers, from 0"
    path.write_text("id,text\na,one\nb,x\na,two\n")
    code, _, err = run(capsys, "encode", path, "-o", tmp_path / "two")
    assert code == 2
    assert f"{path}:4: the id 'a' is already on line 2" in err
    for keep, text in (("first", "one"), ("last", "two")):
        words = ["encode", path, "-o", tmp_path / keep, "--duplicates", keep]
        code, _, err = run(capsys, *words)
        assert code == 0
        assert "1 document was left out because of equal ids" in err
        assert ("a", "", text) in encoded(tmp_path / keep)


def test_queries_of_any_format_are_encoded(tmp_path, capsys, monkeypatch):
    given(monkeypatch, b"query_id\ttext\nq 1\tblue sea\n")
    code, _, err = run(capsys, "encode", "-", "--queries", "-o", tmp_path / "q")
    assert code == 0, err
    assert EncodedCorpus.open(tmp_path / "q").representations().ids == ["q 1"]
    (tmp_path / "q.txt").write_text("what\nwhy\n")
    code, _, err = run(capsys, "encode", tmp_path / "q.txt", "--queries", "-o", tmp_path / "r")
    assert code == 0
    assert "ids are row numbers" in err
    code, _, err = run(
        capsys, "encode", tmp_path / "q.txt", "--queries", "-o", tmp_path / "s", "--title", "x"
    )
    assert code == 2


@pytest.mark.java
def test_notes_with_spaces_go_from_a_folder_to_a_measured_run(tmp_path, capsys, monkeypatch):
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "a b.md").write_text("the blue sea")
    (notes / "c.txt").write_text("a red zebra on vacation")
    (notes / "x.png").write_bytes(b"\x89")
    index = tmp_path / "index"
    code, _, err = run(capsys, "index", notes, "--index", index)
    assert code == 0, err
    assert f"1 file in {notes} not read: 1 .png" in err
    code, out, _ = run(capsys, "info", "--index", index, "--json")
    assert json.loads(out)["reading"]["ids"] == "id"
    given(monkeypatch, b"vacation\n")
    code, out, _ = run(capsys, "search", "--index", index, "-", "--json")
    assert (json.loads(out)["query"], json.loads(out)["hits"][0]["id"]) == ("vacation", "c.txt")
    for data, fault in ((b"one\ntwo\n", "takes --queries -"), (b"\xe2\x80\x8b\n", "no text")):
        given(monkeypatch, data)
        code, _, err = run(capsys, "search", "--index", index, "-")
        assert code == 2
        assert fault in err
    given(monkeypatch, b"query_id\ttext\nq 1\tblue sea\n")
    runs = tmp_path / "run.trec"
    code, _, err = run(capsys, "search", "--index", index, "--queries", "-", "-o", runs)
    assert code == 0, err
    assert read_run(runs)["q 1"].ids[0] == "a b.md"
    assert "q%%201 Q0 a%%20b.md 1 " in runs.read_text()
    qrels = tmp_path / "qrels.tsv"
    qrels.write_text("q 1\ta b.md\t1.0\n")
    code, out, _ = run(capsys, "eval", runs, "--qrels", qrels, "--json", "--measures", "RR")
    assert code == 0
    assert '"RR": 1.0' in out
    (tmp_path / "more.csv").write_text("id,text\nd e,green\n")
    code, _, err = run(capsys, "add", tmp_path / "more.csv", "--index", index)
    assert code == 0, err
    (tmp_path / "gone").write_text("a b.md\nd e\n")
    code, _, err = run(capsys, "delete", "--file", tmp_path / "gone", "--index", index)
    assert code == 0, err
    assert "2 deleted" in err


@pytest.mark.java
def test_the_library_builds_from_frames_texts_mappings_and_files(tmp_path):
    (tmp_path / "c.csv").write_text("id,text\na,blue sea\n")
    sources = {
        "frame": (pd.DataFrame({"id": ["a"], "text": ["blue sea"]}), "a"),
        "texts": (["blue sea"], "0"),
        "mapping": ({"a": "blue sea"}, "a"),
        "file": (str(tmp_path / "c.csv"), "a"),
    }
    for name, (source, expected) in sources.items():
        with HybridIndex.build(tmp_path / name, source, HashingEncoder(size=256, dim=16)) as index:
            assert [hit.id for hit in index.search("sea")] == [expected]
            stated = index.manifest.reading["ids"]
            assert stated.startswith("row numbers") == (expected == "0")
            index.add({"more": "green hills"})
            assert len(index) == 2


def test_an_encoded_folder_takes_no_fields(tmp_path, capsys):
    (tmp_path / "c.csv").write_text("id,text\na,x\n")
    assert run(capsys, "encode", tmp_path / "c.csv", "-o", tmp_path / "e")[0] == 0
    for words in (["--id", "id"], ["--duplicates", "first"], ["--header"]):
        code, _, err = run(capsys, "index", tmp_path / "e", "--index", tmp_path / "i", *words)
        assert code == 2
        assert "is encoded already; leave out" in err
