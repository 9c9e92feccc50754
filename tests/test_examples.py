"""Training examples as JSON lines: read back as they were written, refused with their line."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

from dupmae_toolkit.collection.trec import read_metadata
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.examples import (
    Example,
    Passage,
    check_output,
    read_examples,
    short,
    write_examples,
)
from dupmae_toolkit.mining.report import quantiles

HOSTILE = ["é", "日本", '"quoted"', "back\\slash", "</script>", "😀", "NA", "001", "x" * 2000]


def examples():
    return [
        Example(
            name,
            f"query of {name}\u2028\t",
            [Passage(f"p{name[:9]}", "", "text\nof two lines", 0.1)],
            [Passage(name, "title", "text", -2.5, 7, {"source": "me"})],
            {"split": "train"},
        )
        for name in HOSTILE
    ]


@pytest.mark.parametrize("packed", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_every_compression_that_is_named_is_written(tmp_path, packed):
    path = tmp_path / f"a.jsonl{packed}"
    check_output(path)
    write_examples(path, examples(), dict)
    assert [example for _, example in read_examples(path)] == examples()
    assert path.read_bytes().startswith(b"{") is not bool(packed)
    with pytest.raises(InputError, match=rf"compressed \(.*{packed or '.jsonl'}"):
        check_output(tmp_path / "a.txt")


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_what_is_written_is_read_back(tmp_path, name):
    path = tmp_path / name
    about = write_examples(path, examples(), lambda: {"kind": "test"})
    assert [example for _, example in read_examples(path)] == examples()
    assert read_metadata(path) == about
    before = path.read_bytes()
    write_examples(path, examples(), dict)
    assert path.read_bytes() == before
    opened = gzip.open if name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8") as file:
        first = json.loads(file.readline())
    assert list(first) == ["query_id", "query", "positives", "negatives", "split"]
    assert list(first["negatives"][0]) == ["id", "title", "text", "score", "rank", "source"]
    path.write_bytes(before[:-1])
    assert read_metadata(path) is None


def test_a_writing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "a.jsonl"
    write_examples(path, examples()[:1], dict)
    before = path.read_bytes()

    def broken():
        yield examples()[1]
        raise InputError("stop")

    with pytest.raises(InputError, match="stop"):
        write_examples(path, broken(), dict)

    def refusing():
        raise InputError("nothing to write")

    with pytest.raises(InputError, match="nothing"):
        write_examples(path, examples(), refusing)
    assert path.read_bytes() == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.jsonl", "a.jsonl.json"]


GOOD = {"query_id": "1", "query": "x", "positives": [{"id": "p", "text": "y"}], "negatives": []}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"query_id": None}, "query_id is null"),
        ({"query_id": "words "}, "white space at an end of query_id"),
        ({"query": "  "}, "query is empty"),
        ({"query": 3}, "query is a number"),
        ({"positives": []}, "no positives"),
        ({"positives": {}}, "positives is missing, or not a list"),
        ({"negatives": None}, "negatives is missing"),
        ({"negatives": ["d"]}, r"negatives\[0\] is not an object"),
        ({"negatives": [{"id": "d"}]}, r"negatives\[0\]: no text"),
        ({"negatives": [{"text": "d"}]}, r"negatives\[0\]: no id"),
        ({"negatives": [{"id": "d", "text": "t", "score": "3"}]}, "score is '3', not a number"),
        ({"negatives": [{"id": "d", "text": "t", "score": True}]}, "not a number"),
        ({"negatives": [{"id": "d", "text": "t", "score": float("nan")}]}, "score is nan"),
        ({"negatives": [{"id": "d", "text": "t", "score": 10**400}]}, "float32"),
        ({"negatives": [{"id": "d", "text": "t", "rank": 0}]}, "ranks count from 1"),
        ({"negatives": [{"id": "d", "text": "\ud800"}]}, "surrogate"),
    ],
)
def test_what_is_no_example_is_refused_with_its_line(tmp_path, change, message):
    path = tmp_path / "a.jsonl"
    values = GOOD | change
    path.write_text(f"{json.dumps(GOOD)}\n\n{json.dumps(values)}\n")
    with pytest.raises(InputError, match=message) as caught:
        list(read_examples(path))
    assert str(caught.value).startswith(f"{path}:3: ")
    assert str(caught.value).count(str(path)) == 1
    assert "\n" not in str(caught.value)


def test_files_that_hold_no_examples_are_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text("\n")
    (tmp_path / "b.jsonl").write_text("{")
    (tmp_path / "c.tsv").write_text("1\tx\n")
    for name, message in [("a.jsonl", "no examples"), ("b.jsonl", "b.jsonl:1"), ("c.tsv", "JSON")]:
        with pytest.raises(InputError, match=message):
            list(read_examples(tmp_path / name))
    with pytest.raises(InputError, match="no such file"):
        list(read_examples(tmp_path / "d.jsonl"))


def test_scores_are_written_short_and_keep_their_float32():
    for value in np.random.default_rng(0).normal(size=200).astype(np.float32):
        assert np.float32(short(value)) == value
        assert len(repr(short(value))) <= 15
    assert short(np.float32(0.1)) == 0.1


def test_quantiles_are_numpys():
    values = np.random.default_rng(1).normal(size=101)
    found = quantiles(values)
    assert found is not None
    assert found["p10"] == pytest.approx(np.quantile(values, 0.1), rel=1e-5)
    assert found["max"] == pytest.approx(values.max(), rel=1e-5)
    assert quantiles([]) is None
