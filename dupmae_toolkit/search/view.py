"""One state of an index, opened for searching, whatever happens to the index meanwhile.

The segments of a state are held against removal, and neither they nor the files that name deleted
rows ever change; so what is open stays as it is while another process adds, deletes or merges.
"""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.integrity import Integrity
from dupmae_toolkit.index.joined import Joined, small_ones
from dupmae_toolkit.index.manifest import SEGMENTS_FOLDER, Manifest, SegmentEntry
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.locks import share
from dupmae_toolkit.records import Document
from dupmae_toolkit.search.agreeing import AgreeingSegment
from dupmae_toolkit.search.engine import Engine
from dupmae_toolkit.search.legs import DenseLeg, LexicalLeg
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.postings import MOST_POSTINGS
from dupmae_toolkit.search.shards import Shards

#: How often a state may change between reading what it is and opening it, before that is an error.
_ATTEMPTS = 20


class View:
    """The documents of one manifest: their segments, their numbers, and an engine for each mode."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        pool: ThreadPoolExecutor,
        before: View | None = None,
        most_postings: int = MOST_POSTINGS,
        check: str = "quick",
    ) -> None:
        """before: a view whose open segments are used again where they are the same.

        most_postings: so many are held in memory at most; Lucene serves the rest. check: how files
        are looked at, one of ``integrity.LEVELS``. Both are those of ``before``, if it is given.
        """
        self._most_postings: int = before._most_postings if before else most_postings
        self.path = path
        self.manifest = manifest
        self._pool = pool
        self._lock = threading.RLock()
        self._engines: dict[str, Engine] = {}
        self._holds: list[int] = []
        self._integrity: Integrity = Integrity(
            path, manifest.checksums, before._integrity.level if before else check
        )
        # An index that was built anew may have another vocabulary.
        digest = manifest.encoder.vocabulary_sha256
        if before is not None and before.manifest.encoder.vocabulary_sha256 == digest:
            self._terms: list[str] = before._terms
        else:
            self._integrity.read(manifest.vocabulary_file)
            self._terms = lucene_terms(manifest.vocabulary(path))
        self._shards: Shards = before._shards if before else Shards()
        held = {} if before is None else before._by_name()
        try:
            self.segments = [self._open(entry, held) for entry in manifest.segments]
            for entry in manifest.segments:
                self._integrity.read(entry.deletions)
            dead = [read_deletions(path, entry) for entry in manifest.segments]
        except BaseException:
            self.release()
            raise
        small = small_ones(manifest, self._most_postings)
        rest = [number for number in range(len(dead)) if number not in small]
        #: What the legs search and what documents are numbered by: the small segments are one.
        self.parts: list[Segment | Joined] = [self.segments[number] for number in rest]
        dead_parts = [dead[number] for number in rest]
        if small:
            joined = Joined([self.segments[n] for n in small], [dead[n] for n in small])
            self.parts, dead_parts = [*self.parts, joined], [*dead_parts, None]
        self.numbering = Numbering([part.ids for part in self.parts], dead_parts)

    @classmethod
    def newest(
        cls,
        path: Path,
        pool: ThreadPoolExecutor,
        before: View | None = None,
        most_postings: int = MOST_POSTINGS,
        check: str = "quick",
    ) -> tuple[View, bool]:
        """The state that the manifest names now, and whether it is another than ``before``."""
        for _ in range(_ATTEMPTS):
            manifest = Manifest.load(path)
            if before is not None and manifest == before.manifest:
                return before, False
            try:
                return cls(path, manifest, pool, before, most_postings, check), True
            except InputError:
                # Removed behind our back, or truly damaged: the manifest tells.
                if Manifest.load(path) == manifest:
                    raise
        raise InputError(f"{path}: changes faster than it can be opened; try again")

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return self.numbering.searchable

    def engine(self, mode: str) -> Engine:
        """The engine of a mode; a dense search starts no Java."""
        with self._lock:
            if mode not in self._engines:
                dense = lexical = None
                if mode != "lexical":
                    dense = DenseLeg(self.numbering, self._shards.dense(self.parts))
                if mode != "dense":
                    shards = self._shards.lexical(self.parts, self._most_postings)
                    lexical = LexicalLeg(self.numbering, shards, self.manifest.scale)
                self._engines[mode] = Engine(self.numbering, dense, lexical, self._pool)
            return self._engines[mode]

    def warm(self) -> None:
        """Read what the legs need, and prepare it for queries that come one by one."""
        self.engine("hybrid")
        for shard in self._shards.dense(self.parts):
            shard.warm()

    def documents(self, numbers: np.ndarray) -> list[Document]:
        """The documents of these numbers, in the order asked for."""
        found: list[Document | None] = [None] * len(numbers)
        for segment, where, rows in self.numbering.by_segment(numbers):
            documents = self.parts[segment].documents.get(rows)
            for place, document in zip(where.tolist(), documents, strict=True):
                found[place] = document
        return [document for document in found if document is not None]

    def release(self) -> None:
        """Let the segments be removed; what is open of them can still be read where it is."""
        while self._holds:
            os.close(self._holds.pop())

    def close(self) -> None:
        """Release, and let Lucene's files go; nothing can be searched afterwards."""
        with self._lock:
            for segment in self.segments:
                segment.close()
            self._engines.clear()
            self.release()

    def __del__(self) -> None:
        if os is not None:  # the interpreter may be on its way out
            self.release()

    def _by_name(self) -> dict[str, Segment]:
        names = [entry.name for entry in self.manifest.segments]
        return dict(zip(names, self.segments, strict=True))

    def _open(self, entry: SegmentEntry, held: dict[str, Segment]) -> Segment:
        folder = self.manifest.segment_folder(self.path, entry)
        hold = share(folder)
        if hold is None:
            raise InputError(f"{folder}: no such folder; the index is not whole")
        self._holds.append(hold)
        if entry.name in held:
            return held[entry.name]
        name = f"{SEGMENTS_FOLDER}/{entry.name}"
        self._integrity.opened(name)
        integrity = self._integrity
        segment = AgreeingSegment(
            folder,
            self._terms,
            self.manifest.encoder.dense_dim,
            lambda part: integrity.read(f"{name}/{part}"),
        )
        segment.check_ids(entry.count, ordered=integrity.level != "sizes")
        return segment
