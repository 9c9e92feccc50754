"""What a reader is to the fuzzer, and the readers of all groups by name."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Modules of readers, from the quickest to start to the slowest; each is run in its own process.
GROUPS = ("texts", "encoded", "indexes", "models")


@dataclass(frozen=True, slots=True)
class Reader:
    """Something that reads files.

    make: writes valid files into an empty folder. targets: patterns for the files to damage; each
    case damages one. read: reads the folder and returns what it got, in a form that can be
    compared. It raises DupMAEError for what it refuses, and AssertionError if it accepted what
    cannot be right. mend: makes a damaged file pass its checksum, so that the code behind this
    check is reached too. text: whether the files have tokens to swap. once: whether reading
    changes the folder, so that it cannot be read twice.
    """

    name: str
    make: Callable[[Path], None]
    targets: Sequence[str]
    read: Callable[[Path], Any]
    mend: Callable[[Path, Path], None] | None = None
    text: bool = True
    once: bool = False


def readers(group: str) -> list[Reader]:
    """The readers of one group."""
    return importlib.import_module(f"tests.fuzz.{group}").READERS


def names() -> dict[str, str]:
    """The group of every reader, by the reader's name."""
    return {reader.name: group for group in GROUPS for reader in readers(group)}
