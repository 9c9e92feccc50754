"""How the tests run: where their files lie, how threads wait; and fixtures that files share."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

import pytest

#: Room that the tests' files may need.
_ROOM = 2 << 30


def pytest_configure(config: pytest.Config) -> None:
    """Let the tests' files lie in memory, where a disk makes every removed folder wait.

    Only where there is room, and nobody said by ``TMPDIR`` or ``--basetemp`` where they shall lie.
    """
    # Each of two processes has a thread for each core. Threads that wait by spinning would keep the
    # other process from the core, and trainings would take three times as long.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    memory = Path("/dev/shm")
    if "TMPDIR" in os.environ or config.getoption("basetemp") or not os.access(memory, os.W_OK):
        return
    noexec = os.statvfs(memory).f_flag & os.ST_NOEXEC  # some tests write programs
    if noexec or shutil.disk_usage(memory).free < _ROOM:
        return
    for left in memory.glob("dupmae-tests-*"):  # by a run that was killed
        if not Path(f"/proc/{left.name.split('-')[2]}").exists():
            shutil.rmtree(left, ignore_errors=True)
    folder = tempfile.mkdtemp(prefix=f"dupmae-tests-{os.getpid()}-", dir=memory)
    # Processes that tests start inherit it, and so do the workers of xdist.
    os.environ["TMPDIR"] = tempfile.tempdir = folder
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.fixture
def quick_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waiting for the disk takes most of the time where indexes are built, and no machine loses
    its power here."""
    monkeypatch.setattr(os, "fsync", lambda _: None)
