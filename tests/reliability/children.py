"""Child processes that are killed, or find the disk full, at a call that touches the disk."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import random
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import faiss
import numpy as np
import pyarrow.parquet as pq

#: Calls that change what is on the disk.
STEPS: tuple[tuple[Any, str], ...] = (
    *((os, name) for name in ("replace", "rename", "unlink", "rmdir", "mkdir", "fsync")),
    *((tempfile, name) for name in ("mkdtemp", "mkstemp")),
    (shutil, "rmtree"),
    (faiss, "write_index"),
    (np, "save"),
    (pq, "write_table"),
)
#: Those of the calls that need room on the disk.
WRITES = {"mkdir", "fsync", "mkdtemp", "mkstemp", "write_index", "save", "write_table"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a child ended.

    code: 0 if it is done, 1 for an error, negative for a signal. value: what its task returned.
    acknowledged: whether the task returned, whatever happened to the child afterwards.
    """

    code: int
    acknowledged: bool
    value: Any = None
    kind: str = ""
    message: str = ""


def run_child(
    task: Callable[[], Any], *, kill_after: float | None = None, timeout: float = 120.0
) -> Outcome:
    """Run ``task``, which must return what JSON can hold, in a fork.

    The fork is killed after ``kill_after`` seconds, or after ``timeout`` if that is None.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(reading)
        os._exit(_work(task, writing))
    os.close(writing)
    kill_at = time.monotonic() + (timeout if kill_after is None else kill_after)
    chunks = []
    os.set_blocking(reading, False)
    while True:
        with contextlib.suppress(BlockingIOError):
            while data := os.read(reading, 1 << 16):
                chunks.append(data)
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            break
        if time.monotonic() >= kill_at:
            os.kill(child, signal.SIGKILL)
            kill_at = float("inf")
        time.sleep(0.0005)
    with contextlib.suppress(BlockingIOError):
        while data := os.read(reading, 1 << 16):
            chunks.append(data)
    os.close(reading)
    code = os.waitstatus_to_exitcode(status)
    text = b"".join(chunks).decode()
    said = json.loads(text) if text.endswith("\n") else {}
    done = "value" in said
    return Outcome(code, done, said.get("value"), said.get("kind", ""), said.get("message", ""))


def _work(task: Callable[[], Any], writing: int) -> int:
    try:
        said, code = {"value": task()}, 0
    except BaseException as error:
        kinds = [kind.__name__ for kind in type(error).__mro__]
        said, code = {"kind": " ".join(kinds), "message": str(error)}, 1
    data = (json.dumps(said) + "\n").encode()
    while data:
        data = data[os.write(writing, data) :]
    return code


class Doom:
    """Counts the steps of this process, and acts just before the given one; 0: only counts.

    act: None to kill the process, else the number of the error that the step fails with.
    synced: a file in which everything flushed to the disk is noted, for ``cut_power``.
    """

    def __init__(self, step: int, act: int | None = None, synced: Path | None = None) -> None:
        self.left = step
        self.count = 0
        self._act = act
        self._log = None if synced is None else os.open(synced, os.O_WRONLY | os.O_CREAT)
        for module, name in STEPS:
            if act is None or name in WRITES:
                setattr(module, name, self._wrapped(name, getattr(module, name)))

    def _wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            self.count += 1
            self.left -= 1
            if self.left == 0:
                if self._act is None:
                    os.kill(os.getpid(), signal.SIGKILL)
                raise OSError(self._act, os.strerror(self._act))
            if name != "fsync":
                return function(*arguments, **options)
            # A flush is noted instead of made: what is tested here is not the disk.
            if self._log is not None:
                os.write(self._log, (_mark(os.fstat(arguments[0])) + "\n").encode())
            return None

        return call


def full(step: int) -> Doom:
    return Doom(step, errno.ENOSPC)


def cut_power(folder: Path, synced: Path, before: set[str], dice: random.Random) -> int:
    """Truncate files that were neither there ``before`` nor flushed since; returns how many."""
    safe = before | set(synced.read_text().split("\n") if synced.exists() else [])
    cut = 0
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink() and _mark(path.stat()) not in safe:
            size = path.stat().st_size
            os.truncate(path, dice.choice([0, size // 2, max(0, size - 1)]))
            cut += size > 0
    return cut


def marks(folder: Path) -> set[str]:
    """The files that are there, as ``cut_power`` identifies them."""
    return {_mark(path.stat()) for path in folder.rglob("*") if path.is_file()}


def _mark(status: os.stat_result) -> str:
    return f"{status.st_ino}-{status.st_size}-{status.st_mtime_ns}"


@contextlib.contextmanager
def scratch(place: Path | None = None) -> Iterator[Path]:
    """A temporary folder for a run; it is removed afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="dupmae-reliability-", dir=place))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
