"""An encoded corpus can be read whoever wrote it, and is refused by file and row if it is wrong."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pandas
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from dupmae_toolkit.collection import duplicates
from dupmae_toolkit.collection.duplicates import IdRegister
from dupmae_toolkit.encoding import parquet
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.parquet import read_metadata, read_parts, write_part
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Representations
from tests.support import HashingEncoder

DIM, SIZE = 3, 10
ENCODER = HashingEncoder(size=SIZE, dim=DIM)
LISTS = {"list": pa.list_, "large_list": pa.large_list}


def foreign_table(n=3, **changes):
    """A part as another engine may write it; ``changes`` replace columns."""
    columns = {
        "id": pa.array([f"d{row}" for row in range(n)]),
        "title": pa.array([f"Title {row}" for row in range(n)]),
        "text": pa.array(["text"] * n),
        "dense": dense(n),
        "terms": pa.array([[7, 1, 3]] * n, pa.list_(pa.int32())),
        "weights": pa.array([[0.5, 2.0, 0.0]] * n, pa.list_(pa.float32())),
    }
    return pa.table(columns | changes)


def dense(n=3, kind=None):
    return pa.array(
        [[0.5, -1.0, float(row)] for row in range(n)], kind or pa.list_(pa.float32(), DIM)
    )


def foreign_folder(folder, *tables, **manifest):
    folder.mkdir(exist_ok=True)
    for number, table in enumerate(tables):
        pq.write_table(table, folder / f"part-{number:05d}.parquet")
    values = {"format_version": 1, "encoder": ENCODER.info.to_dict()} | manifest
    (folder / "manifest.json").write_text(json.dumps(values))
    return folder


def read(folder):
    return list(EncodedCorpus.open(folder).parts())


def refusal(folder):
    with pytest.raises(InputError) as caught:
        read(folder)
    message = str(caught.value)
    assert "\n" not in message
    assert str(folder) in message
    return message


# What is read


def test_the_least_that_another_engine_must_write_is_enough(tmp_path):
    folder = foreign_folder(tmp_path / "f", foreign_table(3), foreign_table(2, id=["e", "f"]))
    encoded = EncodedCorpus.open(folder)
    assert len(encoded) == 5
    assert encoded.kind == "documents"
    assert encoded.info == ENCODER.info
    assert encoded.vocabulary() is None
    first, second = encoded.parts()
    assert first.ids == ["d0", "d1", "d2"]
    assert first.titles == ["Title 0", "Title 1", "Title 2"]
    assert first.texts == ["text"] * 3
    assert second.ids == ["e", "f"]
    assert (second.file.name, second.first_row) == ("part-00001.parquet", 0)
    np.testing.assert_array_equal(second.dense, np.float32([[0.5, -1, 0], [0.5, -1, 1]]))


def test_terms_are_sorted_and_zero_weights_dropped(tmp_path):
    (part,) = read(foreign_folder(tmp_path / "f", foreign_table(2)))
    assert part.lexical.dtype == np.float32
    assert part.lexical.shape == (2, SIZE)
    assert part.lexical.indices.tolist() == [1, 7, 1, 7]
    assert part.lexical.data.tolist() == [2.0, 0.5, 2.0, 0.5]
    assert part.lexical.has_canonical_format


@pytest.mark.parametrize("outer", ["list", "large_list", "fixed"])
@pytest.mark.parametrize("inner", [pa.float16(), pa.float32(), pa.float64()], ids=str)
def test_dense_vectors_in_any_list_of_any_float_are_read(tmp_path, outer, inner):
    kind = pa.list_(inner, DIM) if outer == "fixed" else LISTS[outer](inner)
    (part,) = read(foreign_folder(tmp_path / "f", foreign_table(4, dense=dense(4, kind))))
    assert part.dense.dtype == np.float32
    np.testing.assert_array_equal(part.dense, np.float32([[0.5, -1, row] for row in range(4)]))


@pytest.mark.parametrize("outer", ["list", "large_list"])
@pytest.mark.parametrize("terms", [pa.int16(), pa.int64(), pa.uint32(), pa.uint64()], ids=str)
@pytest.mark.parametrize("weights", [pa.float16(), pa.float64(), pa.int32()], ids=str)
def test_terms_and_weights_of_any_width_are_read(tmp_path, outer, terms, weights):
    table = foreign_table(
        terms=pa.array([[7, 1, 3]] * 3, LISTS[outer](terms)),
        weights=pa.array([[4, 2, 0]] * 3, LISTS[outer](weights)),
    )
    (part,) = read(foreign_folder(tmp_path / "f", table))
    assert part.lexical[0].toarray().tolist() == [[0, 2, 0, 0, 0, 0, 0, 4, 0, 0]]


@pytest.mark.parametrize(
    "kind", [pa.large_string(), pa.string_view(), pa.dictionary(pa.int32(), pa.string())], ids=str
)
def test_strings_of_any_kind_are_read(tmp_path, kind):
    table = foreign_table(id=pa.array(["001", "NA", "日本"]).cast(kind))
    (part,) = read(foreign_folder(tmp_path / "f", table))
    assert part.ids == ["001", "NA", "日本"]


def test_a_frame_of_pandas_is_read(tmp_path):
    folder = foreign_folder(tmp_path / "f")
    frame = pandas.DataFrame(
        {
            "id": ["a", "b"],
            "title": ["", ""],
            "text": ["x", "y"],
            "dense": [np.arange(DIM, dtype=np.float32)] * 2,
            "terms": [np.array([2, 1]), np.array([], np.int64)],
            "weights": [np.array([0.5, 1.5]), np.array([])],
            "another column": [1, 2],
        }
    )
    frame.to_parquet(folder / "part-00000.parquet")
    (part,) = read(folder)
    assert part.ids == ["a", "b"]
    assert part.lexical.toarray()[:, 1:3].tolist() == [[1.5, 0.5], [0, 0]]


def test_texts_without_any_term_are_read(tmp_path):
    nothing = pa.array([[]] * 3)  # a list of Arrow's null type
    (part,) = read(foreign_folder(tmp_path / "f", foreign_table(terms=nothing, weights=nothing)))
    assert part.lexical.shape == (3, SIZE)
    assert part.lexical.nnz == 0


def test_a_large_file_is_read_in_pieces_and_errors_still_count_rows_from_its_start(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(parquet, "MAX_ROWS", 4)
    folder = foreign_folder(tmp_path / "f", foreign_table(10))
    parts = read(folder)
    assert [(part.first_row, len(part)) for part in parts] == [(0, 4), (4, 4), (8, 2)]
    assert [name for part in parts for name in part.ids] == [f"d{row}" for row in range(10)]
    np.testing.assert_array_equal(parts[2].dense[:, 2], [8, 9])
    weights = [[0.5, 2.0, 0.0]] * 9 + [[0.5, -2.0, 0.0]]
    foreign_folder(folder, foreign_table(10, weights=pa.array(weights)))
    assert "row 9 " in refusal(folder)


def test_everything_at_once_is_the_parts_one_after_the_other(tmp_path):
    folder = foreign_folder(
        tmp_path / "f", foreign_table(3), foreign_table(2, id=["e", "f"]), kind="queries"
    )
    encoded = EncodedCorpus.open(folder)
    assert encoded.kind == "queries"
    everything = encoded.representations()
    assert everything.ids == ["d0", "d1", "d2", "e", "f"]
    assert everything.dense.shape == (5, DIM)
    assert everything.lexical.shape == (5, SIZE)
    assert everything.lexical.nnz == 10
    assert everything.dense.dtype == everything.lexical.dtype == np.float32


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_read_again(tmp_path_factory, data):
    rows = data.draw(st.integers(1, 5))
    floats = st.floats(0, 2.0**99, width=32)
    ids = [f"{row}" for row in range(rows)]
    titles = data.draw(st.lists(texts, min_size=rows, max_size=rows))
    bodies = data.draw(st.lists(texts, min_size=rows, max_size=rows))
    vectors = np.float32(
        data.draw(st.lists(st.lists(floats, min_size=2, max_size=2), min_size=rows, max_size=rows))
    )
    weights = np.float32(
        data.draw(st.lists(st.lists(floats, min_size=4, max_size=4), min_size=rows, max_size=rows))
    )
    path = tmp_path_factory.mktemp("f") / "part.parquet"
    written = Representations(ids, vectors, csr_matrix(weights))
    write_part(path, titles, bodies, written, "float32", {"key": "välue"})
    (part,) = read_parts(path, 2, 4)
    assert (part.ids, part.titles, part.texts) == (ids, titles, bodies)
    np.testing.assert_array_equal(part.dense, vectors)
    np.testing.assert_array_equal(part.lexical.toarray(), weights)
    assert read_metadata(path) == {"key": "välue"}


def test_what_is_written_has_the_documented_types(tmp_path):
    lexical = csr_matrix(np.float32([[0, 1, 2, 0], [0, 0, 0, 0]]))
    for dtype, kind in (("float32", pa.float32()), ("float16", pa.float16())):
        path = tmp_path / f"{dtype}.parquet"
        written = Representations(["a", "b"], np.float32([[1, 2], [3, 4]]), lexical)
        write_part(path, ["", ""], ["x", "y"], written, dtype, {})
        schema = pq.read_schema(path)
        assert schema.names == ["id", "title", "text", "dense", "terms", "weights"]
        assert [str(schema.field(name).type) for name in schema.names[:3]] == ["string"] * 3
        assert pa.types.is_fixed_size_list(schema.field("dense").type)
        assert schema.field("dense").type.list_size == 2
        assert schema.field("dense").type.value_type == kind
        assert schema.field("terms").type.value_type == pa.int32()
        assert schema.field("weights").type.value_type == pa.float32()
        frame = pandas.read_parquet(path)
        assert frame["terms"].tolist()[0].tolist() == [1, 2]
        assert pq.ParquetFile(path).metadata.row_group(0).column(0).compression == "ZSTD"


# What is refused: values


@pytest.mark.parametrize(
    ("column", "values", "message"),
    [
        ("dense", [[1, 2, 3], [1, float("nan"), 3], [1, 2, 3]], "not a finite float32"),
        ("dense", [[1, 2, 3], [1, float("-inf"), 3], [1, 2, 3]], "not a finite float32"),
        ("dense", [[1, 2, 3], [1, 1e300, 3], [1, 2, 3]], "not a finite float32"),
        ("dense", [[1.0, 2, 3], [1.0, 2], [1.0]], "dense has 2 values"),
        ("dense", [[1.0, 2, 3], None, [1.0, 2, 3]], "dense is null"),
        ("dense", [[1.0, 2, 3], [1.0, None, 3], [1.0, 2, 3]], "dense holds a null"),
        ("terms", [[1, 2, 3], [1, 10, 3], [1, 2, 3]], "the term 10 is not in the vocabulary"),
        ("terms", [[1, 2, 3], [1, -1, 3], [1, 2, 3]], "the term -1 is not in the vocabulary"),
        ("terms", [[1, 2, 3], [3, 2, 3], [1, 2, 3]], "the term 3 occurs twice"),
        ("terms", [[1, 2, 3], [1, 2], [1, 2, 3]], "2 terms but 3 weights"),
        ("terms", [[1, 2, 3], None, [1, 2, 3]], "terms is null"),
        ("terms", [[1, 2, 3], [1, None, 3], [1, 2, 3]], "terms holds a null"),
        ("weights", [[1.0, 2, 3], [1.0, -0.5, 3], [1.0, 2, 3]], "the weight -0.5"),
        ("weights", [[1.0, 2, 3], [1.0, float("nan"), 3], [1.0, 2, 3]], "the weight nan"),
        ("weights", [[1.0, 2, 3], [1.0, 1e300, 3], [1.0, 2, 3]], "the weight inf"),
        ("id", ["a", "", "c"], "empty id"),
        ("id", ["a", "b ", "c"], "white space at an end of id 'b '"),
        ("id", ["a", "b\x00", "c"], "control character in id"),
        ("id", ["a", None, "c"], "id is null"),
        ("id", ["a", "a", "c"], "'a' is in row 0 of part-00000.parquet already"),
        ("title", ["a", None, "c"], "title is null"),
        ("text", ["a", None, "c"], "text is null"),
    ],
)
def test_a_wrong_value_is_refused_with_its_file_and_row(tmp_path, column, values, message):
    folder = foreign_folder(tmp_path / "f", foreign_table(**{column: pa.array(values)}))
    text = refusal(folder)
    assert text.startswith(f"{folder / 'part-00000.parquet'}: row 1 (from 0): ")
    with pytest.raises(InputError, match=message):
        read(folder)


def test_an_id_that_occurs_in_two_parts_is_refused(tmp_path):
    folder = foreign_folder(tmp_path / "f", foreign_table(3), foreign_table(2, id=["e", "d1"]))
    text = refusal(folder)
    assert "part-00001.parquet: row 1 " in text
    assert "'d1' is in row 1 of part-00000.parquet" in text


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("id", [1, 2, 3]),
        ("text", [b"a", b"b", b"c"]),
        ("dense", [1.0, 2.0, 3.0]),
        ("dense", [[1, 2, 3]] * 3),
        ("terms", [[1.0, 2.0, 3.0]] * 3),
        ("weights", [["a", "b", "c"]] * 3),
    ],
)
def test_a_column_of_the_wrong_type_is_refused_by_its_name(tmp_path, column, values):
    text = refusal(foreign_folder(tmp_path / "f", foreign_table(**{column: pa.array(values)})))
    assert "part-00000.parquet" in text
    assert column in text


def test_a_missing_column_is_refused_by_its_name(tmp_path):
    table = foreign_table().drop_columns(["weights", "text"])
    assert "no column text, weights" in refusal(foreign_folder(tmp_path / "f", table))


# What is refused: folders


def test_a_folder_that_is_none_is_refused(tmp_path):
    assert "no such folder" in refusal(tmp_path / "absent")
    assert "no manifest.json" in refusal(tmp_path)
    (tmp_path / "file").touch()
    assert "no such folder" in refusal(tmp_path / "file")


@pytest.mark.parametrize(
    ("manifest", "message"),
    [
        ({"format_version": 2}, "update"),
        ({"format_version": None}, "format_version is None"),
        ({"format_version": "1"}, "format_version is '1'"),
        ({"kind": "passages"}, "kind is 'passages'"),
        ({"encoder": {"name": "x"}}, "description is not valid"),
        ({"encoder": "x"}, "description is not valid"),
        ({"encoder": ENCODER.info.to_dict() | {"dense_dim": -1}}, "dense_dim is -1"),
        ({"complete": False}, "was not finished; run the same"),
        ({"count": 4}, "count is 4, but its parts hold 3"),
        ({"parts": {"file": "part-00000.parquet"}}, "parts is not a list"),
        ({"parts": [{"file": "part-00000.parquet", "count": 2}]}, "3 rows where"),
        ({"parts": [{"file": "part-00009.parquet"}]}, "no such file"),
        ({"parts": [{"file": "../f/part-00000.parquet"}]}, "not a plain file name"),
        ({"parts": [{"file": ".."}]}, "not a plain file name"),
        ({"parts": [{"count": 3}]}, "not a plain file name"),
        ({"parts": [{"file": "part-00000.parquet"}] * 2}, "names a file twice"),
        ({"parts": [{"file": "part-00000.parquet", "sha256": "0" * 64}]}, "checksum"),
        ({"parts": []}, "no rows"),
    ],
)
def test_a_manifest_that_is_wrong_is_refused(tmp_path, manifest, message):
    assert message in refusal(foreign_folder(tmp_path / "f", foreign_table(), **manifest))


@pytest.mark.parametrize("content", ["", "[]", "{}", "nonsense", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(tmp_path, content):
    folder = foreign_folder(tmp_path / "f", foreign_table())
    (folder / "manifest.json").write_text(content)
    assert "manifest.json" in refusal(folder)


@pytest.mark.parametrize("damage", ["empty", "cut", "noise", "folder"])
def test_a_damaged_part_is_refused(tmp_path, damage):
    folder = foreign_folder(tmp_path / "f", foreign_table())
    path = folder / "part-00000.parquet"
    data = path.read_bytes()
    path.unlink()
    if damage == "folder":
        path.mkdir()
    else:
        path.write_bytes({"empty": b"", "cut": data[:-10], "noise": b"noise"}[damage])
    assert "part-00000.parquet" in refusal(folder)


def test_pages_that_are_damaged_are_refused(tmp_path):
    folder = foreign_folder(tmp_path / "f")
    table = foreign_table(200)
    pq.write_table(table, folder / "part-00000.parquet", compression="zstd")
    data = bytearray((folder / "part-00000.parquet").read_bytes())
    data[4:400] = bytes(396)
    (folder / "part-00000.parquet").write_bytes(data)
    assert "not readable as Parquet" in refusal(folder)


def test_a_vocabulary_that_is_not_the_encoders_is_refused(tmp_path):
    folder = foreign_folder(tmp_path / "f", foreign_table())
    for content, message in (("[1]", "not a list of tokens"), ('["a"]', "not the vocabulary")):
        (folder / "vocabulary.json").write_text(content)
        with pytest.raises(InputError, match=message):
            EncodedCorpus.open(folder).vocabulary()
    (folder / "vocabulary.json").write_text(json.dumps(ENCODER.vocabulary))
    assert EncodedCorpus.open(folder).vocabulary() == ENCODER.vocabulary


def test_a_folder_can_be_told_from_other_folders_without_opening_it(tmp_path):
    folder = foreign_folder(tmp_path / "f", foreign_table())
    assert EncodedCorpus.is_one(folder)
    (folder / "part-00000.parquet").unlink()
    assert EncodedCorpus.is_one(folder)
    (folder / "manifest.json").write_text('{"encoder": {}, "segments": []}')
    assert not EncodedCorpus.is_one(folder), "an index"
    (folder / "manifest.json").write_text("nonsense")
    assert not EncodedCorpus.is_one(folder)
    shutil.rmtree(folder)
    assert not EncodedCorpus.is_one(folder)


# Ids that occur twice


@given(st.lists(st.lists(st.text("ab", max_size=3), max_size=6), max_size=12))
def test_ids_seen_before_are_found_as_a_set_finds_them(batches):
    register, seen = IdRegister(), set()
    for batch in batches:
        expected = []
        for position, name in enumerate(batch):
            if name in seen:
                expected.append(position)
            seen.add(name)
        assert register.suspects(batch) == expected


def test_two_ids_that_share_a_hash_are_no_duplicates(tmp_path, monkeypatch):
    class Same:
        def __init__(self, data, digest_size):
            pass

        def digest(self):
            return bytes(8)

    monkeypatch.setattr(duplicates, "blake2b", Same)
    folder = foreign_folder(tmp_path / "f", foreign_table(3), foreign_table(2, id=["e", "f"]))
    assert sum(len(part) for part in read(folder)) == 5
