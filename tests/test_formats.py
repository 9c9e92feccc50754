"""Corpora of every format: the same documents, whatever they lie in."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import sys
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection import json_members, sources
from dupmae_toolkit.collection.fields import Columns
from dupmae_toolkit.collection.json_members import members
from dupmae_toolkit.collection.opening import open_corpus, read_queries, read_texts, read_topics
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Query, is_blank
from tests.packing import PACKERS

RECORDS = [
    {"id": "a b", "title": "One", "text": "first", "year": 2020, "tags": ["x"]},
    {"id": "002", "title": "", "text": "second é 漢 😀", "year": 2021, "tags": []},
    {"id": "3", "title": "Three", "text": 'with, "marks"\nand lines', "year": None, "tags": None},
]
DOCUMENTS = [
    Document(r["id"], r["title"], r["text"], {"year": r["year"], "tags": r["tags"]})
    for r in RECORDS
]
LINES = "".join(json.dumps(record) + "\n" for record in RECORDS)


def write(path: Path, text: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    raw = text.encode() if isinstance(text, str) else text
    path.write_bytes(PACKERS.get(path.suffix, bytes)(raw))
    return path


def refusal(source, **how) -> str:
    with pytest.raises(InputError) as caught:
        list(open_corpus(source, **how))
    message = str(caught.value)
    assert message.isprintable()
    return message


def pairs(source, **how) -> list[tuple[str, str]]:
    return [(d.id, d.text) for d in open_corpus(source, **how)]


def by_id(records: list[dict]) -> dict[str, dict]:
    return {r["id"]: {k: v for k, v in r.items() if k != "id"} for r in records}


JSON = {
    "lines.jsonl": LINES,
    "lines.json": LINES,
    "lines.ndjson.gz": LINES,
    "array.json": json.dumps(RECORDS),
    "pretty.json.xz": json.dumps(RECORDS, indent=2),
    "pretty.json.zst": json.dumps(RECORDS, indent=2),
    "array.jsonl": json.dumps(RECORDS),
    "by-id.json": json.dumps(by_id(RECORDS)),
    "by-id-pretty.json": json.dumps(by_id(RECORDS), indent=1),
}


@pytest.mark.parametrize("name", JSON)
@pytest.mark.parametrize("block", [1, 7, 1 << 18])
def test_json_in_any_form_gives_the_same_documents_with_their_types(
    tmp_path, monkeypatch, name, block
):
    monkeypatch.setattr(json_members, "BLOCK_BYTES", block)
    corpus = open_corpus(write(tmp_path / name, JSON[name]))
    assert list(corpus) == DOCUMENTS
    assert list(corpus) == DOCUMENTS, "a corpus can be read again"
    assert list(corpus.reading.others) == ["year", "tags"]


def test_frames_tables_and_parquet_give_the_same_documents(tmp_path):
    table = pa.Table.from_pylist(RECORDS)
    pq.write_table(table, tmp_path / "c.parquet", row_group_size=1)
    frame = pd.DataFrame(RECORDS)
    frame["year"] = frame["year"].astype("Int64")
    reader = pa.RecordBatchReader.from_batches(table.schema, table.to_batches())
    for source in (tmp_path / "c.parquet", table, frame, frame.set_index("id"), reader):
        assert list(open_corpus(source)) == DOCUMENTS, type(source)
    assert open_corpus(frame).count() == open_corpus(tmp_path / "c.parquet").count() == 3


class Polars:
    """The methods of a polars data frame that are used."""

    def __init__(self, rows):
        self.rows = rows
        self.columns = list(rows[0])

    def __len__(self):
        return len(self.rows)

    def iter_rows(self):
        raise AssertionError("slices are used")

    def select(self, names):
        return Polars([{name: row[name] for name in names} for row in self.rows])

    def slice(self, start, length):
        return Polars(self.rows[start : start + length])

    def to_dicts(self):
        return self.rows


def test_objects_in_memory_are_documents(tmp_path):
    for source in (RECORDS, tuple(RECORDS), by_id(RECORDS), Polars(RECORDS), DOCUMENTS):
        assert list(open_corpus(source)) == DOCUMENTS, type(source)
    for source in (iter(RECORDS), (r for r in DOCUMENTS), (dict(r) for r in RECORDS)):
        corpus = open_corpus(source)
        assert list(corpus) == list(corpus) == DOCUMENTS
    assert pairs({"a": "x", "b": {"contents": "y"}}) == [("a", "x"), ("b", "y")]
    assert pairs(["x", "y"]) == [("0", "x"), ("1", "y")]
    assert read_queries({"q 1": "what"}) == read_queries([Query("q 1", "what")])
    when = pd.Timestamp("2020-01-02 03:04:05.000000001")
    times = pa.table({"id": ["a"], "text": ["x"], "when": pa.array([when])})
    assert next(iter(open_corpus(times))).metadata["when"] == when.floor("us").to_pydatetime()


def test_types_survive_the_copy_of_an_iterator():
    import datetime
    import decimal

    kept = {
        "day": datetime.date(2020, 1, 2),
        "time": datetime.datetime(2020, 1, 2, 3, 4, 5),
        "cost": decimal.Decimal("1.50"),
        "raw": b"\xff",
        "n": [1, 2.5, None, True, {"a": "\ud800"}],
    }
    corpus = open_corpus(iter([{"id": "a", "text": "x", **kept}]))
    assert next(iter(corpus)).metadata == kept
    with pytest.raises(InputError, match="give a list instead of an iterator"):
        open_corpus(iter([{"id": "a", "text": "x", "n": object()}]))


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (5, "an int; give Documents, dicts, texts, a mapping"),
        (Document("a", "", "x"), "a Document; give Documents"),
        (b"abc", "a bytes; give"),
        ([5], "given:1: an int is neither a Document nor a dict"),
        ({"a": 5}, "given:1: an int is neither a Document nor a dict"),
        ({5.5: "x"}, "given:1: _id is a fraction"),
        ([{"id": "a", "text": "x"}, {"text": "y"}], "given:2: no id (one of"),
        ([{"text": "y"}, {"id": "a", "text": "x"}], "given:2: id is in this document, but those"),
        ([{"id": 1, "text": "x"}, {"id": [], "text": "y"}], "given:2: id is a list"),
        ([{"id": "a", "content": 3}], "given:1: content is a number"),
        ([{"id": "a", "text": float("nan")}], "given:1: text is a fraction"),
        ([{1: "a", "text": "x"}], "a name of a field is no string"),
        ([], "no documents in it"),
        (pd.DataFrame({"id": [1.5], "text": ["x"]}), "row 0 (from 0): id is a fraction"),
        (pd.DataFrame({"id": [1, 2], "text": ["x", None]}), "row 1 (from 0): text is null"),
        (pd.DataFrame([["a", "x"]], columns=["text", "text"]), "two columns are named 'text'"),
    ],
)
def test_what_holds_no_documents_is_refused_in_a_line(source, fault):
    assert fault in refusal(source)


@pytest.mark.parametrize(
    ("name", "text", "fault"),
    [
        ("c.json", '[{"id": "a", "text": "x"}', ":1: broken JSON (',' expected, found the end"),
        ("c.json", '[{"id": "a", "text": "x"},\n]', ":2: broken JSON"),
        ("c.json", '[{"id": "a", "text": "x"}\n{"id": "b"}]', ":2: broken JSON (',' expected"),
        ("c.json", '[{"id": "a", "text": "x"}] 5', ":1: broken JSON (more text after its end)"),
        ("c.json", '[{"id": "a", "id": "b"}]', ":1: the key 'id' occurs twice"),
        (
            "c.json",
            '[{"id": "a", "text": "x"}, 5]',
            ": member 2: not an object or a text but an int",
        ),
        ("c.json", '[{"id": "a", "text": "x}]', ":1: broken JSON"),
        ("c.json", '[{"id": "a", "text": ' + "[" * 100_000, ":1: broken JSON"),
        ("c.json", '{"a": "x",\n "b" "y"}', ":2: broken JSON (':' expected"),
        ("c.json", "[]", ": no documents in it"),
        ("c.json", b'[{"id": "a", "text": "\xff"}]', ":1: not UTF-8 text"),
    ],
)
def test_broken_json_is_refused_with_its_line(tmp_path, name, text, fault):
    path = write(tmp_path / name, text)
    assert refusal(path).startswith(f"{path}{fault}")


def test_a_member_beyond_the_limit_is_refused_before_all_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(json_members, "MAX_LINE_BYTES", 1 << 16)
    path = write(tmp_path / "c.json", '[{"id": "a", "text": "' + "x" * (1 << 20) + '"}]')
    assert "a member longer than" in refusal(path)


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=80, deadline=None)
@given(
    st.lists(JSON_VALUES, max_size=5)
    | st.dictionaries(st.text(max_size=4), JSON_VALUES, max_size=5),
    st.integers(1, 9),
    st.sampled_from([None, 0, 3]),
    st.booleans(),
)
@example([0.0, -1.5e-7, 10, 1e5], 1, None, False)
@example({"a": 0.25, "b": -1e-7}, 2, None, True)
def test_members_are_those_that_json_reads(tmp_path_factory, value, block, indent, ascii_only):
    path = tmp_path_factory.mktemp("json") / "c.json"
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    if any("\ud800" <= c <= "\udfff" for c in text):
        return
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_members, "BLOCK_BYTES", block)
        found = list(members(TextSource(path)))
    expected = value.items() if isinstance(value, dict) else ((None, each) for each in value)
    assert found == list(expected)


def test_a_folder_of_texts_has_a_document_for_each_file(tmp_path):
    folder = tmp_path / "notes"
    write(folder / "b.md", "# B\r\nsecond\r\n")
    write(folder / "a b" / "c.txt", "\ufefffirst")
    write(folder / "z.markdown.gz", "packed")
    write(folder / ".hidden.md", "no")
    write(folder / ".git" / "x.md", "no")
    write(folder / "picture.png", b"\x89PNG\xff")
    (folder / "loop").symlink_to(folder)
    corpus = open_corpus(folder)
    assert [(d.id, d.text) for d in corpus] == [
        ("a b/c.txt", "first"),
        ("b.md", "# B\nsecond"),
        ("z.markdown.gz", "packed"),
    ]
    assert corpus.name == "notes"
    assert corpus.notes() == [
        f"1 linked folder was not followed: {folder / 'loop'}",
        f"1 file in {folder} not read: 1 .png",
    ]
    assert pairs(f"{folder}/**/*.txt") == [("a b/c.txt", "first")]
    assert pairs(folder / "b.md") == [("b.md", "# B\nsecond")]


def test_a_file_in_a_folder_that_is_no_text_is_named(tmp_path):
    write(tmp_path / "a.md", "good")
    write(tmp_path / "b.md", b"\xff")
    write(tmp_path / "c.md", " \n")
    write(tmp_path / "d.md", b"\0")
    assert refusal(tmp_path).startswith(f"{tmp_path / 'b.md'}:1: not UTF-8")
    corpus = open_corpus(tmp_path, skip_invalid=True)
    assert [d.id for d in corpus] == ["a.md"]
    assert corpus.skipped == 3
    assert str(tmp_path / "c.md") in corpus.left_out()
    (tmp_path / os.fsdecode(b"\xff.md")).write_text("x")
    (tmp_path / "b.md").unlink()
    (tmp_path / "c.md").unlink()
    (tmp_path / "d.md").unlink()
    assert "a control character in id" in refusal(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_cannot_be_listed_or_read_is_named(tmp_path):
    write(tmp_path / "sub" / "a.md", "x")
    (tmp_path / "sub").chmod(0)
    assert "cannot be listed" in refusal(tmp_path)
    (tmp_path / "sub").chmod(0o700)
    (tmp_path / "sub" / "a.md").chmod(0)
    assert "cannot be read" in refusal(tmp_path)


def test_shards_are_one_corpus_and_faults_name_the_shard(tmp_path):
    one, two = LINES.splitlines()[:2], LINES.splitlines()[2:]
    write(tmp_path / "part-1.jsonl", "\n".join(one))
    write(tmp_path / "part-2.jsonl.gz", "\n".join(["", *two, ""]))
    write(tmp_path / "README.md", "about")
    write(tmp_path / "config.json", "{}")
    corpus = open_corpus(tmp_path)
    assert list(corpus) == DOCUMENTS
    assert corpus.count() == 3
    assert corpus.notes()[0] == f"2 files in {tmp_path} not read: 1 .md, 1 .json"
    write(tmp_path / "part-3.jsonl", '\n{"id": "x"}\n{"id": "y", "text": "z"}\n')
    assert refusal(tmp_path).startswith(f"{tmp_path / 'part-3.jsonl'}:2: no text")
    lenient = open_corpus(tmp_path, skip_invalid=True)
    assert len(list(lenient)) == 4
    assert lenient.left_out().endswith(
        "part-3.jsonl:2 (no text (one of text, contents, content, body, passage, document) in it)"
    )
    numbers = [number for number, _ in lenient.numbered()]
    assert numbers == sorted(set(numbers))
    assert lenient.where(numbers[-1]) == (str(tmp_path / "part-3.jsonl"), 3)


def test_shards_without_ids_are_numbered_on(tmp_path):
    write(tmp_path / "a.csv", "text\nzero\none\n")
    write(tmp_path / "b.tsv", "text\ntwo\n")
    assert pairs(tmp_path) == [("0", "zero"), ("1", "one"), ("2", "two")]


def test_texts_beside_records_are_refused_with_a_way_out(tmp_path):
    write(tmp_path / "a.md", "x")
    write(tmp_path / "b.csv", "id,text\na,y\n")
    assert "name those to read, as in" in refusal(tmp_path)
    assert pairs(f"{tmp_path}/*.md") == [("a.md", "x")]
    assert pairs(f"{tmp_path}/*.csv") == [("a", "y")]
    assert "no file has such a name" in refusal(f"{tmp_path}/*.jsonl")


def test_a_folder_without_documents_and_an_index_are_refused(tmp_path):
    assert "no documents in it: no corpus.jsonl" in refusal(tmp_path)
    write(tmp_path / "manifest.json", '{"segments": []}')
    assert "an index, not a corpus" in refusal(tmp_path)


def test_partitions_of_parquet_are_fields_and_rows_are_named(tmp_path):
    for year in (2020, 2021):
        folder = tmp_path / f"year={year}"
        folder.mkdir()
        pq.write_table(pa.table({"id": [f"d{year}"], "text": ["x"]}), folder / "a.parquet")
    found = list(open_corpus(tmp_path))
    assert [(d.id, d.metadata) for d in found] == [
        ("d2020", {"year": 2020}),
        ("d2021", {"year": 2021}),
    ]
    bad = tmp_path / "year=2021" / "b.parquet"
    pq.write_table(pa.table({"id": ["x", "y"], "text": ["x", " "]}), bad)
    assert refusal(tmp_path).startswith(f"{bad}: row 1 (from 0): document y has no text")
    pq.write_table(pa.table({"id": [1, None], "text": ["x", "y"]}), bad)
    assert refusal(tmp_path).startswith(f"{bad}: row 1 (from 0): id is null")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b'{"id": "a", "text": "x"}\n{"id": "b", "text": "y"}\n', [("a", "x"), ("b", "y")]),
        (b'[{"id": "a", "text": "x"}]', [("a", "x")]),
        (b"id\ttext\na\tx, y\n", [("a", "x, y")]),
        (b"a\tx\n", [("a", "x")]),
        (b"\xef\xbb\xbfid,text\r\na,x\r\n", [("a", "x")]),
        (gzip.compress(b"id,text\na,x\n", mtime=0), [("a", "x")]),
        (lzma.compress(b"id,text\na,x\n"), [("a", "x")]),
    ],
)
def test_standard_input_is_known_by_its_first_line(monkeypatch, data, expected):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    corpus = open_corpus("-")
    assert [(d.id, d.text) for d in corpus] == expected
    passes = zip(corpus, corpus, strict=True)
    assert all(one == other for one, other in passes), "two passes at once do not disturb"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert [(q.id, q.text) for q in read_queries("-")] == expected


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"", "standard input: nothing in it"),
        (b"id,text\na,x\nb\n", "standard input:3: 1 column; the header has 2"),
        (b"just words\n", "standard input:1: 1 column; expected two"),
        (b"a\tb\0\n", "standard input:1: a NUL byte"),
        (gzip.compress(b"a\tb\n" * 999, mtime=0)[:-9], "standard input:"),
    ],
)
def test_standard_input_that_is_no_corpus_is_refused(monkeypatch, data, fault):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert refusal("-").startswith(fault)


def test_a_bomb_on_standard_input_is_refused(monkeypatch):
    monkeypatch.setattr(sources, "BOMB_FLOOR_BYTES", 1 << 16)
    data = gzip.compress(b"a\tb\n" * 100_000, mtime=0)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert "unpacks to more than 200 times its size" in refusal("-")


TWICE = [("a", "one"), ("b", "x"), ("a", "two"), ("c", "y"), ("b", "z"), ("a", "three")]


@pytest.mark.parametrize("form", [list, iter])
def test_of_equal_ids_the_first_or_the_last_is_kept_and_the_others_counted(form):
    records = [{"id": name, "text": text} for name, text in TWICE]
    first = open_corpus(form(records), duplicates="first")
    last = open_corpus(form(records), duplicates="last")
    expected = pd.DataFrame(TWICE)
    for corpus, keep in ((first, "first"), (last, "last")):
        for _ in range(2):
            found = [(d.id, d.text) for d in corpus]
            kept = expected.drop_duplicates(0, keep=keep)
            assert found == list(kept.itertuples(index=False, name=None))
            assert corpus.dropped == 3
    assert "3 documents were left out because of equal ids" in first.notes()
    with pytest.raises(InputError, match="choose one of error, first, last"):
        open_corpus(records, duplicates="some")


def test_ids_that_only_share_a_hash_are_all_kept(monkeypatch):
    from dupmae_toolkit.collection import duplicates

    class Same:
        def __init__(self, data, digest_size):
            pass

        def digest(self):
            return bytes(8)

    monkeypatch.setattr(duplicates, "blake2b", Same)
    monkeypatch.setattr(duplicates, "_BATCH", 2)
    records = [{"id": name, "text": text} for name, text in TWICE]
    for keep, texts in (("first", "one x y"), ("last", "y z three")):
        assert " ".join(d.text for d in open_corpus(records, duplicates=keep)) == texts


def test_columns_are_named_and_missing_ones_refused(tmp_path):
    records = [{"key": 7, "head": "H", "abstract": "x", "text": "other"}]
    path = write(tmp_path / "c.jsonl", json.dumps(records[0]))
    wanted = Columns("key", "head", "abstract")
    for source in (path, records, pd.DataFrame(records)):
        assert list(open_corpus(source, columns=wanted)) == [
            Document("7", "H", "x", {"text": "other"})
        ]
    assert "no field 'no' in it; it has key, head" in refusal(path, columns=Columns(text="no"))
    assert "no field 'no' in it" in refusal(path, columns=Columns(id="no"))
    assert "no field 'no' in it" in refusal(path, columns=Columns(title="no"))


def test_training_reads_what_searching_reads_without_ids(tmp_path):
    path = write(tmp_path / "c.csv", "id;title;body\n;T;x\na;;\n")
    assert [d.contents for d in read_texts(path)] == ["T x", ""]
    write(tmp_path / "notes" / "a.md", "whole\ntext")
    assert [d.contents for d in read_texts(tmp_path / "notes")] == ["whole\ntext"]
    lines = write(tmp_path / "c.txt", "one\n\ntwo\n")
    assert [d.contents for d in read_texts(lines)] == ["one", "two"]
    assert read_topics(lines).queries == [Query("0", "one"), Query("1", "two")]


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("", True),
        (" \t\n\u3000", True),
        ("\u200b", True),
        ("\u200b \u00ad\ufeff\0\x1b", True),
        ("\u2028\u2029", True),
        ("a", False),
        ("\u200ba", False),
        ("  \u0301", False),
        ("😀", False),
        ("\ue000", False),
        ("٣", False),
    ],
)
def test_a_text_of_white_space_and_invisible_characters_is_blank(text, blank):
    assert is_blank(text) == blank
    if blank:
        assert "has no text" in refusal([{"id": "a", "text": text, "title": text}])


@pytest.mark.parametrize(
    "pattern",
    ["*.md", "*/*.md", "**/*.md", "a/**", "a/**/c/*", "**/[bc].*", "?.md", "**/b/**/*.md"],
)
def test_a_pattern_names_what_glob_finds(tmp_path, pattern):
    for name in ("b.md", "a/b.md", "a/b/c.md", "a/b/c/d.md", "a/c/e.md", "x/y.md"):
        write(tmp_path / name, "text")
    expected = {p.relative_to(tmp_path) for p in tmp_path.glob(pattern) if p.is_file()}
    if sys.version_info < (3, 13) and pattern == "a/**":  # there it names folders alone
        expected = {p.relative_to(tmp_path) for p in (tmp_path / "a").glob("**/*") if p.is_file()}
    corpus = open_corpus(str(tmp_path / pattern))
    assert len(list(corpus)) == len(expected)
    folder = tmp_path / "a" if pattern.startswith("a/") else tmp_path
    assert {(folder / d.id).relative_to(tmp_path) for d in corpus} == expected


@pytest.mark.parametrize(
    ("manifest", "what"),
    [({"encoder": {}}, "encoded texts"), ({"encoder": {}, "segments": []}, "an index")],
)
def test_encoded_texts_below_a_folder_are_not_taken_for_documents(tmp_path, manifest, what):
    """As in the output of `dupmae beir`: the queries beside the documents would be indexed too."""
    for name in ("documents", "queries-test"):
        folder = tmp_path / "encoded" / name
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": ["a"], "text": ["sea"]}), folder / "part-00000.parquet")
        write(folder / "manifest.json", json.dumps(manifest))
    for source in (tmp_path, tmp_path / "encoded", f"{tmp_path}/**/*.parquet"):
        assert f"documents: holds {what}, not documents to read" in refusal(source)
    # A manifest of something else does not matter.
    for name in ("documents", "queries-test"):
        write(tmp_path / "encoded" / name / "manifest.json", '{"name": "notes"}')
    assert pairs(tmp_path / "encoded" / "documents") == [("a", "sea")]
