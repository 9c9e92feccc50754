"""The working files of a build, and whether those of a killed build are reused or removed.

A build works in .building/ and segments/. build.json records what is being built and the names of
its segments. A segment is written under a temporary name, then renamed, then recorded in
segment-NAME.json; so a recorded segment is complete. The manifest is written last, in one step. A
segment that it does not name is not part of the index.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.files import (
    TEMPORARY_PREFIX,
    read_json,
    remove_leftovers,
    sha256_file,
    write_json,
)
from dupmae_toolkit.index import stated
from dupmae_toolkit.index.layout import (
    ADDING_FOLDER,
    BUILDING_FOLDER,
    DELETIONS_FOLDER,
    MANIFEST_FILE,
    PLAN_FILE,
    SEGMENT_NAME,
    SEGMENTS_FOLDER,
    VOCABULARY_FILE,
    VOCABULARY_FILES,
    other_vocabulary_file,
    record_file,
    segment_name,
)
from dupmae_toolkit.index.manifest import FORMAT_VERSION, Manifest
from dupmae_toolkit.locks import remove_folder, unread

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus


def check_target(index: str | Path, overwrite: bool = False) -> None:
    """Raise InputError if no index may be built in this folder; nothing is written.

    A build is allowed where the folder does not exist, is empty, or holds an interrupted build;
    with ``overwrite`` also where it holds an index, damaged or not. An interrupted build may have
    written its manifest already: continuing it then only tidies up.
    """
    index = Path(index)
    if index.exists() and not index.is_dir():
        raise InputError(f"{index}: is a file; name a folder for the index")
    if not index.exists():
        return
    building, segments = (index / name for name in (BUILDING_FOLDER, SEGMENTS_FOLDER))
    if not (index / MANIFEST_FILE).exists():
        ours = building.is_dir() or (overwrite and segments.is_dir())
        foreign = [path for path in index.iterdir() if not path.name.startswith(TEMPORARY_PREFIX)]
        if foreign and not ours and segments.is_dir():
            raise InputError(
                f"{index}: holds segments of an index, and its {MANIFEST_FILE} is missing; pass "
                "--overwrite (overwrite=True) to build over it, or name another folder"
            )
        if foreign and not ours:
            raise InputError(f"{index}: not empty, and not an index; name a new folder")
        return
    if not segments.is_dir():
        raise InputError(f"{index}: its {MANIFEST_FILE} is not an index's; name a new folder")
    if not overwrite:
        live = Manifest.load(index)
        plan = _read_plan(building / PLAN_FILE) or {}
        if plan.get("names") != [segment.name for segment in live.segments]:
            raise InputError(_exists(index, live.documents))


class Staging:
    """The state of one build, in a folder that this process has locked."""

    def __init__(self, index: Path, plan: dict[str, Any], live: Manifest | None) -> None:
        self.index = index
        self.folder = index / BUILDING_FOLDER
        self.segments = index / SEGMENTS_FOLDER
        self.plan = plan
        self.live = live

    @classmethod
    def begin(
        cls, index: Path, encoded: EncodedCorpus, options: dict[str, Any], overwrite: bool
    ) -> Staging:
        """Continue an interrupted build if it is the same one, else start over.

        ``options``: everything that the result depends on besides ``encoded``. Raises InputError
        for an index that may not be replaced.
        """
        live = _live(index, overwrite)
        taken = {segment.name for segment in live.segments} if live else set()
        taken |= _read_by_others(index / SEGMENTS_FOLDER)
        count = -(-len(encoded) // options["segment_size"])
        wanted = {"inputs": _fingerprint(encoded, options), "count": count}
        stored = _read_plan(index / BUILDING_FOLDER / PLAN_FILE)
        same = stored is not None and all(stored.get(key) == wanted[key] for key in wanted)
        names = stored["names"] if same and stored else _free_names(count, taken)
        staging = cls(index, wanted | {"names": names}, live)
        if live and not overwrite and not staging.is_over():
            raise InputError(_exists(index, live.documents))
        if not same:
            staging._forget(taken)
            staging.folder.mkdir(parents=True, exist_ok=True)
            write_json(staging.folder / PLAN_FILE, staging.plan)
        staging.segments.mkdir(exist_ok=True)
        remove_leftovers(index)
        remove_leftovers(staging.segments)
        return staging

    @property
    def names(self) -> list[str]:
        """The names of the segments to build, in order."""
        return self.plan["names"]

    def is_over(self) -> bool:
        """Whether this build has written its manifest already, so that only tidying up is left."""
        return self.live is not None and [s.name for s in self.live.segments] == self.names

    def vocabulary_file(self, digest: str) -> str:
        """VOCABULARY_FILE, unless the index being replaced has another vocabulary of that name."""
        live = self.live
        if live is None:
            return VOCABULARY_FILE
        if live.encoder.vocabulary_sha256 == digest:
            return live.vocabulary_file
        free = live.vocabulary_file != VOCABULARY_FILE
        return VOCABULARY_FILE if free else other_vocabulary_file(digest)

    def record(self, name: str) -> dict[str, Any] | None:
        """The record of a finished segment; None for any other, whose folder is removed."""
        path = self.folder / record_file(name)
        if path.exists() and (self.segments / name).is_dir():
            with contextlib.suppress(InputError, KeyError, TypeError, AttributeError, ValueError):
                record = read_json(path)
                stated.positive(record, "scale")
                stated.integer(record, "count", 1)
                stated.numbers(record["error"])
                stated.numbers(record["word_error"])
                stated.integer(record, "words")
                stated.integer(record, "length")
                if record["mean_length"] is not None:
                    stated.positive(record, "mean_length")
                stated.file_checksums(record["checksums"])
                return record
        path.unlink(missing_ok=True)
        shutil.rmtree(self.segments / name, ignore_errors=True)
        return None

    def finish(self, name: str, record: dict[str, Any]) -> None:
        """Record a segment whose folder has its final name."""
        write_json(self.folder / record_file(name), record)

    def abandon(self) -> None:
        """Remove what this build has made so far, as if it had never begun."""
        self._forget({segment.name for segment in self.live.segments} if self.live else set())
        for folder in (self.folder, self.segments):
            with contextlib.suppress(OSError):
                folder.rmdir()

    def tidy(self, manifest: Manifest) -> None:
        """After the manifest is written: remove what it does not name."""
        kept = {segment.name for segment in manifest.segments}
        for path in self.segments.iterdir():
            if path.name not in kept:
                remove_folder(path, self.index)
        forget_additions(self.index)
        if (self.index / DELETIONS_FOLDER).exists():
            remove_folder(self.index / DELETIONS_FOLDER, self.index)
        for path in self.index.glob(VOCABULARY_FILES):
            if path.name != manifest.vocabulary_file:
                path.unlink()
        # remove_folder renames it first, so that no later run finds half of it.
        if self.folder.exists():
            remove_folder(self.folder, self.index)

    def _forget(self, taken: set[str]) -> None:
        """Remove what another build left, except the encoded corpus, which encoding checks."""
        for path in self.folder.glob("*.json"):
            path.unlink()
        if self.segments.is_dir():
            for path in self.segments.iterdir():
                if path.name not in taken:
                    remove_folder(path, self.index)


def forget_additions(index: Path) -> None:
    """Remove the encoded documents of killed additions; a running addition locks its folder."""
    folder = index / ADDING_FOLDER
    for path in folder.iterdir() if folder.is_dir() else ():
        remove_folder(path, index)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _fingerprint(encoded: EncodedCorpus, options: dict[str, Any]) -> str:
    """A digest of everything that the index depends on."""
    parts = []
    for entry in encoded.manifest["parts"]:
        digest = entry.get("sha256") or sha256_file(encoded.folder / entry["file"])
        parts.append([entry["count"], digest])
    inputs = {
        "format_version": FORMAT_VERSION,
        "encoder": encoded.info.to_dict(),
        "source": encoded.manifest["source"],
        "parts": parts,
        "options": options,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()


def _live(index: Path, overwrite: bool) -> Manifest | None:
    """The manifest in the folder, if any; a damaged one that may be replaced counts as none."""
    if not (index / MANIFEST_FILE).exists():
        return None
    try:
        return Manifest.load(index)
    except InputError:
        if overwrite:
            return None
        raise


def _read_plan(path: Path) -> dict[str, Any] | None:
    if not path.exists():
        return None
    try:
        plan = read_json(path)
    except InputError:
        return None
    names = plan.get("names") if isinstance(plan, dict) else None
    # Folders of these names may be removed, so the names must be those of segments.
    valid = isinstance(names, list) and all(
        isinstance(name, str) and SEGMENT_NAME.fullmatch(name) for name in names
    )
    return plan if valid and len(set(names or ())) == plan.get("count") else None


def _free_names(count: int, taken: set[str]) -> list[str]:
    """The lowest segment names that are not taken."""
    names: list[str] = []
    number = 0
    while len(names) < count:
        number += 1
        if segment_name(number) not in taken:
            names.append(segment_name(number))
    return names


def _read_by_others(segments: Path) -> set[str]:
    """The names of segments that a process has open, of this index or one that it replaced."""
    found = set()
    for path in segments.iterdir() if segments.is_dir() else ():
        with unread(path) as free:
            if not free:
                found.add(path.name)
    return found


def _exists(index: Path, count: int) -> str:
    return (
        f"{index}: already holds an index of {counted(count, 'document')}; "
        "pass --overwrite (overwrite=True) to replace it, or name another folder"
    )
