"""SIGTERM ends a command as Ctrl-C does: one line, what stands, and a code of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from dupmae_cli import console
from dupmae_cli.main import main
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from tests.cli_support import run
from tests.tiny import save_tiny

#: A command that says "here" and waits where a step of it begins.
CHILD = """
import importlib, sys, time
from dupmae_cli.main import main

module, name = sys.argv[1].split(":")
module = importlib.import_module(module)
step = getattr(module, name)

def stop(*given, **named):
    if name == "start":
        step(*given, **named)
    for signals in range(int(sys.argv[2])):
        try:
            print("here", flush=True)
            time.sleep(60)
        except KeyboardInterrupt:
            pass
    raise KeyboardInterrupt

setattr(module, name, stop)
main(sys.argv[3:])
"""
ENCODING = "dupmae_toolkit.encoding.stream:_encode"
COMPLETING = "dupmae_toolkit.encoding.stream:_complete"
JAVA = "dupmae_toolkit.jvm:start"  # which would have taken the signal for itself


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    save_tiny(folder)
    return folder


def write(path: Path, names: range) -> Path:
    path.write_text("".join(json.dumps({"_id": str(n), "text": f"a {n}"}) + "\n" for n in names))
    return path


def ended(step: str, *words: object, signals: int = 1, **environment: str) -> tuple[int, str]:
    """Exit code and stderr of a command to which SIGTERM comes in the middle of ``step``."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, step, str(signals), *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    assert child.stdout
    for _ in range(signals):
        if child.stdout.readline() == "here\n":
            child.send_signal(signal.SIGTERM)
    err = child.communicate(timeout=60)[1]
    return child.returncode, err.strip()


@pytest.mark.parametrize(
    ("command", "step"),
    [("encode", ENCODING), ("index", COMPLETING), ("add", ENCODING), ("add", JAVA)],
)
@pytest.mark.java
def test_it_is_answered_in_one_line_and_the_same_command_goes_on(
    tmp_path, model, capsys, command, step
):
    index = tmp_path / "index"
    place = tmp_path / "encoded" if command == "encode" else index
    if command == "add":
        first = write(tmp_path / "first.jsonl", range(3))
        assert run(capsys, "index", first, "--index", index, "--model", model)[0] == 0
    more = write(tmp_path / "more.jsonl", range(5, 9))
    option = "--output" if command == "encode" else "--index"
    typed = (command, more, option, place, "--model", model)
    before = Manifest.load(index) if command == "add" else None
    code, err = ended(step, *typed)
    assert (code, err.count("\n")) == (143, 0), err
    assert err.startswith("dupmae: ended by SIGTERM; ")
    if step == ENCODING:
        assert err.endswith("there is no finished work to keep; run the same command to start over")
    else:
        assert "finished work is kept in" in err
    if before:
        assert f"{index} is unchanged; " in err
        assert Manifest.load(index) == before
    assert not list(tmp_path.rglob(".tmp-*"))
    assert run(capsys, *typed)[0] == 0
    if command != "encode":
        assert Manifest.load(index).live == (7 if before else 4)
        assert verify_index(index) == []


@pytest.mark.parametrize(("signals", "processes"), [(2, "1"), (1, "2")])
def test_a_second_one_ends_a_process_at_once_and_so_does_one_where_several_run(
    tmp_path, model, signals, processes
):
    more = write(tmp_path / "more.jsonl", range(3))
    words = ("encode", more, "--output", tmp_path / "new", "--model", model)
    found = ended(ENCODING, *words, signals=signals, WORLD_SIZE=processes)
    assert found == (-signal.SIGTERM, "")


def test_who_calls_the_command_line_gets_the_signal_back(capsys):
    for handler in (signal.SIG_DFL, signal.SIG_IGN):
        before = signal.signal(signal.SIGTERM, handler)
        try:
            with console.terminating():
                ours = signal.getsignal(signal.SIGTERM)
                assert (ours == handler) == (handler == signal.SIG_IGN)
            assert run(capsys, "--version")[0] == 0
            assert signal.getsignal(signal.SIGTERM) == handler
        finally:
            signal.signal(signal.SIGTERM, before)


def test_it_may_be_called_in_a_thread(capsys):
    codes = []

    def call() -> None:
        with pytest.raises(SystemExit) as stopped:
            main(["--version"])
        codes.append(stopped.value.code)

    thread = threading.Thread(target=call)
    thread.start()
    thread.join(60)
    assert codes == [0]
