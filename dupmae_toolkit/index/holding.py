"""Holds an index as it is while it is read, whatever other processes change."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.locks import share

#: How often to try again if the index changes between reading its manifest and opening it.
_ATTEMPTS = 20


@contextlib.contextmanager
def held(index: Path) -> Iterator[Manifest]:
    """The manifest of an index, whose segments no process can remove until the block ends.

    Raises InputError for what is not an index.
    """
    with contextlib.ExitStack() as stack:
        for _ in range(_ATTEMPTS):
            manifest = Manifest.load(index)
            locks = [share(index / entry.path) for entry in manifest.segments]
            for lock in locks:
                if lock is not None:
                    stack.callback(os.close, lock)
            if None not in locks:
                break
            stack.close()
            if Manifest.load(index) == manifest:
                raise InputError.at(
                    index, None, "a segment of it is missing", "run `dupmae verify` on it"
                )
        else:
            raise InputError.at(index, None, "keeps changing; wait until no process changes it")
        yield manifest
