"""`kill -9` at any moment, then the same call again: byte for byte what an undisturbed call writes.

The work is done by a helper process (this file, run as a module), which forks a child for every
attempt: starting Python anew each time would take most of the time, and a test process in which a
Java machine may be running must not fork.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

# pandas, which pyarrow imports when it is first used, and the next: so that no child needs to.
import pandas  # noqa: F401
import pytest

from dupmae_toolkit.encoding import parquet  # noqa: F401
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from tests.support import HashingEncoder

REPOSITORY = Path(__file__).parent.parent
DOCUMENTS = [Document(f"d{i}", f"Title {i}", f"some words and number {i} " * i) for i in range(70)]
PAUSE = 0.01


class Slow(HashingEncoder):
    def encode_documents(self, texts, ids=None):
        time.sleep(PAUSE)
        return super().encode_documents(texts, ids)


@pytest.mark.parametrize("how", ["every step", "random moments"])
def test_killed_encoding_continues_to_the_same_bytes(tmp_path, how):
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "tests.test_crash_encode", tmp_path, how]
    result = subprocess.run(
        command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout)
    assert report["wrong"] == []
    assert report["kills"] >= 10
    if how == "every step":
        assert report["kills"] > report["kills before the first part"] > 0


def contents(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def encode(output: Path) -> None:
    encode_corpus(DOCUMENTS, Slow(), output, part_size=20)


def forked(work: Callable[[], None], kill_after: float | None = None) -> int:
    """Run ``work`` in a child, killed after some seconds; how it ended (0: done, -9: killed)."""
    child = os.fork()
    if child == 0:
        try:
            work()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        time.sleep(kill_after)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dies_at(step: int) -> None:
    """Kill this process just before its n-th call that touches the disk's state."""
    import tempfile

    left = [step]

    def wrapped(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for module, name in (
        (os, "replace"),
        (os, "fsync"),
        (os, "mkdir"),
        (os, "unlink"),
        (tempfile, "mkstemp"),
    ):
        setattr(module, name, wrapped(getattr(module, name)))


class Report:
    """What went wrong, and whether the kills fell where something was at stake."""

    def __init__(self, expected: dict[str, bytes]) -> None:
        self.expected = expected
        self.values = {"kills": 0, "kills before the first part": 0, "wrong": []}

    def killed(self, output: Path, what: object) -> None:
        self.values["kills"] += 1
        if not list(output.glob("*.parquet")):
            self.values["kills before the first part"] += 1
        try:
            EncodedCorpus.open(output)
        except InputError:
            return
        if contents(output) != self.expected:
            self.wrong(f"{what}: a reader takes the folder for a finished one")

    def check(self, output: Path, status: int, what: object) -> None:
        if status != 0 or contents(output) != self.expected:
            self.wrong(f"{what}: status {status}, {sorted(contents(output))}")

    def wrong(self, message: str) -> None:
        self.values["wrong"].append(message)


def at_every_step(folder: Path, report: Report) -> None:
    for step in range(1, 1000):
        output = folder / f"step-{step}"

        def work(step=step, output=output):
            dies_at(step)
            encode(output)

        if forked(work) == 0:
            return
        report.killed(output, step)
        report.check(output, forked(lambda output=output: encode(output)), step)


def at_random_moments(folder: Path, report: Report) -> None:
    chance = random.Random(5)
    began = time.perf_counter()
    forked(lambda: encode(folder / "timed"))
    whole = time.perf_counter() - began
    for attempt in range(100):
        if report.values["kills"] >= 10:
            return
        output = folder / f"random-{attempt}"
        for _ in range(2):  # the second kill may hit a run that continues
            if forked(lambda output=output: encode(output), chance.uniform(0, whole)) == -9:
                report.killed(output, attempt)
        report.check(output, forked(lambda output=output: encode(output)), attempt)


def main(folder: Path, how: str) -> None:
    forked(lambda: encode(folder / "undisturbed"))
    report = Report(contents(folder / "undisturbed"))
    {"every step": at_every_step, "random moments": at_random_moments}[how](folder, report)
    print(json.dumps(report.values))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
