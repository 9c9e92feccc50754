"""Topics: what is read, and what is refused."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from dupmae_toolkit.collection.opening import read_queries
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query

QUERIES = [Query("001", "what is é"), Query("NA", "why"), Query("1e5", "how much")]


def write(path: Path, text: str) -> Path:
    raw = text.encode("utf-8")
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def refusal(path: Path, split: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        read_queries(path, split)
    return str(caught.value)


@pytest.mark.parametrize("name", ["q.jsonl", "q.jsonl.gz", "q.tsv", "q.tsv.gz"])
def test_topics_are_read_from_json_lines_and_tsv_and_their_ids_stay_strings(tmp_path, name):
    if ".tsv" in name:
        text = "".join(f"{query.id}\t{query.text}\r\n" for query in QUERIES)
    else:
        text = "".join(json.dumps({"_id": q.id, "text": q.text}) + "\n" for q in QUERIES)
    assert read_queries(write(tmp_path / name, text)) == QUERIES


@pytest.mark.parametrize(
    "record",
    [{"id": "a", "query": "x"}, {"qid": "a", "text": "x"}, {"query_id": "a", "contents": "x"}],
)
def test_the_usual_names_of_fields_are_known(tmp_path, record):
    path = write(tmp_path / "q.jsonl", json.dumps(record))
    assert read_queries(path) == [Query("a", "x")]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("{", "broken JSON"),
        ('{"text": "x"}', "no id"),
        ('{"_id": "b"}', "no text"),
        ('{"_id": "b", "text": " "}', "topic b has no text"),
        ('{"_id": "b", "text": "\\ud800"}', "half a surrogate pair"),
        ('{"_id": "c ", "text": "x"}', "white space at an end of _id"),
        ('{"_id": "a", "text": "y"}', "topic a is already in line 1"),
    ],
)
def test_a_line_that_is_no_topic_is_refused_with_file_and_line(tmp_path, line, fault):
    path = write(tmp_path / "q.jsonl", '{"_id": "a", "text": "x"}\n\n' + line)
    message = refusal(path)
    assert message.startswith(f"{path}:3: ")
    assert fault in message


def test_a_tsv_with_a_third_column_is_refused(tmp_path):
    assert "3 columns; expected two" in refusal(write(tmp_path / "q.tsv", "a\tb\tc\n"))


def test_empty_and_unknown_files_are_refused(tmp_path):
    assert "no topics in it" in refusal(write(tmp_path / "q.jsonl", "\n"))
    assert "unknown topics format" in refusal(write(tmp_path / "q.doc", "a b"))
    assert "no such file" in refusal(tmp_path / "missing.tsv")
    (tmp_path / "empty").mkdir()
    assert "no queries.jsonl in it" in refusal(tmp_path / "empty")


def test_a_split_of_a_beir_data_set_keeps_the_judged_topics_in_file_order(tmp_path):
    write(tmp_path / "corpus.jsonl", '{"_id": "d", "text": "x"}\n')
    lines = [json.dumps({"_id": query.id, "text": query.text}) for query in QUERIES]
    write(tmp_path / "queries.jsonl", "\n".join(lines))
    (tmp_path / "qrels").mkdir()
    header = "query-id\tcorpus-id\tscore\n"
    write(tmp_path / "qrels" / "test.tsv", header + "1e5\td\t1\n001\td\t1\n")
    assert read_queries(tmp_path) == QUERIES
    assert read_queries(tmp_path, "test") == [QUERIES[0], QUERIES[2]]
    assert "no split 'dev' in it; available: test" in refusal(tmp_path, "dev")
