"""Training texts out of Parquet files, encoded corpora, and data sets of `datasets`."""

from __future__ import annotations

import builtins

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe import Source
from dupmae_toolkit.training.streams import (
    check_sources,
    is_held_out,
    open_texts,
    training_texts,
)

ROWS = {"title": ["A", None, ""], "text": ["b", "only text", "c"], "other": [1, 2, 3]}
EXPECTED = ["A b", "only text", "c"]


def contents(path) -> list[str]:
    return [document.contents for document in open_texts(str(path))]


def refusal(path) -> str:
    with pytest.raises(InputError) as error:
        list(open_texts(str(path)))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_parquet_file_and_a_folder_of_them_are_read_in_order(tmp_path):
    pq.write_table(pa.table(ROWS), tmp_path / "part-1.parquet", row_group_size=2)
    assert contents(tmp_path / "part-1.parquet") == EXPECTED
    pq.write_table(pa.table({"contents": ["first"]}), tmp_path / "part-0.parquet")
    assert contents(tmp_path) == ["first", *EXPECTED]
    check_sources([Source(str(tmp_path))])


def test_any_kind_of_string_column_will_do(tmp_path):
    for kind in (pa.large_string(), pa.dictionary(pa.int32(), pa.string())):
        table = pa.table({"text": pa.array(["a", "b", "a"]).cast(kind)})
        pq.write_table(table, tmp_path / "a.parquet")
        assert contents(tmp_path / "a.parquet") == ["a", "b", "a"]


def test_an_encoded_corpus_is_read_for_its_texts(tmp_path):
    from dupmae_toolkit.encoding.stream import encode_corpus
    from dupmae_toolkit.records import Document
    from tests.support import HashingEncoder

    documents = [Document(str(i), f"T{i}", f"text {i}") for i in range(5)]
    encode_corpus(documents, HashingEncoder(), tmp_path / "encoded")
    assert contents(tmp_path / "encoded") == [document.contents for document in documents]


def test_what_is_wrong_with_a_table_is_named_with_its_row(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None]}), path)
    assert refusal(path) == f"{path}: row 1 (from 0): text is null; a string is expected"
    pq.write_table(pa.table({"text": [1]}), path)
    assert refusal(path) == f"{path}: row 0 (from 0): text is int; a string is expected"
    pq.write_table(pa.table({"title": ["a"], "body of text": ["b"]}), path)
    assert "no column with texts (one of text, contents, body); it has title" in refusal(path)
    data = path.read_bytes()
    for broken in (b"", b"PAR1", data[: len(data) // 2], b"\0" * 100):
        path.write_bytes(broken)
        assert "cannot be read as Parquet" in refusal(path)
    assert "cannot be read as Parquet" in refusal(tmp_path / "none.parquet")


def test_a_saved_data_set_is_read_and_the_library_is_named_where_it_lacks(tmp_path, monkeypatch):
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "one")
    assert contents(tmp_path / "one") == EXPECTED
    both = {"train": datasets.Dataset.from_dict(ROWS), "test": datasets.Dataset.from_dict(ROWS)}
    datasets.DatasetDict(both).save_to_disk(tmp_path / "two")
    assert contents(tmp_path / "two") == EXPECTED
    datasets.DatasetDict(test=both["test"]).save_to_disk(tmp_path / "three")
    assert "no split 'train'; name one of ['test'] in it" in refusal(tmp_path / "three")
    (tmp_path / "four").mkdir()
    (tmp_path / "four" / "state.json").write_text("{")
    assert "four: cannot be read as a data set" in refusal(tmp_path / "four")

    plain = builtins.__import__

    def without(name, *rest, **options):
        if name == "datasets":
            raise ImportError(name)
        return plain(name, *rest, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    assert "needs the package datasets; pip install datasets" in refusal(tmp_path / "one")
    assert "hf:a/b: needs the package datasets" in refusal("hf:a/b")


def test_a_data_set_of_the_hub_is_streamed_by_name_configuration_and_split(monkeypatch):
    datasets = pytest.importorskip("datasets")
    asked = []

    def load_dataset(name, config, *, split, streaming):
        asked.append((name, config, split, streaming))
        return iter([{"text": "a", "title": "T"}])

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    assert contents("hf:wikimedia/wikipedia:20231101.en@validation") == ["T a"]
    assert contents("hf:imdb") == ["T a"]
    assert asked == [
        ("wikimedia/wikipedia", "20231101.en", "validation", True),
        ("imdb", None, "train", True),
    ]
    assert "write a data set of the hub as hf:" in refusal("hf:")


def test_the_held_out_share_and_the_rest_are_the_whole(tmp_path):
    every = [f"text {i}" for i in range(2000)]
    (tmp_path / "a.txt").write_text("\n".join(every))
    path = str(tmp_path / "a.txt")
    kept = list(training_texts(path, 0.1))
    held = list(training_texts(path, 0.1, held_out=True))
    assert sorted([*kept, *held]) == sorted(every)
    assert 140 < len(held) < 260
    assert all(is_held_out(text, 0.1) for text in held)
    assert list(training_texts(path)) == every


def test_empty_texts_are_no_examples(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": ""}\n{"text": "a"}\n{"text": " ", "title": ""}\n')
    assert list(training_texts(str(tmp_path / "a.jsonl"))) == ["a"]
    (tmp_path / "b.jsonl").write_text('{"text": ""}\n')
    with pytest.raises(InputError, match=r"b\.jsonl: not one text in it"):
        check_sources([Source(str(tmp_path / "b.jsonl"))])
