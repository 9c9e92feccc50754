"""An index being changed: its contents, the pending changes, and their commit."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import numpy as np

from dupmae_toolkit.collection.metadata import metadata_text
from dupmae_toolkit.collection.passages import document_of
from dupmae_toolkit.files import atomic_folder, make_folder, remove_leftovers
from dupmae_toolkit.index.deletions import read_deletions, write_deletions
from dupmae_toolkit.index.integrity import Integrity
from dupmae_toolkit.index.layout import (
    DELETIONS_FOLDER,
    DOCUMENTS,
    FORWARD_FOLDER,
    SEGMENTS_FOLDER,
    segment_name,
)
from dupmae_toolkit.index.manifest import (
    FORMAT_VERSION,
    PASSAGES_VERSION,
    Manifest,
    SegmentEntry,
    checksum,
    checksums,
)
from dupmae_toolkit.index.rows import Errors, Rows
from dupmae_toolkit.index.segment import Segment, write_segment
from dupmae_toolkit.index.words import Words
from dupmae_toolkit.locks import remove_folder
from dupmae_toolkit.progress import Progress, silent

Location = tuple[int, int]  #: a segment's position in the manifest, and a row of it
#: Says for each segment which rows a condition holds for, bool [rows].
Where = Callable[[Sequence[Segment]], Sequence[np.ndarray]]


class State:
    """An index that only this process may change. Changes take effect together, in ``commit``."""

    def __init__(self, index: Path, manifest: Manifest) -> None:
        self.index = index
        self.manifest = manifest
        # Data read here is written into new segments, where damage would go unnoticed.
        self._integrity = Integrity(index, manifest.checksums, "full")
        self._open: dict[str, Segment] = {}
        #: The deleted rows by segment name, as they will be after ``commit``.
        self._dead: dict[str, set[int]] = {}
        self._changed: set[str] = set()

    def segment(self, entry: SegmentEntry) -> Segment:
        """A segment, opened once."""
        if entry.name not in self._open:
            self._open[entry.name] = Segment.open(
                self.index / entry.path,
                check=lambda part: self._integrity.read(f"{entry.path}/{part}"),
                shape=self.manifest.shape(entry),
            )
        return self._open[entry.name]

    def dead(self, entry: SegmentEntry) -> set[int]:
        """The deleted rows of a segment, including those that ``commit`` will delete."""
        if entry.name not in self._dead:
            self._integrity.read(entry.deletions)
            rows = read_deletions(self.index, entry)
            self._dead[entry.name] = set() if rows is None else set(rows.tolist())
        return self._dead[entry.name]

    def find(self, name: str) -> Location | None:
        """The location of the live document with this id; None if there is none."""
        for number, entry in enumerate(self.manifest.segments):
            ids = self.segment(entry).ids
            row = bisect_left(ids, name)
            if row < len(ids) and ids[row] == name and row not in self.dead(entry):
                return number, row
        return None

    def locations(self, name: str) -> list[Location]:
        """Where the live document with this id is: of passages several places, or none."""
        if self.manifest.passages is None:
            found = self.find(name)
            return [] if found is None else [found]
        places = []
        for number, entry in enumerate(self.manifest.segments):
            ids = self.segment(entry).ids
            # Those that begin with the id and #; "$" comes after "#".
            for row in range(bisect_left(ids, f"{name}#"), bisect_left(ids, f"{name}$")):
                if document_of(ids[row]) == name and row not in self.dead(entry):
                    places.append((number, row))
        return places

    def documents_at(self, locations: Iterable[Location]) -> set[str]:
        """The ids of the documents that have these rows."""
        entries = self.manifest.segments
        names = {self.segment(entries[number]).ids[row] for number, row in locations}
        return names if self.manifest.passages is None else set(map(document_of, names))

    def matching(self, where: Where) -> list[Location]:
        """The live documents that a condition holds for."""
        entries = self.manifest.segments
        masks = where([self.segment(entry) for entry in entries])
        return [
            (number, row)
            for number, (entry, mask) in enumerate(zip(entries, masks, strict=True))
            for row in np.flatnonzero(mask).tolist()
            if row not in self.dead(entry)
        ]

    def rows(self, number: int) -> Rows:
        """The live documents of a segment, quantised."""
        from scipy.sparse import csr_matrix

        entry = self.manifest.segments[number]
        segment, dead = self.segment(entry), self.dead(entry)
        segment.reads(FORWARD_FOLDER, DOCUMENTS)
        keep = np.array([row for row in range(entry.count) if row not in dead], dtype=np.int64)
        documents = segment.documents.get(keep)
        impacts = csr_matrix(segment.forward.impacts[keep])
        tokens = self.manifest.encoder.vocabulary_size
        words = None
        if self.manifest.bm25 is not None:
            words = Words(
                segment.words, csr_matrix(impacts[:, tokens:]), np.asarray(segment.lengths[keep])
            ).take(slice(None))
        return Rows(
            [document.id for document in documents],
            [document.title for document in documents],
            [document.text for document in documents],
            segment.forward.dense(keep),
            csr_matrix(impacts[:, :tokens]),
            [metadata_text(document.metadata, entry.path, None) for document in documents],
            words,
        )

    def kill(self, locations: Iterable[Location]) -> None:
        """Delete documents at the next ``commit``."""
        for number, row in locations:
            entry = self.manifest.segments[number]
            self.dead(entry).add(row)
            self._changed.add(entry.name)

    def write(self, rows: Rows, errors: Errors, progress: Progress = silent) -> SegmentEntry:
        """Write a new segment. rows: sorted by id, quantised with ``errors``.

        If there are too few vectors for the index's FAISS spec, the segment uses Flat. The segment
        joins the index when ``exchange`` has listed it and ``commit`` has run.
        """
        folder = self.free_folder()
        terms = self.manifest.terms(self.index)
        index_spec = self.manifest.faiss_spec
        with atomic_folder(folder) as temporary:
            spec = write_segment(temporary, rows, terms, [index_spec, "Flat"], progress)
        self.manifest.checksums |= checksums(self.index, folder)
        return SegmentEntry(
            folder.name,
            len(rows),
            int(rows.lexical.nnz),
            errors.tokens,
            faiss_spec="" if spec == index_spec else spec,
            words=len(rows.words.words) if rows.words else 0,
            length=int(rows.words.lengths.sum()) if rows.words else 0,
            word_error=errors.words,
        )

    def exchange(self, old: Collection[int], new: Sequence[SegmentEntry]) -> None:
        """Replace segments, by position, with new ones at the next ``commit``."""
        kept = [e for number, e in enumerate(self.manifest.segments) if number not in old]
        self.manifest.segments = [*kept, *new]

    def commit(self) -> None:
        """Apply all changes at once by writing the manifest; then remove what it does not name."""
        manifest = self.manifest
        manifest.generation += 1
        # An older toolkit may have built the index.
        manifest.format_version = FORMAT_VERSION if manifest.passages is None else PASSAGES_VERSION
        entries = [self._settled(entry) for entry in manifest.segments]
        # Drop segments without a live document, but keep one if there would be none.
        manifest.segments = [entry for entry in entries if entry.live] or entries[:1]
        named = {entry.path for entry in manifest.segments}
        files = {entry.deletions for entry in manifest.segments} | {manifest.vocabulary_file}
        manifest.checksums = {
            name: stated
            for name, stated in sorted(manifest.checksums.items())
            if name in files or "/".join(name.split("/")[:2]) in named
        }
        self._integrity.stated = manifest.checksums
        manifest.save(self.index)
        self._changed.clear()
        names = {entry.name for entry in manifest.segments}
        self._open = {name: segment for name, segment in self._open.items() if name in names}
        self.tidy()

    def _settled(self, entry: SegmentEntry) -> SegmentEntry:
        """The entry with its current deletions, which are written to a file of this generation."""
        if entry.name not in self._changed:
            return entry
        rows = np.array(sorted(self.dead(entry)), dtype=np.int64)
        name = write_deletions(self.index, entry.name, self.manifest.generation, rows)
        self.manifest.checksums[name] = checksum(self.index / name)
        length = int(np.delete(self.segment(entry).lengths, rows).sum())
        return dataclasses.replace(entry, dead=len(rows), deletions=name, length=length)

    def tidy(self) -> None:
        """Remove what the manifest does not name and no process has open."""
        remove_leftovers(self.index)
        segments = make_folder(self.index / SEGMENTS_FOLDER)
        remove_leftovers(segments)
        named = {entry.name for entry in self.manifest.segments}
        for path in segments.iterdir():
            if path.name not in named:
                remove_folder(path, self.index)
        folder = self.index / DELETIONS_FOLDER
        if folder.is_dir():
            remove_leftovers(folder)
            files = {entry.deletions for entry in self.manifest.segments}
            for path in folder.iterdir():
                # Searchers read these files only when they open the index.
                if path.relative_to(self.index).as_posix() not in files:
                    path.unlink(missing_ok=True)

    def free_folder(self) -> Path:
        """The folder for a new segment, numbered above all on disk and all in the manifest.

        So no number is reused while its segment may still be open.
        """
        folder = make_folder(self.index / SEGMENTS_FOLDER)
        names = {path.name for path in folder.iterdir()}
        names |= {entry.name for entry in self.manifest.segments}
        number = max((int(name) for name in names if name.isdigit()), default=0) + 1
        return folder / segment_name(number)
