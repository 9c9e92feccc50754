"""The commands and the Python of docs/experiments.md give what the page shows."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
import shutil
from pathlib import Path

import pytest

from tests.cli_support import run

PAGE = Path(__file__).parents[1] / "docs" / "experiments.md"
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE.read_text("utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A copy of the page's files; what it writes does not stay."""
    shutil.copytree(PAGE.with_suffix(""), tmp_path / "files")
    monkeypatch.chdir(tmp_path / "files")


def shown(capsys, commands):
    """A console block as it should be: each command with what it prints on stdout."""
    text = ""
    for line in commands:
        program, *words = shlex.split(line.removeprefix("$ "))
        assert program == "dupmae"
        code, out, err = run(capsys, *words)
        assert code == 0, err
        text += f"{line}\n{out}"
    return text


@pytest.mark.java
def test_the_page_shows_what_its_commands_and_its_python_print(capsys, folder):
    names: dict[str, object] = {}
    printed = ""
    kinds = [kind for kind, _ in BLOCKS]
    assert kinds.count("console") >= 4
    assert kinds.count("python") == kinds.count("text") == 2
    for kind, text in BLOCKS:
        if kind == "console":
            expected = shown(capsys, [line for line in text.splitlines() if line.startswith("$ ")])
            assert clean(expected) == clean(text)
        elif kind == "python":
            with contextlib.redirect_stdout(io.StringIO()) as out:
                exec(compile(text, "experiments.md", "exec"), names)
            printed = out.getvalue()
        else:
            assert clean(printed) == clean(text)


def clean(text):
    return [line.rstrip() for line in text.splitlines()]
