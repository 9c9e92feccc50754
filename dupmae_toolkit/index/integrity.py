"""Files that are used are as they were written, or it is said; at what it costs to look.

The manifest states the size and the SHA-256 of every file. Sizes cost next to nothing. Contents are
looked at where the file is small, and where it is read to its end anyway; larger files that are
mapped into memory and read here and there are left to ``dupmae verify``, unless all is asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import wrong_contents
from dupmae_toolkit.index.dense import look_at_faiss
from dupmae_toolkit.index.forward import IMPACT_FILES
from dupmae_toolkit.index.manifest import MANIFEST_FILE
from dupmae_toolkit.index.problems import (
    DENSE,
    DOCUMENTS,
    IDS,
    LUCENE,
    VECTORS,
    way_out,
    wrong_size,
)
from dupmae_toolkit.index.segment import FAISS_FOLDER, FORWARD_FOLDER

#: Bytes; the contents of files up to this size are looked at when the index is opened.
SMALL = 1 << 20
#: sizes: of all files. quick: contents too, of small files and of those that are read whole, when
#: they are. full: contents of all files, on opening.
LEVELS = ("sizes", "quick", "full")


class Integrity:
    """What one manifest states of an index's files; the contents of each are looked at once.

    Only files that it states are used: for others nothing vouches.
    """

    def __init__(
        self, index: Path, stated: Mapping[str, dict[str, Any]], level: str = "quick"
    ) -> None:
        if level not in LEVELS:
            raise InputError(f"there is no check {level!r}; choose one of {', '.join(LEVELS)}")
        self.level = level
        self.stated = stated
        self._index = Path(index)
        self._seen: set[str] = set()

    def opened(self, folder: str) -> None:
        """Look at the files of a segment; ``folder``: its path, relative to the index.

        InputError names the first that is missing, has another size or, as far as the level asks
        for it, other contents; one that would be used and is not stated; and vectors of another
        length than another segment's. Unless all is asked for, texts are looked at when they are
        read: an index that lost them can still rank.
        """
        for name in self.stated:
            if name.startswith(f"{folder}/") and (self.level == "full" or not _is_texts(name)):
                self._look(name)
        for name in self._used(folder):
            self._entry(name)
        self._compare_lengths(folder)

    def read(self, name: str) -> None:
        """Look at a file that is about to be read, and at its contents, if they are to be.

        Of texts only some are read, and the pages of their file have checksums of their own: its
        contents are looked at like those of a file that is mapped. An empty name is no file's.
        """
        if name:
            self._look(name, whole=not _is_texts(name))

    def _look(self, name: str, whole: bool = False) -> None:
        if name in self._seen:
            return
        stated, path = self._entry(name), self._index / name
        message = wrong_size(path, stated)
        small = int(stated["bytes"]) <= SMALL
        if not message and (self.level == "full" or (self.level == "quick" and (whole or small))):
            message = wrong_contents(path, stated["sha256"])
            if not message:
                self._seen.add(name)
        if message:
            raise InputError(f"{path}: {message}; {way_out(name)}")

    def _entry(self, name: str) -> dict[str, Any]:
        if name not in self.stated:
            raise InputError(
                f"{self._index / MANIFEST_FILE}: has no checksum of {name}, which is therefore "
                "not used; run `dupmae verify` on the index"
            )
        return self.stated[name]

    def _used(self, folder: str) -> Iterator[str]:
        """The files that a segment is made of, and those that Lucene would take for its own."""
        yield from (f"{folder}/{part}" for part in (IDS, VECTORS, DOCUMENTS))
        yield from (f"{folder}/{FORWARD_FOLDER}/{name}" for name in IMPACT_FILES)
        if not look_at_faiss(self._index / folder / FAISS_FOLDER)[0]:
            yield f"{folder}/{DENSE}"
        for path in sorted((self._index / folder / LUCENE).glob("*")):
            if path.name.startswith(("segments_", "_")):
                yield path.relative_to(self._index).as_posix()

    def _compare_lengths(self, folder: str) -> None:
        """Vectors of segments are put side by side; these are compared with the first one's."""
        first = next(name for name in self.stated if name.endswith(f"/{VECTORS}"))
        first = first.removesuffix(f"/{VECTORS}")
        own, other = (
            look_at_faiss(self._index / each / FAISS_FOLDER)[1] for each in (folder, first)
        )
        if own != other:
            raise InputError(
                f"{self._index / folder}: its vectors have {own} dimensions, those of {first} "
                f"{other}; run `dupmae verify` on the index"
            )


def _is_texts(name: str) -> bool:
    return name.endswith(f"/{DOCUMENTS}")
