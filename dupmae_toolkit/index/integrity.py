"""Checks sizes and checksums against the manifest when files are opened.

The manifest states the size and the SHA-256 of every file. Sizes are compared when the index is
opened, except those of texts, which are checked when first read. Contents are compared where a file
is small or read whole anyway. Larger files, which are mapped into memory and read in places, are
left to ``dupmae verify``, unless a full check is asked for.

What else happens to a damaged index: `health/__init__.py`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import wrong_contents
from dupmae_toolkit.index.dense import read_header
from dupmae_toolkit.index.layout import (
    ADDED_FILES,
    DELETIONS_FOLDER,
    DENSE,
    DOCUMENTS,
    FAISS_FOLDER,
    FORWARD_FOLDER,
    IDS,
    IMPACT_FILES,
    LUCENE_FOLDER,
    MANIFEST_FILE,
    VECTORS,
)
from dupmae_toolkit.index.manifest import REBUILD

#: Bytes; the contents of files up to this size are compared when the index is opened.
SMALL = 1 << 20
#: sizes: only the sizes of files. quick: also the contents of small files, and of others when they
#: are read whole. full: the contents of all files, when the index is opened.
LEVELS = ("sizes", "quick", "full")
REPAIR = "run `dupmae verify --repair`"


class Integrity:
    """Checks an index's files against one manifest; the contents of each file only once.

    A file that the manifest does not name is refused.
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
        """Check the files of a segment; ``folder``: its path, relative to the index.

        Raises InputError for the first file that is missing or has the wrong size or, if the level
        includes them, the wrong contents; for a file that would be used but is not in the manifest;
        and for vectors of another length than another segment's. Except in a full check, texts are
        checked only when they are read: an index that lost them can still rank.
        """
        for name in self.stated:
            if name.startswith(f"{folder}/") and (self.level == "full" or not _is_texts(name)):
                self._check(name)
        for name in self._used(folder):
            self._entry(name)
        self._compare_lengths(folder)

    def read(self, name: str) -> None:
        """Check a file that is about to be read whole; nothing for an empty name.

        Texts are checked like a mapped file: only some rows are read, and each page of their file
        has a checksum of its own.
        """
        if name:
            self._check(name, whole=not _is_texts(name))

    def _check(self, name: str, whole: bool = False) -> None:
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
                f"{self._index / MANIFEST_FILE}: has no checksum of {name}, so that file is not "
                "used; run `dupmae verify` on the index"
            )
        return self.stated[name]

    def _used(self, folder: str) -> Iterator[str]:
        """The files that a segment consists of, and those that Lucene would read as its own."""
        yield from (f"{folder}/{part}" for part in (IDS, VECTORS, DOCUMENTS))
        yield from (f"{folder}/{FORWARD_FOLDER}/{name}" for name in IMPACT_FILES)
        for name in ADDED_FILES:
            if (self._index / folder / FORWARD_FOLDER / name).exists():
                yield f"{folder}/{FORWARD_FOLDER}/{name}"
        if not read_header(self._index / folder / FAISS_FOLDER)[0]:
            yield f"{folder}/{DENSE}"
        for path in sorted((self._index / folder / LUCENE_FOLDER).glob("*")):
            if path.name.startswith(("segments_", "_")):
                yield path.relative_to(self._index).as_posix()

    def _compare_lengths(self, folder: str) -> None:
        """Compare the vectors' length with the first segment's: all vectors are concatenated."""
        first = next(name for name in self.stated if name.endswith(f"/{VECTORS}"))
        first = first.removesuffix(f"/{VECTORS}")
        length, expected = (
            read_header(self._index / each / FAISS_FOLDER)[1] for each in (folder, first)
        )
        if length != expected:
            raise InputError(
                f"{self._index / folder}: its vectors have {length} dimensions, those of {first} "
                f"{expected}; run `dupmae verify` on the index"
            )


def wrong_size(path: Path, stated: dict[str, Any]) -> str:
    """What is wrong with a file's size, "" if nothing; ``stated``: its entry in the manifest."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size != stated["bytes"]:
        return f"has {size:,} bytes instead of {stated['bytes']:,}"
    return ""


def way_out(name: str) -> str:
    """What to do about a file that is damaged; ``name``: its path relative to the index."""
    if name.startswith(f"{DELETIONS_FOLDER}/"):
        return (
            "no other file records which documents were deleted: restore it from a copy, or "
            f"{REBUILD}"
        )
    if _is_texts(name):
        return (
            "no other file holds its texts: restore it from a copy, or add its documents again "
            "with --replace (replace=True)"
        )
    return REPAIR


def _is_texts(name: str) -> bool:
    return name.endswith(f"/{DOCUMENTS}")
