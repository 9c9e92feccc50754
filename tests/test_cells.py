"""What cells of CSV and TSV files stand for."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime

import pytest

from dupmae_toolkit.collection.cells import value_of
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
