"""Training texts out of Parquet files, encoded corpora, and data sets of `datasets`."""

from __future__ import annotations

import builtins
import json
from itertools import count, islice

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.data.streams import (
    Batches,
    check_sources,
    is_held_out,
    open_texts,
    pairs,
    shuffled,
    training_texts,
)
from dupmae_toolkit.training.sources import DataSource

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
    check_sources([DataSource(str(tmp_path))])


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
    assert refusal(path) == f"{path}: row 0 (from 0): text is a number; a string is expected"
    pq.write_table(pa.table({"title": ["a"], "body of text": ["b"]}), path)
    assert "it has title, body of text; name another field" in refusal(path)
    data = path.read_bytes()
    for broken in (b"", b"PAR1", data[: len(data) // 2], b"\0" * 100):
        path.write_bytes(broken)
        assert "cannot be read as Parquet" in refusal(path)
    assert "no such file" in refusal(tmp_path / "none.parquet")


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


def rows(count):
    texts = [
        f"Text {i} is about rivers. It has two sentences. And a third one." for i in range(count)
    ]
    return {"title": [f"Title {i}" for i in range(count)], "text": texts, "id": list(range(count))}


def drawn(path, make, count=12):
    batches = Batches([DataSource(str(path), "sentence")], 4, 1, make, list)
    return list(islice(batches, count))


def whole_texts(source, rng):
    return shuffled(lambda: training_texts(source.path), rng, source.path)


@pytest.mark.parametrize("make", [whole_texts, pairs])
def test_batches_out_of_tables_are_those_of_the_same_lines_of_json(tmp_path, make):
    made = rows(23)
    lines = [{"title": t, "text": x} for t, x in zip(made["title"], made["text"], strict=True)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    expected = drawn(tmp_path / "a.jsonl", make)
    pq.write_table(pa.table(made), tmp_path / "a.parquet", row_group_size=5)
    assert drawn(tmp_path / "a.parquet", make) == expected
    folder = tmp_path / "parts"
    folder.mkdir()
    for number, start in enumerate(range(0, 23, 10)):
        part = pa.table(made).slice(start, 10)
        pq.write_table(part, folder / f"part-{number:05d}.parquet")
    assert drawn(folder, make) == expected
    datasets = pytest.importorskip("datasets")
    datasets.Dataset.from_dict(made).save_to_disk(tmp_path / "saved", num_shards=3)
    assert drawn(tmp_path / "saved", make) == expected


def test_a_parquet_file_is_read_as_it_is_needed(tmp_path):
    """Of a file whose end is damaged everything before it is given."""
    path = tmp_path / "a.parquet"
    made = rows(6000)
    pq.write_table(pa.table(made), path, row_group_size=2000, compression="zstd")
    with pq.ParquetFile(path) as file:
        column = file.metadata.row_group(2).column(1)
        place = column.dictionary_page_offset or column.data_page_offset
        size = column.total_compressed_size
    data = bytearray(path.read_bytes())
    data[place : place + size] = b"\xff" * size
    path.write_bytes(data)
    found = open_texts(str(path))
    assert [document.text for document in islice(found, 3000)] == made["text"][:3000]
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read as Parquet"):
        list(found)


def test_a_data_set_of_the_hub_need_not_end(monkeypatch):
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(
        datasets, "load_dataset", lambda *_, **__: ({"text": f"text {i}"} for i in count())
    )
    found = [document.text for document in islice(open_texts("hf:endless"), 5)]
    assert found == [f"text {i}" for i in range(5)]


def test_columns_that_are_no_texts_are_left_alone(tmp_path, monkeypatch):
    """A picture beside each text would be unpacked for nothing."""
    datasets = pytest.importorskip("datasets")
    asked = []

    def select_columns(self, names):
        asked.append(names)
        return iter([{"text": "a", "title": "T"}])

    monkeypatch.setattr(datasets.Dataset, "select_columns", select_columns)
    datasets.Dataset.from_dict(ROWS).save_to_disk(tmp_path / "one")
    assert contents(tmp_path / "one") == ["T a"]
    assert asked == [["text", "title"]]


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
        check_sources([DataSource(str(tmp_path / "b.jsonl"))])
