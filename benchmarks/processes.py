"""Runs commands in their own processes; returns their output, time and peak memory."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.rows import NoPeerError


@dataclass(frozen=True, slots=True)
class Finished:
    """stdout, seconds of wall-clock time, and peak resident memory in MiB."""

    output: str
    seconds: float
    peak_mib: float


def run_python(words: Sequence[str], **environment: str) -> Finished:
    """Run this Python with ``words``. Raises NoPeerError, with its last line, if it fails.

    On Linux the peak of the parent process counts too, until the new process exceeds it; so call
    this from a small process. Not for Windows, which has no ``wait4``.
    """
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, *words], stdout=out, stderr=err, env=os.environ | environment
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = code = os.waitstatus_to_exitcode(status)
        out.seek(0)
        if code:
            err.seek(0)
            lines = err.read().strip().splitlines() or ["no output"]
            raise NoPeerError(f"a process ended with {code}: {lines[-1][:200]}")
        return Finished(out.read(), seconds, usage.ru_maxrss / _UNITS_PER_MIB)


#: Linux counts in KiB, macOS in bytes.
_UNITS_PER_MIB = 2**20 if sys.platform == "darwin" else 2**10


def resident_mib() -> float:
    """The resident memory of this process, with its mapped files; 0 if unknown."""
    try:
        import psutil
    except ImportError:
        return 0.0
    return psutil.Process().memory_info().rss / 2**20
