"""Runs cases in processes of their own, which may crash, hang or ask for too much memory."""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import DupMAEError
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import GROUPS, Reader, readers

#: A case that takes longer counts as a hang. Cases take milliseconds, but the machine may be busy.
SECONDS = 30
#: A worker that sends no message for so many seconds, also while it starts, is killed.
SILENCE = 180
#: The memory that a worker may fill; memory that is only reserved does not count.
MEMORY = 6 << 30
#: A case fails if the worker's peak memory grows by more than this.
GROWTH_KIB = 1 << 20
LONGEST_MESSAGE = 2000


@dataclass(slots=True)
class Tally:
    """What became of one reader's cases."""

    outcomes: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        return sum(self.outcomes.values())


class Hang(BaseException):
    """Not an Exception: no reader may take it for bad input."""


def run(
    cases: int, seed: int, only: str | None = None, groups: tuple[str, ...] = GROUPS, first: int = 0
) -> dict[str, Tally]:
    """Run ``cases`` of each reader, from number ``first``; returns tallies by the reader's name."""
    tallies: dict[str, Tally] = {}
    for group in groups:
        wanted = [reader.name for reader in readers(group) if only in (None, reader.name)]
        for name in wanted:
            tallies[name] = Tally()
        left = [(name, first) for name in wanted]
        while left:
            left = _run_worker(group, left, first + cases, seed, tallies)
    return tallies


def _run_worker(
    group: str, todo: list[tuple[str, int]], end: int, seed: int, tallies: dict[str, Tally]
) -> list[tuple[str, int]]:
    """Start a worker and listen to it; returns what is left to do if it died on the way."""
    job = json.dumps({"group": group, "todo": todo, "end": end, "seed": seed})
    command = [sys.executable, "-m", "tests.fuzz.runner", job]
    with tempfile.TemporaryFile() as errors:
        worker = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors)
        assert worker.stdout is not None
        name, case = todo[0]
        silent = True
        for message in _messages(worker):
            silent = False
            name, case = message["reader"], message["case"]
            if "outcome" in message:
                tallies[name].outcomes[message["outcome"]] += 1
                if message["outcome"] == "failed":
                    tallies[name].failures.append(f"{name}, case {case}: {message['detail']}")
                case += 1
        worker.kill()
        code = worker.wait()
        errors.seek(0)
        said = errors.read().decode("utf-8", "replace")[-3000:]
    if silent:
        raise RuntimeError(f"the fuzzer's worker for {group} did not start: {said}")
    later = [one for one in todo if [n for n, _ in todo].index(one[0]) > _place(todo, name)]
    if case >= end and not later and code in (0, -signal.SIGKILL):
        return []
    if case < end:
        tallies[name].outcomes["failed"] += 1
        tallies[name].failures.append(f"{name}, case {case}: the process died ({code}): {said}")
    return ([(name, case + 1)] if case + 1 < end else []) + later


def _place(todo: list[tuple[str, int]], name: str) -> int:
    return [n for n, _ in todo].index(name)


def _messages(worker: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    assert worker.stdout is not None
    pending = b""
    while select.select([worker.stdout], [], [], SILENCE)[0]:
        data = os.read(worker.stdout.fileno(), 1 << 16)
        if not data:
            return
        *whole, pending = (pending + data).split(b"\n")
        for line in whole:
            yield json.loads(line)


def _work(job: dict[str, Any]) -> None:
    """In the worker: run the cases, and send a message before and after each."""
    out = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # libraries may print

    def tell(**message: Any) -> None:
        out.write(json.dumps(message) + "\n")
        out.flush()

    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    signal.signal(signal.SIGALRM, _hang)
    by_name = {reader.name: reader for reader in readers(job["group"])}
    for name, first in job["todo"]:
        with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
            bench = Bench(by_name[name], Path(folder), job["seed"])
            for case in range(first, job["end"]):
                tell(reader=name, case=case)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                outcome, detail = bench.try_case(case)
                grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
                if grown > GROWTH_KIB:
                    outcome, detail = "failed", f"took {grown >> 10} MiB more than ever before"
                tell(reader=name, case=case, outcome=outcome, detail=detail)


def _hang(number: int, frame: Any) -> None:
    raise Hang


class Bench:
    """One reader over its valid files; each case damages one of them."""

    def __init__(self, reader: Reader, folder: Path, seed: int) -> None:
        self.reader, self.seed = reader, seed
        self.valid, self.folder = folder / "valid", folder / "case"
        self.valid.mkdir()
        reader.make(self.valid)
        self.targets = sorted(
            path.relative_to(self.valid)
            for pattern in reader.targets
            for path in self.valid.glob(pattern)
            if path.is_file()
        )
        assert self.targets, f"{reader.name}: nothing to damage"
        self.contents = [(self.valid / path).read_bytes() for path in self.targets]
        self._fresh()
        reader.read(self.folder)  # valid files must be accepted

    def damage(self, case: int) -> Path:
        """Damage a file in the folder; the same each time for the same seed and case."""
        dice = random.Random(f"{self.seed}/{self.reader.name}/{case}")
        number = dice.randrange(len(self.targets))
        data = self.contents[number]
        damaged = mutate(data, dice, self.contents, self.reader.text)
        path = self.folder / self.targets[number]
        path.unlink()  # it may be mapped
        path.write_bytes(damaged)
        return path

    def try_case(self, case: int) -> tuple[str, str]:
        """The outcome (accepted, refused or failed), and a message."""
        self._fresh()
        path = self.damage(case)
        signal.alarm(SECONDS)
        try:
            if self.reader.mend is not None:
                with contextlib.suppress(ValueError, TypeError, KeyError, RecursionError):
                    self.reader.mend(path, self.folder)
            first = self.reader.read(self.folder)
            if not self.reader.once and repr(first) != repr(self.reader.read(self.folder)):
                return "failed", "read twice, it was not the same"
            return "accepted", ""
        except DupMAEError as error:
            message = str(error)
            if "\n" in message or len(message) > LONGEST_MESSAGE:
                return "failed", f"a message of {len(message)} characters: {message[:300]!r}"
            return "refused", message
        except Hang:
            return "failed", f"took more than {SECONDS} s: {traceback.format_exc()[-1500:]}"
        except BaseException as error:  # among them what Rust raises when it panics
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            return "failed", traceback.format_exc()[-1500:]
        finally:
            signal.alarm(0)

    def _fresh(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.valid, self.folder)


if __name__ == "__main__":
    _work(json.loads(sys.argv[1]))
