"""One process at a time in a folder."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dupmae_toolkit.errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no lock
    fcntl = None  # type: ignore[assignment]


@contextlib.contextmanager
def exclusive(folder: Path) -> Iterator[None]:
    """Hold ``folder`` alone, or raise InputError at once when another process holds it.

    The lock is on the folder itself, so no lock file is left in it, and the system releases it when
    the process ends, however it ends. File systems that cannot lock folders go without.
    """
    if fcntl is None:
        yield
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(
                f"{folder}: another process is writing there; wait until it is done, or name "
                "another folder"
            ) from error
        except OSError:
            pass
        yield
    finally:
        os.close(descriptor)
