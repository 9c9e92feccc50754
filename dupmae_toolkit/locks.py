"""One process at a time in a folder."""

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
    """Hold ``folder`` alone; raise BusyError when another process holds it for ``wait`` seconds.

    Gives a descriptor of the folder that is held, where there are locks.

    The lock is on the folder itself, so no lock file is left in it, and the system releases it when
    the process ends, however it ends. File systems that cannot lock folders go without.
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
    """Hold ``folder`` alone, as ``exclusive`` does, and make it where it is not there.

    It stays until this is over: ``remove_folder`` passes over what is held.
    """
    with contextlib.ExitStack() as stack:
        while True:
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except FileNotFoundError:  # its parent was removed between the two
                continue
            except OSError:
                make_folder(folder)  # says in one line why it cannot be
            with contextlib.suppress(FileNotFoundError):
                held = stack.enter_context(exclusive(folder, wait))
                # Somebody may have removed it between its making and its locking.
                if held is None or os.path.samestat(os.stat(folder), os.fstat(held)):
                    break
            stack.close()
        yield


def _locked(descriptor: int, kind: int) -> bool:
    """Whether a lock could be taken at once; true as well where folders cannot be locked."""
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return True


def _owner(descriptor: int) -> str:
    """Who holds the lock, " (1234: dupmae index …)", where the system tells; Linux does."""
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
    """Hold ``folder`` together with other readers; returns a descriptor whose closing ends it.

    None if the folder is gone, or on its way out: whoever removes one holds it alone. Where folders
    cannot be locked the descriptor holds nothing.
    """
    if fcntl is None:
        return os.open(os.devnull, os.O_RDONLY) if folder.is_dir() else None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    # It may have lost its name between the two steps.
    if _locked(descriptor, fcntl.LOCK_SH):
        with contextlib.suppress(OSError):
            if os.path.samestat(os.stat(folder), os.fstat(descriptor)):
                return descriptor
    os.close(descriptor)
    return None


@contextlib.contextmanager
def unread(folder: Path) -> Iterator[bool]:
    """Whether no process holds ``folder`` by ``share``; if so none can until this is over."""
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
    """Remove a folder, or a file, unless somebody reads it; returns whether it is gone.

    It first moves under a temporary name in ``within``, so that none is seen half-removed.
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
