"""What all commands share: help, ways of calling, odd terminals, and readers that go away."""

from __future__ import annotations

import io
import json
import os
import shlex
import shutil
import subprocess
import sys

import pytest
import typer

from dupmae_cli.main import app, main
from dupmae_cli.options import MEASURES
from dupmae_toolkit import __version__
from dupmae_toolkit.encoding.stream import PART_SIZE
from dupmae_toolkit.evaluation.measures import DEFAULT_MEASURES, split_measures
from dupmae_toolkit.mining.job import DEPTH
from tests.cli_support import run

QRELS = "query-id\tcorpus-id\tscore\n1\tétoile😀\t1\n"
RUN = "1 Q0 étoile😀 1 2.0 t\n"
NAMES = [entry.name or entry.callback.__name__ for entry in app.registered_commands]


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


@pytest.mark.parametrize("columns", [80, 120])
@pytest.mark.parametrize("command", NAMES)
def test_the_examples_of_every_command_are_indented(command, columns, capsys, monkeypatch):
    """Typer dedents what follows the first paragraph, so a second one must stand at the margin."""
    monkeypatch.setenv("COLUMNS", str(columns))
    with pytest.raises(SystemExit):
        main([command, "--help"])
    examples = capsys.readouterr().out.partition("Examples:")[2].partition("─")[0].splitlines()
    examples = [line for line in examples if line.strip() not in ("", "╭")]
    assert f"dupmae {command}" in "".join(examples)
    assert all(line.startswith("   ") for line in examples)


@pytest.fixture
def help_of(capsys, monkeypatch):
    """What ``--help`` shows of a command, or of the application, on a wide terminal."""
    monkeypatch.setenv("COLUMNS", "200")
    return lambda *command: run(capsys, *command, "--help")[1]


@pytest.mark.parametrize("command", [(), *((name,) for name in NAMES)])
def test_no_flag_shows_a_type(command, help_of):
    """A flag takes no value; Typer writes `<bool>` after it, as if it did."""
    shown = help_of(*command)
    assert "--help" in shown
    assert "bool" not in shown.lower()


def test_the_help_says_what_every_command_does_in_one_line(help_of):
    shown = help_of()
    for name in NAMES:
        line = next(line for line in shown.splitlines() if line.startswith(f"│ {name} "))
        summary = line.strip("│ ").removeprefix(name).strip()
        assert 20 < len(summary) <= 80
        assert summary.endswith(".")
        assert help_of(name).splitlines()[3].strip() == summary


@pytest.mark.parametrize(
    "option",
    [
        *("--device", "--precision", "--json", "--model", "--skip-invalid", "--norm", "--rrf-k"),
        *("-k", "--tag", "--split", "--faiss", "--wait", "--measures", "--margin", "--exact"),
    ],
)
def test_an_option_that_several_commands_share_is_explained_in_the_same_words(option):
    texts = [
        parameter.help
        for command in typer.main.get_command(app).commands.values()
        for parameter in command.params
        if option in parameter.opts
    ]
    assert len(texts) > 1
    assert len(set(texts)) == 1


def test_defaults_that_the_help_names_are_those_of_the_library():
    commands = typer.main.get_command(app).commands
    (part_size,) = [one for one in commands["encode"].params if one.name == "part_size"]
    assert part_size.show_default == str(PART_SIZE)
    (depth,) = [one for one in commands["mine"].params if one.name == "depth"]
    assert depth.show_default.endswith(f" {DEPTH}")
    assert tuple(split_measures(MEASURES)) == DEFAULT_MEASURES


@pytest.mark.parametrize("option", ["-V", "--version"])
def test_both_options_print_the_version(option, capsys):
    assert run(capsys, option) == (0, f"dupmae {__version__}\n", "")


def start(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "dupmae_toolkit", *words],
        capture_output=True,
        text=True,
        env=os.environ | environment,
        check=False,
    )


def test_the_package_runs_the_command_line_and_names_itself_as_it_was_called():
    done = start("--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"dupmae {__version__}\n", "")
    assert "Usage: python -m dupmae_toolkit search [OPTIONS]" in start("search", "--help").stdout
    done = start("info")
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("dupmae: Missing option '--index'")
    assert "See `python -m dupmae_toolkit info --help`" in done.stderr
    done = start("--install-completion")  # would complete the words after every `python`
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert "dupmae --install-completion" in done.stderr


def test_a_usage_error_of_the_command_names_the_command(capsys):
    code, out, err = run(capsys, "info")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "See `dupmae info --help`" in err


def test_the_help_imports_nothing_heavy():
    script = (
        "import sys\nfrom dupmae_cli.main import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'numpy', 'scipy', 'torch', 'transformers', 'faiss', 'pyarrow', 'pyserini'}\n"
        "print(sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stderr == "[]\n"


@pytest.fixture
def bash(tmp_path):
    """Run lines in bash, in a home of its own, with `dupmae` among the commands."""
    if shutil.which("bash") is None:
        pytest.skip("there is no bash")
    program = tmp_path / "bin" / "dupmae"
    program.parent.mkdir()
    script = "import sys; from dupmae_cli.main import main; main()"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, "-c", script])} "$@"\n')
    program.chmod(0o755)
    path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"

    def lines(*commands: str) -> str:
        done = subprocess.run(
            ["bash", "--norc", "-c", "\n".join(commands)],
            capture_output=True,
            text=True,
            env=os.environ | {"HOME": str(tmp_path), "PATH": path},
            check=False,
        )
        assert done.stderr == ""
        return done.stdout

    return lines


def test_bash_completes_commands_options_and_choices(bash, tmp_path):
    assert "bash completion installed" in bash("dupmae --install-completion", "true")
    script = tmp_path / ".bash_completions" / "dupmae.sh"
    assert bash("dupmae --show-completion", "true").strip() == script.read_text().strip()

    def complete(*words: str) -> list[str]:
        shown = bash(
            f"source {shlex.quote(str(script))}",
            f"COMP_WORDS=({shlex.join(words)})",
            f"COMP_CWORD={len(words) - 1}",
            "_dupmae_completion dupmae",
            'printf "%s\\n" "${COMPREPLY[@]}"',
        )
        return shown.split()

    assert complete("dupmae", "") == NAMES
    assert complete("dupmae", "search", "--mo") == ["--mode", "--model"]
    assert complete("dupmae", "search", "--mode", "") == ["hybrid", "dense", "lexical", "bm25"]
    assert complete("dupmae", "index", "no") == []  # bash goes on to names of files


@pytest.mark.parametrize("words", [("prune", "--index", "x"), ("export", "-i", "x")])
def test_a_command_whose_index_is_an_argument_says_so(capsys, words):
    code, out, err = run(capsys, *words)
    assert (code, out) == (2, "")
    assert "No such option" in err
    assert "The index is named without an option. See " in err


@pytest.mark.parametrize(
    ("cores", "given", "found"),
    [
        (1, None, "PASSIVE"),
        (4, None, "PASSIVE"),
        (5, None, None),
        (None, None, None),
        (2, "ACTIVE", "ACTIVE"),
    ],
)
def test_threads_wait_asleep_on_few_cores(capsys, monkeypatch, cores, given, found):
    from dupmae_toolkit import machine

    monkeypatch.setattr(machine, "cores", lambda: cores)
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    if given is not None:
        monkeypatch.setenv("OMP_WAIT_POLICY", given)
    try:
        assert run(capsys, "--version")[0] == 0
        assert os.environ.get("OMP_WAIT_POLICY") == found
    finally:
        os.environ.pop("OMP_WAIT_POLICY", None)  # which monkeypatch then sets as it was
