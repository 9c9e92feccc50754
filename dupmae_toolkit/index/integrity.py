"""Files that are used are as they were written, or it is said; at what it costs to look.

The manifest states the size and the SHA-256 of every file. Sizes cost next to nothing. Contents are
looked at where the file is small, and where it is read to its end anyway; larger files that are
mapped into memory and read here and there are left to ``dupmae verify``, unless all is asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index.problems import way_out, wrong_size

#: Bytes; the contents of files up to this size are looked at when the index is opened.
SMALL = 1 << 20
#: sizes: of all files. quick: contents too, of small files and of those that are read whole, when
#: they are. full: contents of all files, on opening.
LEVELS = ("sizes", "quick", "full")


class Integrity:
    """What one manifest states of an index's files; the contents of each are looked at once."""

    def __init__(
        self, index: Path, stated: Mapping[str, dict[str, Any]], level: str = "quick"
    ) -> None:
        if level not in LEVELS:
            raise InputError(f"there is no check {level!r}; choose one of {', '.join(LEVELS)}")
        self.level = level
        self._index = Path(index)
        self._stated = stated
        self._seen: set[str] = set()

    def opened(self, folder: str) -> None:
        """Look at the files under ``folder``, relative to the index; InputError names the first
        that is missing, has another size or, as far as the level asks for it, other contents."""
        for name, stated in self._stated.items():
            if not name.startswith(f"{folder}/"):
                continue
            message = wrong_size(self._index / name, stated)
            if message:
                raise InputError(f"{self._index / name}: {message}; {way_out(name)}")
            if self.level == "full" or int(stated["bytes"]) <= SMALL:
                self.read(name)

    def read(self, name: str) -> None:
        """Look at the contents of a file that is about to be read whole, if they are to be."""
        if self.level == "sizes" or name in self._seen or name not in self._stated:
            return
        path = self._index / name
        try:
            same = sha256_file(path) == self._stated[name]["sha256"]
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from error
        if not same:
            raise InputError(
                f"{path}: was changed or damaged (its checksum differs); {way_out(name)}"
            )
        self._seen.add(name)
