"""What cells of CSV and TSV files stand for."""

from __future__ import annotations

import math
import warnings
from datetime import UTC, date, datetime

import pytest

from dupmae_toolkit.collection.cells import MISSING, Column, value_of
from dupmae_toolkit.collection.opening import open_corpus


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("2020", 2020),
        ("-7", -7),
        ("0", 0),
        ("007", "007"),
        ("+1", "+1"),
        ("1_000", "1_000"),
        ("1,5", "1,5"),
        ("9" * 18, int("9" * 18)),
        ("9" * 19, "9" * 19),
        ("2.50", 2.5),
        ("1e5", "1e5"),
        ("1.5e3", 1500.0),
        ("1.0e999", "1.0e999"),
        ("nan", "nan"),
        ("inf", "inf"),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("2024-05-01", date(2024, 5, 1)),
        ("2024-02-30", "2024-02-30"),
        ("2024-05-01T10:00", datetime(2024, 5, 1, 10)),
        ("2024-05-01 10:00:30Z", datetime(2024, 5, 1, 10, 0, 30, tzinfo=UTC)),
        ("2024-05-01T25:00", "2024-05-01T25:00"),
        ("", None),
        (" ", " "),
        ("\u0662\u0660", "\u0662\u0660"),
        ("x" * 100_000, "x" * 100_000),
    ],
)
def test_a_cell_is_what_its_form_says(cell, value):
    found = value_of(cell)
    assert found == value
    assert type(found) is type(value)
    assert not (isinstance(found, float) and math.isnan(found))


def test_the_cells_beside_id_and_text_are_typed_and_these_two_are_not(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("id,text,year,day,zip\n1,42,2020,2024-05-01,01234\n2,b,,,\n", "utf-8")
    first, second = [document for _, document in open_corpus(str(path)).numbered()]
    assert (first.id, first.text) == ("1", "42")
    assert first.metadata == {"year": 2020, "day": date(2024, 5, 1), "zip": "01234"}
    assert second.metadata == {"year": None, "day": None, "zip": None}


def corpus(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")
    return open_corpus(str(path))


def values(opened, name):
    return [document.metadata[name] for document in opened]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        (["01234", "98765", ""], ["01234", "98765", None]),
        (["1", "2.5", "-3"], [1, 2.5, -3]),
        (["1", "true"], ["1", "true"]),
        (["2024-05-01", "2024-05-01T10:00"], [date(2024, 5, 1), datetime(2024, 5, 1, 10)]),
        (["2024-05-01", "2024-02-30"], ["2024-05-01", "2024-02-30"]),
        (["2024-05-01", "2024"], ["2024-05-01", "2024"]),
        (["true", "False", "NA"], [True, False, None]),
        (["1", "N/A", "-", "null"], [1, None, None, None]),
        (["NA", "DE", ""], ["NA", "DE", None]),  # Namibia
        (["NA", "NA"], ["NA", "NA"]),
        (["", ""], [None, None]),
    ],
)
def test_a_column_has_one_type(tmp_path, cells, expected):
    rows = "".join(f"{n},text {n},{cell}\n" for n, cell in enumerate(cells))
    found = values(corpus(tmp_path / "a.csv", "id,text,x\n" + rows), "x")
    assert found == expected
    assert [type(value) for value in found] == [type(value) for value in expected]
    column = Column(cells)
    assert [column.value(cell) for cell in cells] == expected


def test_columns_of_several_kinds_and_missing_values_are_told(tmp_path):
    text = "id,text,zip,price,year\n1,a,98765,2,2020\n2,b,01234,NA,2021\n3,c,55555,-,\n"
    opened = corpus(tmp_path / "a.csv", text)
    assert values(opened, "zip") == ["98765", "01234", "55555"]
    assert opened.reading.remarks == [
        "columns of several kinds of values, all kept as text: zip ('98765', '01234')",
        "cells such as NA, read as missing: price 2",
    ]
    assert opened.reading.remarks[0] in opened.reading.notes()


def test_the_files_of_a_folder_give_a_column_one_type(tmp_path):
    corpus(tmp_path / "all/b.csv", "id,text,zip,only\n3,c,01234,7\n")
    corpus(tmp_path / "all/a.csv", "id,text,zip\n1,a,98765\n2,b,12345\n")
    opened = open_corpus(str(tmp_path / "all"))
    assert values(opened, "zip") == ["98765", "12345", "01234"]
    assert [d.metadata.get("only") for d in opened] == [None, None, 7]
    assert len(opened.reading.remarks) == 1
    assert values(open_corpus(str(tmp_path / "all/a.csv")), "zip") == [98765, 12345]


def test_invalid_rows_are_no_cells_of_a_column(tmp_path):
    text = "id,text,n\n1,a,1\n2,b,two,2\n3,c,3\n"
    (tmp_path / "a.csv").write_text(text, "utf-8")
    opened = open_corpus(str(tmp_path / "a.csv"), skip_invalid=True)
    assert values(opened, "n") == [1, 3]


def test_folders_that_state_a_column_give_it_one_type(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    for number, name in enumerate(("year=2020/zip=01234", "year=2021/zip=98765")):
        folder = tmp_path / "t" / name
        folder.mkdir(parents=True)
        pq.write_table(pa.table({"id": [str(number)], "text": ["a"]}), folder / "x.parquet")
    folder = tmp_path / "t/year=__HIVE_DEFAULT_PARTITION__/zip=1"
    folder.mkdir(parents=True)
    pq.write_table(pa.table({"id": ["2"], "text": ["a"]}), folder / "x.parquet")
    found = {d.id: d.metadata for d in open_corpus(str(tmp_path / "t"))}
    assert found == {
        "0": {"year": 2020, "zip": "01234"},
        "1": {"year": 2021, "zip": "98765"},
        "2": {"year": None, "zip": "1"},
    }


def test_programs_are_warned_of_ids_that_are_row_numbers_and_of_mixtures(tmp_path):
    from dupmae_toolkit.encoding.source import as_source

    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame({"text": ["a", "b"]}, index=pd.Index(["x", "y"], name="key"))
    with pytest.warns(UserWarning, match="ids are row numbers, from 0"):
        assert [d.id for _, d in as_source(frame).numbered()] == ["0", "1"]
    unnamed = pd.DataFrame({"text": ["a", "b"]}, index=["x", "y"])
    with pytest.warns(UserWarning, match="index, without a name, is not read"):
        list(as_source(unnamed).numbered())
    corpus(tmp_path / "a.csv", "id,text,zip\n1,a,98765\n2,b,01234\n")
    source = as_source(tmp_path / "a.csv")
    with pytest.warns(UserWarning, match="all kept as text: zip"):
        list(source.numbered())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(source.numbered())  # it was said
        list(as_source(["a", "b"]).numbered())
        list(as_source(pd.DataFrame({"text": ["a"]})).numbered())
        list(as_source(frame.rename_axis("id")).numbered())


def test_marks_of_missing_values_are_no_values():
    assert all(value_of(mark) in (mark, None) for mark in MISSING)
