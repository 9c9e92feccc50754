"""The study of docs/sweeps.md gives the table that the page shows, and its keys are explained."""

from __future__ import annotations

import re
import shutil
from dataclasses import fields
from pathlib import Path

import pytest

from dupmae_toolkit.evaluation.sweep.study import (
    Study,
    StudyCollection,
    StudyEncoder,
    StudyIndex,
    StudyScore,
)
from tests.cli_support import run

PAGE = Path(__file__).parents[1] / "docs" / "sweeps.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)


@pytest.mark.java
@pytest.mark.slow
def test_the_command_prints_what_the_page_shows(tmp_path, monkeypatch, capsys):
    shutil.copytree(PAGE.with_suffix(""), tmp_path / "docs" / "sweeps")
    monkeypatch.chdir(tmp_path)
    ((_, shown),) = [block for block in BLOCKS if block[0] == "console"]
    command, *expected = shown.splitlines()
    code, out, err = run(capsys, *command.removeprefix("$ dupmae ").split(), "--precision", "fp32")
    assert code == 0, err
    # Sums in another order differ in the last digit; a row and its columns are those of the page.
    assert [numbers_of(line)[0] for line in out.splitlines()] == [
        numbers_of(line)[0] for line in expected
    ]
    for line, other in zip(out.splitlines(), expected, strict=True):
        for value, shown_value in zip(numbers_of(line)[1], numbers_of(other)[1], strict=True):
            assert abs(value - shown_value) <= 0.002, line


def numbers_of(line: str) -> tuple[str, list[float]]:
    """A line without its figures and spaces, and the figures."""
    number = r"\b\d\.\d{4}\b"
    found = [float(each) for each in re.findall(number, line)]
    return " ".join(re.sub(number, "#", line).split()), found


def test_the_page_shows_the_study_and_explains_every_key():
    ((_, shown),) = [block for block in BLOCKS if block[0] == "yaml"]
    assert shown == PAGE.with_suffix("").joinpath("study.yaml").read_text("utf-8")
    rows = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    kinds = (Study, StudyEncoder, StudyIndex, StudyScore, StudyCollection)
    keys = {each.name for kind in kinds for each in fields(kind)}
    assert rows == keys - {"name", "sha256"}
