"""Manifests of indexes and of encoded corpora that name what they must not, checksums forged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.index.forward import read_array
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry, _own_digest
from dupmae_toolkit.index.staging import _read_plan
from dupmae_toolkit.records import Document, EncoderInfo
from dupmae_toolkit.search.lexical import Postings
from tests.support import HashingEncoder

VOCABULARY = ["a", "b", "c"]
INFO = EncoderInfo("tiny", "0" * 64, sha256_lines(VOCABULARY), len(VOCABULARY), 4)
HUGE = 10**400  # reads as an integer; 1e400 reads as infinity
PATHS = ["../x", "/etc/passwd", "a/../../x", "..", ".", "", "a\\b", "C:x", "a\0b", "a//b", 5, None]


def values() -> dict[str, Any]:
    entry = SegmentEntry("000001", 10, 50, dead=2, deletions="deletions/000001-1.npy")
    manifest = Manifest(INFO, 77.0, 255, "Flat", 10, [entry], "notes", 2, generation=1)
    manifest.checksums = {"vocabulary.json": {"sha256": "1" * 64, "bytes": 9}}
    return manifest.to_dict()


def load(folder: Path, given: dict[str, Any]) -> Manifest:
    given = {key: value for key, value in given.items() if key != "sha256"}
    given["sha256"] = _own_digest(given)
    (folder / "manifest.json").write_text(json.dumps(given))
    return Manifest.load(folder)


def changed(path: str, value: Any) -> dict[str, Any]:
    found = values()
    *parents, last = path.split("/")
    place: Any = found
    for name in parents:
        place = place[int(name) if name.isdigit() else name]
    place[last] = value
    return found


def test_what_was_not_changed_is_read(tmp_path):
    assert load(tmp_path, values()).segments[0].deletions == "deletions/000001-1.npy"


@pytest.mark.parametrize("path", PATHS, ids=repr)
@pytest.mark.parametrize("key", ["segments/0/name", "segments/0/deletions", "vocabulary/file"])
def test_names_that_lead_out_of_the_index_are_refused(tmp_path, key, path):
    with pytest.raises(InputError, match="which is not a valid name in an index"):
        load(tmp_path, changed(key, path))


@pytest.mark.parametrize("path", [p for p in PATHS if isinstance(p, str)], ids=repr)
def test_checksums_of_files_outside_of_the_index_are_refused(tmp_path, path):
    with pytest.raises(InputError, match="which is not a valid name in an index"):
        load(tmp_path, changed("checksums", {path: {"sha256": "1" * 64, "bytes": 9}}))


@pytest.mark.parametrize(
    "value",
    [
        *(
            5,
            "fp32",
            ["fp32"],
            [[]],
            {"BF16": 1},
            {"": 1},
            {"a b": 1},
            {"x" * 17: 1},
            {"\ud800": 1},
        ),
        *({"fp32": n} for n in (None, "5", -1, 1.5, float("nan"), float("inf"), HUGE, True, [])),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_counts_of_precisions_that_cannot_be_are_refused(tmp_path, value):
    with pytest.raises(InputError, match="not the manifest of an index"):
        load(tmp_path, changed("precision", value))


@pytest.mark.parametrize("value", [None, "5", -1, 1.5, float("nan"), float("inf"), HUGE, True, []])
@pytest.mark.parametrize(
    "key",
    [
        *("format_version", "segment_size", "generation", "impacts/scale", "impacts/max_impact"),
        *("segments/0/count", "segments/0/weights", "segments/0/dead", "segments"),
        *("segments/0/error/mean_absolute", "segments/0/faiss_spec", "faiss/spec", "checksums"),
        *("encoder/vocabulary_size", "encoder/dense_dim", "encoder/max_length", "encoder/name"),
        *("encoder/dense_weight", "encoder/normalize", "checksums/vocabulary.json/bytes"),
        *("encoder/largest_weight", "impacts/scale_source"),
    ],
)
def test_numbers_that_are_none_are_refused_in_one_line(tmp_path, key, value):
    good = {"impacts/scale": [1.5], "segments/0/error/mean_absolute": [1.5]}
    good |= {"encoder/largest_weight": [1.5]}
    good |= {"encoder/dense_weight": [1.5], "encoder/normalize": [True], "encoder/name": ["5"]}
    good |= {
        "segments/0/faiss_spec": ["5"],
        "faiss/spec": ["5"],
    }
    if key == "checksums" or value in good.get(key, ()):
        return
    with pytest.raises(InputError, match=r"manifest\.json: ") as caught:
        load(tmp_path, changed(key, value))
    assert len(str(caught.value)) < 1100


def test_texts_that_could_not_be_written_again_are_refused(tmp_path):
    for key in ("source", "faiss/spec", "encoder/name"):
        with pytest.raises(InputError, match=r"manifest\.json: "):
            load(tmp_path, changed(key, "\ud800"))


def test_more_dead_than_there_are_and_the_same_segment_twice_are_refused(tmp_path):
    with pytest.raises(InputError, match="dead is 11"):
        load(tmp_path, changed("segments/0/dead", 11))
    twice = values()
    twice["segments"] *= 2
    with pytest.raises(InputError, match="the same name"):
        load(tmp_path, twice)


def test_a_vocabulary_of_another_size_than_stated_is_refused(tmp_path):
    manifest = load(tmp_path, changed("encoder/vocabulary_size", 2**40))
    (tmp_path / "vocabulary.json").write_text(json.dumps(VOCABULARY))
    with pytest.raises(InputError, match="not the vocabulary"):
        manifest.vocabulary(tmp_path)


@pytest.mark.parametrize("names", [["../../x"], ["000001", ".."], [5], ["/x"], ["000001"] * 2, {}])
def test_a_plan_of_a_build_that_names_other_folders_is_none(tmp_path, names):
    path = tmp_path / "build.json"
    path.write_text(json.dumps({"names": names, "count": len(names)}))
    assert _read_plan(path) is None
    path.write_text(json.dumps({"names": ["000001"], "count": 1}))
    assert _read_plan(path) is not None


# --- encoded corpora

ENCODER = HashingEncoder(size=64, dim=8)


@pytest.fixture
def encoded(tmp_path: Path) -> Path:
    documents = [Document(f"d{n}", "", f"word{n} word") for n in range(6)]
    encode_corpus(documents, ENCODER, tmp_path / "e", part_size=3)
    return tmp_path / "e"


def refusal(folder: Path, **changes: Any) -> str:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    with pytest.raises(InputError) as caught:
        list(EncodedCorpus.open(folder).parts())
    assert len(str(caught.value)) < 1100
    return str(caught.value)


@pytest.mark.parametrize("name", [*PATHS, "../e/part-00000.parquet", "x.bin"], ids=repr)
def test_parts_outside_of_the_folder_are_refused(encoded, name):
    assert "not a plain file name" in refusal(encoded, parts=[{"file": name, "count": 3}])


@pytest.mark.parametrize("count", [0, 1, 4, 2**31, 10**15, HUGE, -3, True, 2.5, "3", None])
def test_a_count_that_is_not_the_rows_is_refused_before_anything_is_planned_by_it(encoded, count):
    entries = [{"file": "part-00000.parquet", "count": count}]
    message = refusal(encoded, parts=entries, count=count)
    assert "count" in message or "no rows" in message
    # Where it is believed until the rows are read, it is small.
    (encoded / "manifest.json").write_text(
        json.dumps(json.loads((encoded / "manifest.json").read_text()) | {"count": 3})
    )
    try:
        assert len(EncodedCorpus.open(encoded)) == 3
    except InputError as error:
        told = str(error)
        assert "its parts hold" in told or "no rows" in told


@pytest.mark.parametrize("truncated", ["many", [1], {}, -1, 1.5, True, HUGE])
def test_a_number_of_cut_texts_that_is_none_is_refused(encoded, truncated):
    assert "truncated is" in refusal(encoded, truncated=truncated)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("name", "\ud800"),
        ("name", 5),
        ("prefix", None),
        ("max_length", "256"),
        ("max_length", -1),
        ("top_k", 1.5),
        ("dense_weight", float("nan")),
        ("normalize", 1),
        ("vocabulary_size", True),
        ("dense_dim", HUGE),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(encoded, key, value):
    encoder = json.loads((encoded / "manifest.json").read_text())["encoder"]
    assert key in refusal(encoded, encoder=encoder | {key: value})
    nothing = {"dense_dim": 0, "lexical_head": "none"}
    assert "one of the two vectors" in refusal(encoded, encoder=encoder | nothing)


def foreign(folder: Path, **columns: pa.Array) -> Path:
    """A folder of one part with the least that it needs, uncompressed."""
    table = {
        "id": pa.array(["a", "b"]),
        "title": pa.array(["", ""]),
        "text": pa.array(["x", "y"]),
        "dense": pa.array([[0.5] * 8] * 2, pa.list_(pa.float32())),
        "terms": pa.array([[1], [2]], pa.list_(pa.int32())),
        "weights": pa.array([[1.0], [2.0]], pa.list_(pa.float32())),
    }
    folder.mkdir()
    path = folder / "part-0.parquet"
    pq.write_table(pa.table(table | columns), path, compression="none", use_dictionary=False)
    manifest = {"format_version": 1, "encoder": ENCODER.info.to_dict()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


@pytest.mark.parametrize("column", ["id", "title", "text"])
def test_bytes_that_are_no_utf8_are_refused_by_row(tmp_path, column):
    raw = pa.array([b"fine", b"caf\xe9"], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 2, raw.buffers())
    folder = foreign(tmp_path / "f", **{column: broken})
    with pytest.raises(InputError, match=rf"row 1 \(from 0\): {column} is not UTF-8"):
        list(EncodedCorpus.open(folder).parts())


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf"), -1e-45, 1e39])
def test_weights_that_are_none_are_refused_and_the_smallest_ones_kept(tmp_path, weight):
    weights = pa.array([[1.0], [weight]], pa.list_(pa.float64()))
    with pytest.raises(InputError, match=r"row 1 \(from 0\): the weight"):
        list(EncodedCorpus.open(foreign(tmp_path / "f", weights=weights)).parts())
    fine = pa.array([[1e-45], [0.0]], pa.list_(pa.float32()))
    part = next(EncodedCorpus.open(foreign(tmp_path / "g", weights=fine)).parts())
    assert part.lexical.data.tolist() == [np.float32(1e-45)]


def test_names_of_columns_that_are_no_utf8_are_refused(tmp_path):
    path = foreign(tmp_path / "f") / "part-0.parquet"
    path.write_bytes(path.read_bytes().replace(b"title", b"\xff\xfftle"))
    with pytest.raises(InputError, match="not readable as Parquet"):
        list(EncodedCorpus.open(path.parent).parts())


# --- arrays


@pytest.mark.parametrize(
    "header",
    [
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1000000000000,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (-1,), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1,), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1, 1), }",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (2,), }",
        "__import__('os').system('false')",
        "{'descr': '<i8', 'fortran_order': False, 'shape': (1,",
        "(" * 5000,
        "",
    ],
)
def test_an_array_whose_header_lies_is_one_line(tmp_path, header):
    path = tmp_path / "x.npy"
    text = header.encode() + b"\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8))
    with pytest.raises(InputError, match=r"x\.npy: not readable"):
        read_array(path, "iu")


def test_neither_pickles_nor_archives_are_read_as_arrays(tmp_path):
    np.savez(tmp_path / "x.npz", a=np.zeros(3))
    np.save(tmp_path / "x.npy", np.array([{}], dtype=object), allow_pickle=True)
    for name in ("x.npz", "x.npy"):
        with pytest.raises(InputError, match="not readable"):
            read_array(tmp_path / name, "iufO")


@pytest.mark.parametrize("shape", [(0,), (3,), (5000,)])
def test_arrays_that_are_whole_are_read(tmp_path, shape):
    np.save(tmp_path / "x.npy", np.zeros(shape, np.int32))
    assert read_array(tmp_path / "x.npy", "i").shape == shape


@pytest.mark.parametrize("term", [-1, 3, 2**31 - 1])
def test_terms_beyond_the_vocabulary_do_not_reach_compiled_code(term):
    from scipy.sparse import csr_matrix

    impacts = csr_matrix((2, 3), dtype=np.uint8)
    impacts.indptr = np.array([0, 1, 2], np.int32)
    impacts.indices = np.array([0, term], np.int32)
    impacts.data = np.array([1, 1], np.uint8)
    with pytest.raises(DupMAEError, match="not in the vocabulary"):
        Postings(impacts)
