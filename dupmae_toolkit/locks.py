"""Locks on folders: one writer at a time, and readers that keep a folder from being removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from dupmae_toolkit.errors import BusyError
from dupmae_toolkit.files import TEMPORARY_PREFIX, fsync_path, make_folder

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive(folder: Path, wait: float = 0.0) -> Iterator[int | None]:
    """Lock ``folder`` exclusively; raise BusyError if it is still locked after ``wait`` seconds.

    Yields a descriptor of the locked folder; None on Windows, which has no such locks.

    The lock is on the folder itself, so it leaves no lock file, and the system releases it when the
    process ends for any reason. On file systems that cannot lock folders nothing is locked.
    """
    if fcntl is None:
        yield None
        return
    descriptor = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + wait
    try:
        while not _locked(descriptor, fcntl.LOCK_EX):
            if time.monotonic() >= until:
                raise BusyError.at(
                    folder,
                    None,
                    f"another process is writing there{_owner(descriptor)}; wait until "
                    "it is done, or name another folder",
                )
            time.sleep(0.02)
        yield descriptor
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def working_in(folder: Path, wait: float = 0.0) -> Iterator[None]:
    """Create ``folder`` if it is missing and lock it as ``exclusive`` does.

    The folder exists until the block ends: ``remove_folder`` leaves locked folders alone.
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError:  # its parent was removed meanwhile
                continue
            except OSError:
                make_folder(folder)  # raises the error as one line
            with contextlib.suppress(FileNotFoundError):
                held = stack.enter_context(exclusive(folder, wait))
                # Another process may have removed it before it was locked.
                if held is None or os.path.samestat(os.stat(folder), os.fstat(held)):
                    break
            stack.close()
        yield


def _locked(descriptor: int, kind: int) -> bool:
    """Try to take a lock without waiting; True also if folders cannot be locked here."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _owner(descriptor: int) -> str:
    """Which process holds the lock, as " (1234: dupmae index …)"; "" if unknown. Linux only."""
    try:
        status = os.fstat(descriptor)
        inode = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
        for line in Path("/proc/locks").read_text().splitlines():
            words = line.split()
            if "FLOCK" in words and "WRITE" in words and inode in words and "->" not in words:
                process = words[words.index("WRITE") + 1]
                command = Path(f"/proc/{process}/cmdline").read_bytes().replace(b"\0", b" ")
                text = " ".join(command.decode("utf-8", "replace").split())
                return f" ({process}: {text[:80]})"
    except (OSError, ValueError, IndexError):
        pass
    return ""


def share(folder: Path) -> int | None:
    """Lock ``folder`` as one of many readers; closing the returned descriptor releases the lock.

    None if the folder is gone or being removed, since removing takes an exclusive lock. If folders
    cannot be locked, the descriptor locks nothing.
    """
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY) if folder.is_dir() else None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    # The folder may be renamed between opening and locking.
    if _locked(descriptor, fcntl.LOCK_SH):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def unread(folder: Path) -> Iterator[bool]:
    """Whether no process holds ``folder`` by ``share``; if so, none can until the block ends."""
    if fcntl is None:
        yield True
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        yield False
        return
    try:
        yield _locked(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(descriptor)


def remove_folder(path: Path, within: Path) -> bool:
    """Remove a folder, unless a reader holds it, or a file; return whether it is gone.

    A folder first moves to a temporary name in ``within``, so that nobody sees it half-removed.
    """
    if not path.is_dir() or path.is_symlink():
        path.unlink(missing_ok=True)
        return True
    with unread(path) as free:
        if not free:
            return False
        trash = Path(tempfile.mkdtemp(dir=within, prefix=TEMPORARY_PREFIX))
        path.rename(trash / "removed")
        fsync_path(within)
    shutil.rmtree(trash, ignore_errors=True)
    return True
