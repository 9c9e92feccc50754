"""docs/measures.md: its commands print what it shows, and its table names every measure."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import ir_measures

from tests.cli_support import run

PAGE = (Path(__file__).parent.parent / "docs" / "measures.md").read_text("utf-8")


def commands() -> list[tuple[str, str]]:
    """The commands in the page's blocks, each with what is shown below it."""
    found = []
    for block in re.findall(r"^```\n(.*?)^```", PAGE, re.M | re.S):
        for part in block.split("$ ")[1:]:
            command, _, shown = part.partition("\n")
            found.append((command, shown))
    return found


def test_commands_print_what_the_page_shows(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    lines = [f"q1 Q0 d{n} {n} {4 - n}.0 demo\n" for n in (1, 2, 3)]
    Path("run2.trec").write_text("".join(lines))
    tried = 0
    for command, shown in commands():
        program, *words = shlex.split(command)
        if program == "cat":
            Path(words[0]).write_text(shown)
        elif words[0] == "eval":
            _, out, err = run(capsys, *words)
            assert out + err == shown
            tried += 1
    assert tried == 3


def test_the_page_names_every_measure_of_ir_measures():
    known = {measure.NAME for measure in ir_measures.measures.registry.values()}
    assert len(known) > 30
    assert known - set(re.findall(r"\w+", PAGE)) == set()
