"""What all commands share: odd terminals, and readers that go away."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys

import pytest

from dupmae_cli.main import app, main

QRELS = "query-id\tcorpus-id\tscore\n1\tétoile😀\t1\n"
RUN = "1 Q0 étoile😀 1 2.0 t\n"


@pytest.fixture
def latin1(tmp_path, monkeypatch):
    """`dupmae eval` of files with odd names, on a terminal that knows Latin-1 only."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "qrels.tsv").write_text(QRELS, "utf-8")
    (tmp_path / "é😀.trec").write_text(RUN, "utf-8")

    def run(*words: str) -> tuple[int, str]:
        written = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, "latin-1"))
        with pytest.raises(SystemExit) as caught:
            main(["eval", "--qrels", "qrels.tsv", "é😀.trec", *words])
        sys.stdout.flush()
        return int(caught.value.code or 0), written.getvalue().decode("latin-1")

    return run


def test_a_terminal_without_a_character_shows_something_in_its_place(latin1):
    code, out = latin1("--per-topic")
    assert code == 0
    assert "é?.trec\t1\tnDCG@10\t1.0000" in out


def test_json_keeps_characters_that_stdout_cannot_hold(latin1):
    code, out = latin1("--json")
    assert code == 0
    assert json.loads(out)["runs"][0]["run"] == "é😀.trec"


@pytest.mark.skipif(os.name == "nt", reason="pipes are others there")
def test_a_reader_that_went_away_is_no_error_to_speak_of():
    read, write = os.pipe()
    os.close(read)
    try:
        words = [sys.executable, "-c", "from dupmae_cli.main import main; main(['--version'])"]
        done = subprocess.run(words, stdout=write, stderr=subprocess.PIPE, check=False)
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")


@pytest.mark.parametrize(
    "command", [entry.name or entry.callback.__name__ for entry in app.registered_commands]
)
def test_the_examples_of_every_command_are_indented(command, capsys, monkeypatch):
    """Typer dedents what follows the first paragraph, so a second one must stand at the margin."""
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit):
        main([command, "--help"])
    examples = capsys.readouterr().out.partition("Examples:")[2].partition("─")[0].splitlines()
    examples = [line for line in examples if line.strip() not in ("", "╭")]
    assert f"dupmae {command}" in "".join(examples)
    assert all(line.startswith("   ") for line in examples)
