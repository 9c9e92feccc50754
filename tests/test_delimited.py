"""CSV and TSV: what is a header, what is a row, and what is refused, against csv and pandas."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dupmae_toolkit.collection import sources
from dupmae_toolkit.collection.cells import Column
from dupmae_toolkit.collection.fields import Columns
from dupmae_toolkit.collection.opening import open_corpus, read_queries, read_topics
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Query


def write(path: Path, text: str | bytes) -> Path:
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def refusal(path: Path, **how) -> str:
    with pytest.raises(InputError) as caught:
        list(open_corpus(path, **how))
    message = str(caught.value)
    assert message.isprintable()
    return message


HEADERS = [
    ("id", "text"),
    ("ID", "Text"),
    (" id ", "text "),
    ("docno", "abstract of it"),  # an id is named: the other is no text
    ("sku", "text"),
    ("_id", "contents"),
    ("text",),
    ("id", "title", "text", "year"),
    ("url", "lang", "body"),
    ("", "id", "text"),
]
ROWS = [
    ("d1", "blue sea"),
    ("x", "y"),
    ("q1", "body"),
    ("7", "text"),
    ("2020", "id of a passport"),
    ("id", "the part of the mind that wants, as Freud has it"),
    ("a" * 70, "text"),
]


@pytest.mark.parametrize("cells", HEADERS, ids=str)
@pytest.mark.parametrize("name", ["c.tsv", "c.csv"])
def test_a_line_of_usual_names_is_no_document(tmp_path, cells, name):
    mark = "\t" if name == "c.tsv" else ","
    row = mark.join(f"value {n}" for n in range(len(cells)))
    path = write(tmp_path / name, f"{mark.join(cells)}\n{row}\n")
    if "abstract of it" in cells:
        assert f"{path}:2: no text (one of text, contents" in refusal(path)
        found = list(open_corpus(path, columns=Columns(text="abstract of it")))
        assert found == [Document("value 0", "", "value 1")]
        return
    (document,) = open_corpus(path)
    folded = [cell.strip().casefold() for cell in cells]
    place = next(folded.index(name) for name in ("text", "contents", "body") if name in folded)
    assert document.text == f"value {place}"
    usual = [n for n, cell in enumerate(folded) if cell in ("id", "_id")]
    assert document.id == (f"value {usual[0]}" if usual else "0")


@pytest.mark.parametrize("cells", ROWS, ids=str)
def test_a_line_of_an_id_and_a_text_is_a_document(tmp_path, cells):
    path = write(tmp_path / "c.tsv", "\t".join(cells) + "\nlast\tone\n")
    assert list(open_corpus(path)) == [
        Document(cells[0], "", cells[1]),
        Document("last", "", "one"),
    ]
    assert read_queries(path) == [Query(*cells), Query("last", "one")]


@pytest.mark.parametrize(
    "header", ["query_id\ttext", "qid\tquery", "id\tquestion", "query-id\ttext"]
)
def test_a_header_is_no_topic(tmp_path, header):
    path = write(tmp_path / "q.tsv", f"{header}\nq 1\tblue sea\n")
    assert read_queries(path) == [Query("q 1", "blue sea")]


def test_a_csv_of_unusual_names_is_refused_and_not_a_document(tmp_path):
    path = write(tmp_path / "c.csv", "code,abstract\na,b\n")
    assert f"{path}:1: 2 columns; expected two, id, text, or a header" in refusal(path)
    assert "--no-header" in refusal(path)
    found = list(open_corpus(path, columns=Columns("code", None, "abstract")))
    assert found == [Document("a", "", "b")]
    found = list(open_corpus(path, columns=Columns(header=False)))
    assert found == [Document("code", "", "abstract"), Document("a", "", "b")]
    three = write(tmp_path / "d.csv", "code,abstract,year\na,b,3\n")
    assert "3 columns; expected two" in refusal(three)
    assert "no field 'summary' in it; it has code, abstract, year" in refusal(
        three, columns=Columns(text="summary")
    )
    assert "leave out `--no-header`" in refusal(path, columns=Columns("code", header=False))


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_the_delimiter_of_a_csv_is_the_one_with_which_its_first_line_is_a_header(tmp_path, mark):
    rows = [
        ["id", "text", "n"],
        ["a", "one, two; three\tfour | five", "k"],
        ["b", 'a "quote"', "l"],
    ]
    text = io.StringIO()
    csv.writer(text, delimiter=mark).writerows(rows)
    found = list(open_corpus(write(tmp_path / "c.csv", text.getvalue())))
    assert [[d.id, d.text, d.metadata["n"]] for d in found] == rows[1:]


CELL = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\r"), max_size=12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(CELL, CELL, CELL), min_size=1, max_size=8))
def test_any_rows_that_csv_writes_are_read_as_pandas_reads_them(tmp_path_factory, rows):
    path = tmp_path_factory.mktemp("csv") / "c.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)
        writer.writerow(["id", "text", "other", "more"])
        for number, row in enumerate(rows):
            writer.writerow([f"d {number}", f"x{row[0]}", *row[1:]])
    expected = pd.read_csv(path, dtype=str, keep_default_na=False, lineterminator="\n")
    found = [{"id": d.id, "text": d.text, **d.metadata} for d in open_corpus(path)]
    assert found == [
        {
            name: cell if name in ("id", "text") else Column(expected[name]).value(cell)
            for name, cell in row.items()
        }
        for row in expected.to_dict("records")
    ]


def test_a_row_of_several_lines_is_named_by_its_first(tmp_path):
    text = 'id,text\r\n"a","one\r\n\r\nthree"\r\n\r\nb,two\r\nc\r\n'
    path = write(tmp_path / "c.csv", b"\xef\xbb\xbf" + text.encode())
    corpus = open_corpus(path, skip_invalid=True)
    assert list(corpus.numbered()) == [
        (2, Document("a", "", "one\n\nthree")),
        (6, Document("b", "", "two")),
    ]
    assert corpus.left_out().endswith(f"{path}:7 (1 column)")
    assert f"{path}:7: 1 column; the header has 2" in refusal(path)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ('id,text\na,"never\nb,closed\n', ":2: broken CSV: a quotation mark that is never closed"),
        ('id,text\na,"closed" twice\n', ":2: broken CSV"),
        ("id,text,text\na,b,c\n", ":1: two columns are named 'text'; rename one"),
        ("id,text\na,b,c\n", ":2: 3 columns; the header has 2"),
        ("id,text\na,\n", ":2: document a has no text"),
        ("id,text\n,x\n", ":2: empty id"),
        ("id,text\n", ": no documents in it"),
        ("", ": no documents in it"),
    ],
)
def test_broken_csv_is_refused_with_its_line(tmp_path, text, fault):
    path = write(tmp_path / "c.csv", text)
    assert refusal(path).startswith(f"{path}{fault}")


@pytest.mark.parametrize(
    ("data", "fault"),
    [
        (b"id,text\na,\xff\n", ":2: not UTF-8 text"),
        (b"id,text\na,b\0\n", ":2: a NUL byte"),
        ("id,text\na,b\n".encode("utf-16"), ":1: this is UTF-16 text"),
        (b"PAR1\x15\0\0", ":1: this is a Parquet"),
    ],
)
def test_what_is_no_text_is_refused(tmp_path, data, fault):
    path = write(tmp_path / "c.csv", data)
    assert refusal(path).startswith(f"{path}{fault}")


def test_an_unclosed_quotation_mark_is_not_skipped_with_all_that_follows(tmp_path):
    path = write(tmp_path / "c.csv", 'id,text\na,b\nc,"d\n' + "e,f\n" * 100)
    assert "never closed" in refusal(path, skip_invalid=True)


def test_a_huge_cell_is_read_and_one_beyond_the_limit_refused(tmp_path, monkeypatch):
    path = write(tmp_path / "c.csv", f'id,text\na,"{"x" * 3_000_000}"\n')
    assert len(next(iter(open_corpus(path))).text) == 3_000_000
    monkeypatch.setattr(sources, "MAX_LINE_BYTES", 1 << 20)
    assert "a line longer than 1 MiB" in refusal(path)


def test_quotation_marks_in_a_tsv_are_ordinary_whatever_the_header(tmp_path):
    path = write(tmp_path / "c.tsv", 'id\ttext\na\t"open\nb\tit\'s "so"\n')
    assert [d.text for d in open_corpus(path)] == ['"open', 'it\'s "so"']


def test_row_numbers_are_ids_where_nobody_named_one_and_it_is_said(tmp_path):
    path = write(tmp_path / "c.csv", "text,n\nzero,1\n\none,2\n")
    corpus = open_corpus(path)
    assert [(d.id, d.text) for d in corpus] == [("0", "zero"), ("1", "one")]
    assert corpus.notes()[0].startswith("no field is an id, so ids are row numbers, from 0")
    assert corpus.reading.to_dict()["ids"] == "row numbers, from 0"
    assert "other fields, kept as metadata: n" in corpus.notes()
    topics = read_topics(write(tmp_path / "q.csv", "query\nwhat\n"))
    assert topics.queries == [Query("0", "what")]
    assert topics.reading.notes()
    usual = open_corpus(write(tmp_path / "d.csv", "docno,text\na,b\n"))
    assert [d.id for d in usual] == ["a"]
    assert usual.notes() == []
