"""Folders of exported vectors that somebody changed: each is refused in one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.interop import vector_formats, vector_reading, vector_writing
from dupmae_toolkit.interop.importing import import_index
from dupmae_toolkit.interop.vector_writing import write_vectors
from tests.index_support import documents_of
from tests.support import HashingEncoder

FORMATS = ("jsonl", "npy", "parquet")

#: Either the file cannot be read, or lists in it do not fit.
_UNREADABLE = "not readable as vectors|does not have|has nulls"


@pytest.fixture(autouse=True)
def small_batches(monkeypatch):
    """Several batches of a few documents."""
    for module in (vector_writing, vector_formats):
        monkeypatch.setattr(module, "BATCH", 16)


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("hostile") / "index"
    HybridIndex.build(path, documents_of(48), HashingEncoder()).close()
    return path


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
    ("dense/vectors.jsonl", lambda i: i | {"vector": [10**400] * 16}, ":4: no vector of 16"),
    ("lexical/vectors.jsonl", lambda i: i | {"vector": {"t1": 10**400}}, ":4: no vector"),
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
        (altered(terms=["t1"], weights=[1.0, 2.0]), _UNREADABLE),
        (altered(weights=[-1.0] * len(rows[2]["terms"])), "at least 0"),
        (altered(dense=[1.0]), _UNREADABLE),
        (altered(dense=None), _UNREADABLE),
        (altered(id=None), "id is no string"),
        (altered(metadata="{"), _UNREADABLE),
        ([{"id": "x"}], _UNREADABLE),
        (rows[:-1], "47 documents, not 48"),
    ]
    for number, (changed, said) in enumerate(cases):
        folder = tmp_path / f"case{number}"
        shutil.copytree(tmp_path / "whole", folder)
        schema = frame.schema if "dense" in changed[0] else None
        table = pa.Table.from_pylist(changed, schema=schema)
        pq.write_table(table, folder / "part-00001.parquet")
        restate(folder)
        with pytest.raises(InputError, match=said) as caught:
            import_index(folder, tmp_path / "i")
        assert "\n" not in str(caught.value)
    assert not (tmp_path / "i").exists()


def test_the_vocabulary_must_be_the_encoders(folder, tmp_path):
    tokens = json.loads((folder / "_vocabulary.json").read_text())
    for changed in (tokens[:-1], [*tokens[:-1], "other"], {"t0": 0}, [1]):
        (folder / "_vocabulary.json").write_text(json.dumps(changed))
        restate(folder)
        with pytest.raises(InputError, match="not the vocabulary"):
            vector_reading.read_vectors(folder)
