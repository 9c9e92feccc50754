"""Vectors exported as JSON lines, .npy and Parquet, and imported again: the same scores."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index.build import build_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.interop import vector_formats, vector_layout, vector_reading, vector_writing
from dupmae_toolkit.interop.importing import import_index
from dupmae_toolkit.interop.vector_writing import write_vectors
from dupmae_toolkit.records import Document
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

FORMATS = ("jsonl", "npy", "parquet")
ENCODER = HashingEncoder()
TOPICS = [Query("1", "w3 w17 w3"), Query("2", "the same title 4"), Query("3", "nothing")]


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches of a few documents."""
    for module in (vector_writing, vector_formats, vector_layout):
        monkeypatch.setattr(module, "BATCH", 16)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    """Of several segments, with deletions, and metadata of every kind."""
    path = tmp_path_factory.mktemp("exchange") / "index"
    documents = documents_of(50)
    fields = {"year": 2020, "day": date(2024, 5, 1), "tags": ["a", "b"], "$odd": {"x": None}}
    documents[7] = Document(documents[7].id, "a title", documents[7].text, fields)
    with HybridIndex.build(path, documents[:30], ENCODER) as opened:
        opened.add(documents[30:])
        opened.delete([documents[3].id, documents[33].id])
    return path


def found(index: Path, encoder=ENCODER, **how) -> list:
    with HybridIndex.open(index, encoder) as opened:
        run = opened.search_batch(TOPICS, k=100, exact=True, **how)
        return [(t, run[t].ids, run[t].scores.tolist()) for t in run]


def documents(index: Path, names: list[str]) -> list[Document]:
    with HybridIndex.open(index, ENCODER) as opened:
        return [opened.get(name) for name in names]


@pytest.mark.parametrize("format", FORMATS)
def test_an_index_comes_back_with_its_scores_and_documents(index, tmp_path, format, capsys):
    folder, new = tmp_path / "out", tmp_path / "new"
    code, out, err = run(capsys, "export", index, "--format", format, "--output", folder, "--json")
    assert code == 0, err
    assert json.loads(out)["documents"] == 48
    code, out, err = run(capsys, "import", folder, "--output", new, "--json")
    assert code == 0, err
    assert json.loads(out)["parts"] == ["dense", "lexical", "bm25"]
    for how in ({"mode": "dense"}, {"mode": "lexical"}, {"mode": "bm25"}, {"plain": True}, {}):
        assert found(new, **how) == found(index, **how)
    names = found(index, mode="dense")[0][1]
    assert len(names) == 48
    assert documents(new, names) == documents(index, names)
    assert verify_index(new) == []


@pytest.mark.parametrize("format", FORMATS)
def test_the_fitted_score_comes_back_too(tmp_path, format):
    encoder = HashingEncoder(largest_weight=3.3)
    built = documents_of(60)
    HybridIndex.build(tmp_path / "a", built, encoder, faiss="HNSW8").close()
    write_vectors(tmp_path / "a", tmp_path / "out", format)
    made, notes = import_index(tmp_path / "out", tmp_path / "b")
    assert notes == []
    assert (made.faiss_spec, made.encoder.largest_weight) == ("HNSW8", 3.3)
    assert found(tmp_path / "b", encoder) == found(tmp_path / "a", encoder)


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("side", ["dense", "lexical"])
def test_an_index_of_one_side_comes_back(tmp_path, format, side):
    encoder = HashingEncoder(dim=16 if side == "dense" else 0)
    if side == "lexical":
        object.__setattr__(encoder.info, "pooling", "none")
    else:
        object.__setattr__(encoder.info, "lexical_head", "none")
        encode = encoder.encode_documents

        def without(texts, ids=None):
            made = encode(texts, ids)
            made.lexical = made.lexical * 0
            made.texts = list(texts)
            return made

        encoder.encode_documents = encoder.encode_queries = without
    HybridIndex.build(tmp_path / "a", documents_of(20), encoder, bm25=False).close()
    write_vectors(tmp_path / "a", tmp_path / "out", format)
    made, _ = import_index(tmp_path / "out", tmp_path / "b")
    assert made.parts == (side,)
    assert found(tmp_path / "b", encoder) == found(tmp_path / "a", encoder)


def test_passages_come_back(tmp_path):
    texts = [Document(f"d{i}", "", " ".join(f"w{j}" for j in range(i, i + 40))) for i in range(9)]
    with HybridIndex.build(tmp_path / "a", texts, ENCODER, passages=10, overlap=2) as opened:
        wanted = opened.search("w3 w17", k=5)
    write_vectors(tmp_path / "a", tmp_path / "out", "parquet")
    made, _ = import_index(tmp_path / "out", tmp_path / "b")
    assert (made.documents, made.passages.size) == (9, 10)
    with HybridIndex.open(tmp_path / "b", ENCODER) as opened:
        assert opened.search("w3 w17", k=5) == wanted


@pytest.mark.parametrize("format", FORMATS)
def test_an_encoded_corpus_comes_back_unrounded(tmp_path, format):
    encoded = encode_corpus(documents_of(40), ENCODER, tmp_path / "e", part_size=7)
    build_index(tmp_path / "a", encoded, vocabulary=ENCODER.vocabulary)
    write_vectors(tmp_path / "e", tmp_path / "out", format)
    import_index(tmp_path / "out", tmp_path / "b")
    assert found(tmp_path / "b") == found(tmp_path / "a")


def test_pandas_opens_the_parquet_folder(index, tmp_path):
    write_vectors(index, tmp_path / "out", "parquet")
    frame = pd.read_parquet(tmp_path / "out")
    names = found(index, mode="dense")[0][1]
    assert frame["id"].tolist() == sorted(names)
    assert [f"{a}|{b}" for a, b in zip(frame["title"], frame["text"], strict=True)] == [
        f"{each.title}|{each.text}" for each in documents(index, sorted(names))
    ]
    vectors = ENCODER.encode_documents([each.contents for each in documents(index, sorted(names))])
    assert np.allclose(np.stack(frame["dense"].to_list()), vectors.dense)
    for row, (terms, weights) in enumerate(zip(frame["terms"], frame["weights"], strict=True)):
        expected = vectors.lexical[row]
        assert set(terms) == {f"t{column}" for column in expected.indices}
        by_term = dict(zip(terms, weights, strict=True))
        for column, weight in zip(expected.indices, expected.data, strict=True):
            assert by_term[f"t{column}"] == pytest.approx(weight, abs=0.02)


def test_pandas_cannot_open_a_folder_with_a_manifest_beside_the_parts(tmp_path):
    """Why the record's name begins with an underscore."""
    encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    with pytest.raises(Exception, match=r"manifest\.json|Parquet"):
        pd.read_parquet(tmp_path / "e")
    write_vectors(tmp_path / "e", tmp_path / "out", "parquet")
    assert len(pd.read_parquet(tmp_path / "out")) == 5


def test_json_lines_are_pyserinis(index, tmp_path, capsys):
    """Impacts as integers, and files that `dupmae index --vectors` reads as well."""
    write_vectors(index, tmp_path / "out", "jsonl")
    lines = (tmp_path / "out/lexical/vectors.jsonl").read_text("utf-8").splitlines()
    items = [json.loads(line) for line in lines]
    assert len(items) == 48
    assert all(item.keys() == {"id", "contents", "vector"} for item in items)
    values = {type(value) for item in items for value in item["vector"].values()}
    assert values == {int}
    for side, part in (("lexical", 0), ("dense", 1)):
        file = tmp_path / "out" / side / "vectors.jsonl"
        words = ("index", file, "--index", tmp_path / side, "--vectors", file, "--no-bm25")
        code, _, err = run(capsys, *words)
        assert code == 0, err
        with HybridIndex.open(tmp_path / side) as opened:
            assert opened.manifest.parts == (("lexical",), ("dense",))[part]
            assert len(opened) == 48


def test_arrays_are_plain(index, tmp_path):
    record = write_vectors(index, tmp_path / "out", "npy")
    from scipy.sparse import csr_matrix

    arrays = {
        name: np.load(tmp_path / f"out/lexical-{name}.npy", allow_pickle=False)
        for name in ("data", "indices", "indptr", "shape")
    }
    matrix = csr_matrix((arrays["data"], arrays["indices"], arrays["indptr"]), arrays["shape"])
    dense = np.load(tmp_path / "out/dense.npy", allow_pickle=False)
    ids = (tmp_path / "out/ids.txt").read_text("utf-8").split("\n")[:-1]
    assert (matrix.dtype, dense.dtype) == (np.uint8, np.float32)
    assert len(ids) == len(dense) == matrix.shape[0] == record["count"] == 48
    texts = [each.contents for each in documents(index, ids)]
    vectors = ENCODER.encode_documents(texts)
    assert np.array_equal(dense, vectors.dense)
    exact = np.maximum(np.rint(vectors.lexical.toarray() * record["scale"]), 0)
    assert np.abs(matrix.toarray() - exact).max() <= 1


def test_what_cannot_be_exported_is_refused_in_one_line(index, tmp_path, capsys):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/x").write_text("")
    encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    write_vectors(tmp_path / "e", tmp_path / "out", "npy")
    cases = [
        (("export", index), "give either --format"),
        (("export", index, "--format", "npy"), "name it"),
        (("export", index, "--format", "npy", "--output", tmp_path / "full"), "not empty"),
        (("export", index, "--format", "npy", "--output", tmp_path / "full/x"), "is a file"),
        (("export", index, "--format", "ciff", "--output", tmp_path / "full"), "is a folder"),
        (("export", tmp_path, "--format", "npy", "--output", tmp_path / "n"), "not an index"),
        (("export", tmp_path, "--format", "ciff", "--output", tmp_path / "n"), "not an index"),
        (("export", tmp_path / "no", "--format", "npy", "--output", tmp_path / "n"), "no such"),
        (
            ("export", index, "--format", "npy", "--output", tmp_path / "n", "--terms", "words"),
            "--terms goes with",
        ),
        (
            ("export", index, "--format", "npy", "--output", tmp_path / "n", "--public"),
            "--public goes with",
        ),
        (("import", tmp_path / "full", "--output", tmp_path / "n"), "no export"),
        (("import", tmp_path / "no", "--output", tmp_path / "n"), "no such file"),
        (("import", index, "--output", tmp_path / "n"), "no export"),
        (("import", tmp_path / "full/x", "--output", tmp_path / "n", "--device", "cpu"), "--model"),
        (("import", tmp_path / "full/x", "--output", tmp_path / "n"), "empty"),
        (("import", tmp_path / "e", "--output", tmp_path / "n"), "no export but encoded texts"),
        (("index", tmp_path / "out", "--index", tmp_path / "n"), "`dupmae import`"),
        (("search", "--index", tmp_path / "out", "q"), "`dupmae import"),
        (("import", "hf:a/b", "--output", tmp_path / "n", "--scale", "2"), "leave out --scale"),
    ]
    for words, said in cases:
        code, out, err = run(capsys, *words)
        assert (code, out, len(err.splitlines())) == (2, "", 1), words
        assert said in err, words
    assert sorted(path.name for path in tmp_path.iterdir()) == ["e", "full", "out"]


def test_an_index_whose_documents_are_all_deleted_has_nothing_to_export(tmp_path):
    with HybridIndex.build(tmp_path / "i", documents_of(4), ENCODER) as opened:
        opened.delete([each.id for each in documents_of(4)])
    with pytest.raises(InputError, match="all its documents are deleted"):
        write_vectors(tmp_path / "i", tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()


def test_an_existing_index_is_replaced_only_on_request(index, tmp_path):
    write_vectors(index, tmp_path / "out", "npy")
    HybridIndex.build(tmp_path / "i", documents_of(4), ENCODER).close()
    with pytest.raises(InputError, match="already holds an index of 4"):
        import_index(tmp_path / "out", tmp_path / "i")
    made, _ = import_index(tmp_path / "out", tmp_path / "i", overwrite=True)
    assert made.count == 48


@pytest.fixture(params=FORMATS)
def folder(request, index, tmp_path) -> Path:
    write_vectors(index, tmp_path / "out", request.param)
    return tmp_path / "out"


def test_a_changed_file_is_refused_by_its_checksum(folder, tmp_path):
    names = [path for path in folder.rglob("*") if path.is_file()]
    for path in names:
        kept = path.read_bytes()
        path.write_bytes(kept[:-1] + bytes([kept[-1] ^ 1]))
        with pytest.raises(InputError) as caught:
            import_index(folder, tmp_path / "i")
        assert str(path) in str(caught.value)
        path.unlink()
        with pytest.raises(InputError):
            import_index(folder, tmp_path / "i")
        path.write_bytes(kept)
        assert not (tmp_path / "i").exists()


def restate(folder: Path, **changes) -> None:
    """Change the record, and state the checksums that the files have now."""
    path = folder / "_export.json"
    record = json.loads(path.read_text()) | changes
    for name in record["files"]:
        record["files"][name]["sha256"] = sha256_file(folder / name)
    path.write_text(json.dumps(record))


RECORDS = [
    ({"format_version": 2}, "update dupmae-toolkit"),
    ({"format_version": True}, "format_version is True"),
    ({"format": "csv"}, "format is 'csv'"),
    ({"count": 0}, "count is 0"),
    ({"count": 49}, "48 documents, not 49|inconsistent"),
    ({"count": 16}, "48 documents, not 16|inconsistent"),
    ({"scale": 0}, "scale is 0"),
    ({"scale": "x"}, "scale is 'x'"),
    ({"max_impact": 2**20}, "max_impact is 1048576"),
    ({"bm25": {"mean_length": -1}}, "mean_length is -1"),
    ({"encoder": {"name": "x"}}, "TypeError"),
    ({"encoder": None}, "not the record of an export"),
    ({"files": {"../x.npy": {"sha256": "0", "bytes": 1}}}, "not a valid name"),
    ({"files": {"x.pkl": {"sha256": "0", "bytes": 1}}}, "names the file"),
    ({"passages": {"size": -1}}, "passage|size"),
    ({"kind": "queries"}, "holds queries"),
    ({"kind": "pictures"}, "pictures"),
    ({"precision": 7}, "precision is 7"),
    ({"faiss": "Nonsense7"}, "Nonsense7"),
]


@pytest.mark.parametrize(("changes", "said"), RECORDS)
def test_a_hostile_record_is_refused_in_one_line(folder, tmp_path, changes, said):
    if "files" in changes:
        path = folder / "_export.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    else:
        restate(folder, **changes)
    with pytest.raises(InputError, match=said) as caught:
        import_index(folder, tmp_path / "i")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "i").exists()


def edit_line(path: Path, number: int, change) -> None:
    lines = path.read_text("utf-8").splitlines()
    item = json.loads(lines[number])
    lines[number] = (
        change(item) if isinstance(change(dict(item)), str) else json.dumps(change(item))
    )
    path.write_text("\n".join(lines) + "\n", "utf-8")


LINES = [
    ("documents.jsonl", lambda i: i | {"id": "é"}, "not the vector|does not name|already"),
    ("documents.jsonl", lambda i: i | {"text": 5}, ":4: no title and text"),
    ("documents.jsonl", lambda i: "[1, 2]", ":4: no object with an id"),
    ("documents.jsonl", lambda i: "{", ":4: not JSON"),
    ("documents.jsonl", lambda i: i | {"metadata": {"x": {"$date": "never"}}}, ":4: metadata"),
    ("documents.jsonl", lambda i: i | {"metadata": [1]}, ":4: metadata"),
    ("dense/vectors.jsonl", lambda i: i | {"vector": [1.0]}, ":4: no vector of 16 numbers"),
    ("dense/vectors.jsonl", lambda i: i | {"vector": ["x"] * 16}, ":4: no vector of 16"),
    ("dense/vectors.jsonl", lambda i: i | {"vector": [float("nan")] * 16}, ":4: no vector"),
    ("dense/vectors.jsonl", lambda i: i | {"vector": [1e300] * 16}, "not a finite float32"),
    ("dense/vectors.jsonl", lambda i: i | {"id": "x"}, ":4: not the vector of"),
    ("lexical/vectors.jsonl", lambda i: i | {"vector": [1]}, ":4: no vector of terms"),
    ("lexical/vectors.jsonl", lambda i: i | {"vector": {"new": 1}}, ":4: the term 'new'"),
    ("lexical/vectors.jsonl", lambda i: i | {"vector": {"t1": -1}}, "at least 0"),
    ("lexical/vectors.jsonl", lambda i: i | {"vector": {"t1": None}}, ":4: no vector"),
]


@pytest.mark.parametrize(("name", "change", "said"), LINES)
def test_a_hostile_line_is_refused(index, tmp_path, name, change, said):
    write_vectors(index, tmp_path / "out", "jsonl")
    edit_line(tmp_path / "out" / name, 3, change)
    restate(tmp_path / "out")
    with pytest.raises(InputError, match=said) as caught:
        import_index(tmp_path / "out", tmp_path / "i")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "i").exists()


def test_hostile_arrays_are_refused(index, tmp_path):
    write_vectors(index, tmp_path / "whole", "npy")
    load = np.load
    changes = {
        "lexical-indices.npy": lambda a: a + 1000,
        "lexical-indptr.npy": lambda a: a[::-1].copy(),
        "lexical-data.npy": lambda a: a[:-1],
        "lexical-shape.npy": lambda a: a + 1,
        "dense.npy": lambda a: a[:, :-1].copy(),
    }
    for name, change in changes.items():
        folder = tmp_path / f"of-{name}"
        shutil.copytree(tmp_path / "whole", folder)
        np.save(folder / name, change(load(folder / name)))
        restate(folder)
        with pytest.raises(InputError, match=r"inconsistent|dimensions"):
            import_index(folder, tmp_path / "i")
        np.save(folder / name, np.array([{}], object), allow_pickle=True)
        restate(folder)
        with pytest.raises(InputError, match="not readable"):
            import_index(folder, tmp_path / "i")
    assert not (tmp_path / "i").exists()


def test_hostile_parquet_is_refused(index, tmp_path):
    write_vectors(index, tmp_path / "whole", "parquet")
    frame = pq.read_table(tmp_path / "whole/part-00001.parquet")
    rows = frame.to_pylist()

    def altered(**values):
        return [row | values if place == 2 else row for place, row in enumerate(rows)]

    cases = [
        (altered(terms=["new"], weights=[1.0]), "not in _vocabulary.json"),
        (altered(terms=["t1"], weights=[1.0, 2.0]), "not readable as vectors"),
        (altered(weights=[-1.0] * len(rows[2]["terms"])), "at least 0"),
        (altered(dense=[1.0]), "not readable as vectors"),
        (altered(dense=None), "not readable as vectors"),
        (altered(id=None), "id is no string"),
        (altered(metadata="{"), "not readable as vectors"),
        ([{"id": "x"}], "not readable as vectors"),
        (rows[:-1], "47 documents, not 48"),
    ]
    for number, (changed, said) in enumerate(cases):
        folder = tmp_path / f"case{number}"
        shutil.copytree(tmp_path / "whole", folder)
        import pyarrow as pa

        schema = frame.schema if "dense" in changed[0] else None
        table = pa.Table.from_pylist(changed, schema=schema)
        pq.write_table(table, folder / "part-00001.parquet")
        restate(folder)
        with pytest.raises(InputError, match=said) as caught:
            import_index(folder, tmp_path / "i")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "i").exists()


@pytest.mark.parametrize("format", ["ciff", *FORMATS])
def test_an_export_that_is_interrupted_leaves_nothing(index, tmp_path, format, monkeypatch):
    """Wherever it stops: the n-th time that a document is read or a file is flushed."""
    from dupmae_toolkit import files
    from dupmae_toolkit.interop.ciff_write import write_ciff

    def export() -> None:
        if format == "ciff":
            write_ciff(index, tmp_path / "out", "both")
        else:
            write_vectors(index, tmp_path / "out", format)

    flush, calls = files.fsync_path, []

    def stop(path: Path) -> None:
        calls.append(path)
        if len(calls) == 1:
            raise KeyboardInterrupt
        flush(path)

    monkeypatch.setattr(files, "fsync_path", stop)
    with pytest.raises(KeyboardInterrupt):
        export()
    assert list(tmp_path.iterdir()) == []
    full = OSError(28, "No space left on device")
    monkeypatch.setattr(files, "fsync_path", lambda path: (_ for _ in ()).throw(full))
    with pytest.raises(DupMAEError, match="the disk is full"):
        export()
    assert list(tmp_path.iterdir()) == []


KILLED = """
import os, sys
from pathlib import Path
from dupmae_toolkit import files
from dupmae_toolkit.interop.ciff_write import write_ciff
from dupmae_toolkit.interop.vector_writing import write_vectors

index, format, output, last = sys.argv[1:]
flush, calls = files.fsync_path, []

def stop(path):
    calls.append(path)
    if len(calls) == int(last):
        os.kill(os.getpid(), 9)
    flush(path)

files.fsync_path = stop
write = write_ciff if format == "ciff" else write_vectors
write(index, output, "tokens" if format == "ciff" else format)
"""


@pytest.mark.skipif(os.name == "nt", reason="no such signal")
@pytest.mark.parametrize(("format", "last"), [("ciff", 1), ("npy", 1), ("parquet", 7)])
def test_an_export_that_is_killed_leaves_no_half_file(index, tmp_path, format, last):
    words = [sys.executable, "-c", KILLED, index, format, tmp_path / "out", str(last)]
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == -9, done.stderr
    assert not (tmp_path / "out").exists()
    words[-1] = "0"
    done = subprocess.run(words, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out").exists()


def test_an_import_that_is_interrupted_starts_over(index, tmp_path, monkeypatch):
    from dupmae_toolkit.interop import importing

    write_vectors(index, tmp_path / "out", "jsonl")
    write, calls = importing.write_part, []

    def stop(*arguments) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(importing, "write_part", stop)
        with pytest.raises(KeyboardInterrupt):
            import_index(tmp_path / "out", tmp_path / "i")
        assert not (tmp_path / "i").exists()
        patch.setattr(importing, "write_part", write)
        patch.setattr(importing, "build_held", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            import_index(tmp_path / "out", tmp_path / "i")
    assert [path.name for path in (tmp_path / "i").iterdir()] == [".building"]
    write_vectors(index, tmp_path / "other", "npy")
    with pytest.raises(InputError, match="a different build was interrupted"):
        import_index(tmp_path / "other", tmp_path / "i")
    import_index(tmp_path / "out", tmp_path / "i")
    assert found(tmp_path / "i", mode="dense") == found(index, mode="dense")
    assert not (tmp_path / "i/.building").exists()


def test_a_corpus_without_its_vocabulary_is_refused(tmp_path):
    encoded = encode_corpus(documents_of(5), ENCODER, tmp_path / "e")
    (tmp_path / "e/vocabulary.json").unlink()
    assert EncodedCorpus.is_one(encoded.folder)
    with pytest.raises(InputError, match=r"has no vocabulary.json"):
        write_vectors(tmp_path / "e", tmp_path / "out", "npy")
    assert not (tmp_path / "out").exists()


def test_the_vocabulary_must_be_the_encoders(folder, tmp_path):
    tokens = json.loads((folder / "_vocabulary.json").read_text())
    for changed in (tokens[:-1], [*tokens[:-1], "other"], {"t0": 0}, [1]):
        (folder / "_vocabulary.json").write_text(json.dumps(changed))
        restate(folder)
        with pytest.raises(InputError, match="not the vocabulary"):
            vector_reading.read_vectors(folder)
