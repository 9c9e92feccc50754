"""Exports from somebody else: what does not fit is refused in one line and ends no process."""

from __future__ import annotations

import json
from itertools import chain
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.scoring import Origin
from dupmae_toolkit.interop.hub_layout import RECORD_FILE, pack
from dupmae_toolkit.interop.importing import import_index
from dupmae_toolkit.interop.vector_writing import write_vectors
from dupmae_toolkit.search.hybrid_index import HybridIndex
from tests.support import HashingEncoder

pytestmark = pytest.mark.java
TEXTS = {"a": "cat dog", "b": "dog bird fish", "c": "bird"}


@pytest.fixture(scope="module")
def index(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("index") / "index"
    HybridIndex.build(path, TEXTS, HashingEncoder(dim=4)).close()
    return path


def exported(index: Path, tmp_path: Path, form: str) -> Path:
    write_vectors(index, tmp_path / form, form)
    return tmp_path / form


def changed(folder: Path, **values: object) -> None:
    """Make the record fit the files, as whoever changes an export would; values: others of it."""
    path = folder / "_export.json"
    record = json.loads(path.read_text()) | values
    for name, entry in record["files"].items():
        entry |= {"sha256": sha256_file(folder / name), "bytes": (folder / name).stat().st_size}
    path.write_text(json.dumps(record))


def refusal(folder: Path, tmp_path: Path) -> str:
    with pytest.raises(InputError) as caught:
        import_index(folder, tmp_path / "imported")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "imported" / "manifest.json").exists()
    return str(caught.value)


@pytest.mark.parametrize(
    "starts",
    [
        np.array([0, 2147483647, -2, 6], np.int32),
        np.array([0, 2**63 - 1, -(2**63), 6], np.int64),
        np.array([0, 5, 2, 6], np.int64),
        np.array([0, 2, 5, 9], np.int64),
    ],
)
def test_offsets_that_wrap_or_fall_are_refused(index, tmp_path, starts):
    folder = exported(index, tmp_path, "npy")
    assert np.load(folder / "lexical-indptr.npy")[-1] == 6
    np.save(folder / "lexical-indptr.npy", starts)
    changed(folder)
    assert "are inconsistent" in refusal(folder, tmp_path)


def rewritten(folder: Path, **columns: list) -> None:
    (path,) = folder.glob("part-*.parquet")
    table = pq.read_table(path)
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        inner = pa.string() if name == "terms" else pa.float32()
        table = table.set_column(place, name, pa.array(values, pa.list_(inner)))
    pq.write_table(table, path)
    changed(folder)


@pytest.mark.parametrize(
    ("what", "fault"),
    [
        ("null at the end", "terms has nulls"),
        ("null at the beginning", "terms has nulls"),
        ("null inside", "weights has nulls"),
        ("shifted", r"row 0 \(from 0\) does not have as many weights as terms"),
        ("short", r"row 0 \(from 0\) does not have a dense vector of 4 numbers"),
        ("dense null", "dense has nulls"),
    ],
)
def test_lists_that_do_not_fit_are_refused(index, tmp_path, what, fault):
    folder = exported(index, tmp_path, "parquet")
    table = pq.read_table(next(folder.glob("part-*.parquet"))).to_pydict()
    terms, weights, dense = (list(table[name]) for name in ("terms", "weights", "dense"))
    assert [len(each) for each in terms] == [2, 3, 1]
    if what == "null at the end":
        terms[-1] = weights[-1] = None
    elif what == "null at the beginning":
        terms[0] = weights[0] = None
    elif what == "null inside":
        weights[1] = [1.0, None, 2.0]
    elif what == "shifted":
        flat = list(chain.from_iterable(weights))
        weights = [flat[:1], flat[1:5], flat[5:]]
    elif what == "short":
        flat = list(chain.from_iterable(dense))
        dense = [flat[:3], flat[3:8], flat[8:]]
    else:
        dense[1] = None
    rewritten(folder, terms=terms, weights=weights, dense=dense)
    with pytest.raises(InputError, match=fault):
        import_index(folder, tmp_path / "imported")
    assert not (tmp_path / "imported" / "manifest.json").exists()


def test_an_empty_term_is_refused(index, tmp_path):
    folder = exported(index, tmp_path, "jsonl")
    path = folder / "lexical" / "vectors.jsonl"
    lines = path.read_text().splitlines()
    lines[0] = json.dumps({"id": "a", "vector": {"": 1}})
    path.write_text("\n".join(lines) + "\n")
    changed(folder)
    assert "the term '' is not in" in refusal(folder, tmp_path)


@pytest.mark.parametrize("dimensions", [2**31 - 1, 2**40])
def test_dimensions_that_no_encoder_has_are_refused(index, tmp_path, dimensions):
    folder = exported(index, tmp_path, "npy")
    record = json.loads((folder / "_export.json").read_text())
    changed(folder, encoder=record["encoder"] | {"dense_dim": dimensions})
    assert f"{dimensions:,} dimensions" in refusal(folder, tmp_path)


@pytest.mark.parametrize("form", ["jsonl", "npy", "parquet"])
def test_files_that_the_record_does_not_name_are_not_read(index, tmp_path, form):
    folder = exported(index, tmp_path, form)
    changed(folder)  # as it was
    import_index(folder, tmp_path / "good")
    files = json.loads((folder / "_export.json").read_text())["files"]
    for name in files:
        left = {key: value for key, value in files.items() if key != name}
        changed(folder, files=left)
        assert "it names no file" in refusal(folder, tmp_path)


def test_a_kill_after_the_manifest_leaves_the_tuned_weights(index, tmp_path, monkeypatch):
    from dupmae_toolkit.index.reweighing import save_weights
    from dupmae_toolkit.index.staging import Staging

    with HybridIndex.open(index) as opened:
        info = opened.manifest.encoder
    origin = Origin("nDCG@10", "q.tsv", 5)
    save_weights(index, {"dense": 3.0, "lexical": 2.0, "bm25": 0.5}, 0.25, origin, info)
    folder = exported(index, tmp_path, "npy")

    class Killed(BaseException):
        pass

    def killed(*_):
        raise Killed

    monkeypatch.setattr(Staging, "tidy", killed)
    with pytest.raises(Killed):
        import_index(folder, tmp_path / "imported")
    monkeypatch.undo()
    for _ in range(2):
        told = Manifest.load(tmp_path / "imported").scoring
        assert (told.weights, told.idf_power, told.origin) == ((3.0, 2.0, 0.5), 0.25, origin)
        import_index(folder, tmp_path / "imported", overwrite=True)


# Runs for the hub.


def test_only_what_belongs_to_a_run_goes_with_it(tmp_path):
    run = tmp_path / "mine.trec"
    run.write_text("q Q0 d 1 1.0 t\n")
    (tmp_path / "mine.trec.json").write_text('{"private": true}')
    (tmp_path / "mine.trec.card.json").write_text('{"private": true}')
    package, _ = pack(run)
    assert list(package.files) == ["mine.trec"]
    assert package.left_out == ["mine.trec.json", "mine.trec.card.json"]


def test_a_run_whose_settings_would_have_the_records_name_is_refused(tmp_path):
    from dupmae_toolkit.collection.trec import read_run, write_run

    run = tmp_path / RECORD_FILE.removesuffix(".json")
    (tmp_path / "x").write_text("q Q0 d 1 1.0 t\n")
    write_run(read_run(tmp_path / "x"), run)
    with pytest.raises(InputError, match="rename the run"):
        pack(run)
