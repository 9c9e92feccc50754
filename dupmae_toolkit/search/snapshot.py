"""One state of an index, opened for searching, that stays the same while the index changes.

A snapshot's segments are locked against removal. Neither they nor the files that name deleted rows
ever change, so other processes may add, delete and merge meanwhile.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from dupmae_toolkit.collection.passages import as_passage, whole
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.forward import check_columns
from dupmae_toolkit.index.integrity import Integrity
from dupmae_toolkit.index.joined import Joined, small_ones
from dupmae_toolkit.index.layout import FORWARD_FOLDER
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.locks import share
from dupmae_toolkit.progress import Progress
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.search.answers import Answer, Request
from dupmae_toolkit.search.dense import DenseLeg, DenseShard, dense_shard
from dupmae_toolkit.search.engine import Engine
from dupmae_toolkit.search.frequencies import Frequencies
from dupmae_toolkit.search.inputs import leg_inputs
from dupmae_toolkit.search.lexical import (
    MAX_POSTINGS,
    LexicalLeg,
    LexicalShard,
    LuceneShard,
    Postings,
)
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.passage_map import PassageMap
from dupmae_toolkit.search.passages import DocumentSearch
from dupmae_toolkit.search.ranking import Leg
from dupmae_toolkit.search.selection import Few, FewEngine, Selection, Selections
from dupmae_toolkit.search.words import WordLeg

#: How often to try again if the index changes between reading its manifest and opening it.
_ATTEMPTS = 20
_ROWS = 4096  # documents that are read together


class Snapshot:
    """The documents of one manifest: their segments, their numbers, and an engine for each mode."""

    def __init__(
        self,
        path: Path,
        manifest: Manifest,
        pool: ThreadPoolExecutor,
        before: Snapshot | None = None,
        max_postings: int = MAX_POSTINGS,
        check: str = "quick",
    ) -> None:
        """before: a snapshot whose open segments are reused where they are the same.

        max_postings: how many may be held in memory; Lucene searches the others. check: how files
        are checked, one of ``integrity.LEVELS``. If ``before`` is given, both are as there.
        """
        self._max_postings: int = before._max_postings if before else max_postings
        self.path = path
        self.manifest = manifest
        self._pool = pool
        self._lock = threading.RLock()
        self._engines: dict[tuple[str, ...], Engine] = {}
        self._holds: list[int] = []
        #: The parts of a hybrid score that this index can give.
        self.parts: tuple[str, ...] = manifest.parts
        #: Those of them that are scores of the encoder's vectors.
        self.sides: tuple[str, ...] = manifest.encoder.sides
        self._integrity: Integrity = Integrity(
            path, manifest.checksums, before._integrity.level if before else check
        )
        # A rebuilt index may have another vocabulary.
        digest = manifest.encoder.vocabulary_sha256
        if before is not None and before.manifest.encoder.vocabulary_sha256 == digest:
            #: The term of each token as Lucene knows it; see ``vocabulary.lucene_terms``.
            self.terms: list[str] = before.terms
        else:
            self._integrity.read(manifest.vocabulary_file)
            self.terms = lucene_terms(manifest.vocabulary(path))
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
        small = small_ones(manifest, self._max_postings)
        rest = [number for number in range(len(dead)) if number not in small]
        #: The segments as the legs search them and documents are numbered: small ones as one.
        self.searched: list[Segment | Joined] = [self.segments[number] for number in rest]
        dead_parts = [dead[number] for number in rest]
        if small:
            joined = Joined([self.segments[n] for n in small], [dead[n] for n in small])
            self.searched, dead_parts = [*self.searched, joined], [*dead_parts, None]
        self.numbering = Numbering([part.ids for part in self.searched], dead_parts)
        #: The documents of the rows, where these are passages, and what ranks them; else None.
        self.passages: PassageMap | None = None
        self.by_document: DocumentSearch | None = None
        if manifest.passages is not None:
            self.passages = PassageMap([part.ids for part in self.searched], self.numbering)
            self.by_document = DocumentSearch(self.passages, self.numbering)
        #: What filters leave of the documents.
        self.selections = Selections(self.numbering, self.searched, self.passages)

    @classmethod
    def newest(
        cls,
        path: Path,
        pool: ThreadPoolExecutor,
        before: Snapshot | None = None,
        max_postings: int = MAX_POSTINGS,
        check: str = "quick",
    ) -> tuple[Snapshot, bool]:
        """The state that the manifest names now, and whether it differs from ``before``."""
        for _ in range(_ATTEMPTS):
            manifest = Manifest.load(path)
            if before is not None and manifest == before.manifest:
                return before, False
            try:
                return cls(path, manifest, pool, before, max_postings, check), True
            except InputError:
                # Removed meanwhile if the manifest has changed, damaged if not.
                if Manifest.load(path) == manifest:
                    raise
        raise InputError(f"{path}: changes faster than it can be opened; try again")

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return self.numbering.searchable if self.passages is None else self.passages.count

    def ids(self, numbers: np.ndarray) -> list[str]:
        """The ids of documents by number, or by the number of a passage."""
        return self.numbering.ids(numbers) if self.passages is None else self.passages.ids(numbers)

    def engine(self, parts: tuple[str, ...], selection: Selection | None = None) -> Engine:
        """The engine for these parts of the score; one for the dense part starts no Java.

        selection: the documents that it searches; None: all.
        """
        engines = self._engines if selection is None else selection.engines
        with self._lock:
            if parts not in engines:
                few, numbering = None, self.numbering
                if selection is not None:
                    few = selection.few(self.searched, self.engine(parts).scores_all)
                    numbering = selection.numbering if few is None else few.numbering
                legs = {part: self._leg(part, numbering, few) for part in parts}
                engines[parts] = (
                    Engine(numbering, legs, self._pool)
                    if few is None
                    else FewEngine(few, legs, self._pool)
                )
            return engines[parts]

    def _leg(self, part: str, numbering: Numbering, few: Few | None) -> Leg:
        searched = self.searched if few is None else few.parts
        if part == "dense":
            vectors = self._shards.dense(searched) if few is None else few.dense()
            return DenseLeg(numbering, vectors)
        shards: Sequence[LexicalShard] = (
            self._shards.lexical(searched, self._max_postings) if few is None else few.lexical()
        )
        if part == "bm25":
            scale, columns = self.manifest.max_impact, [each.columns for each in searched]
            return WordLeg(numbering, shards, float(scale), columns)
        return LexicalLeg(numbering, shards, self.manifest.scale)

    @functools.cached_property
    def frequencies(self) -> Frequencies:
        """How many of the documents that can be found have each term."""
        gone = [
            None if live is None else self._shards.gone(part, live)
            for part, live in zip(self.searched, self.numbering.live, strict=True)
        ]
        tokens = self.manifest.encoder.vocabulary_size
        return Frequencies(self.numbering.searchable, self.searched, gone, tokens)

    def selected(self, request: Request) -> Selection | None:
        """The documents that a request searches; None: all."""
        if request.filter is None and request.among is None:
            return None
        return self.selections.get(request.filter, request.among)

    def finder(
        self, parts: tuple[str, ...], selection: Selection | None
    ) -> Callable[[Mapping[str, Any], Request, Progress], list[Answer]]:
        """What ranks the documents of a selection for queries, given as ``Engine.search`` has them.

        Not the search itself, so that no query is nested deeper in calls than it must be.
        """
        engine = self.engine(parts, selection)
        if self.by_document is None:
            return engine.search
        return functools.partial(self.by_document.search, engine, self.engine(parts))

    def inputs(self, vectors: Representations, request: Request) -> dict[str, Any]:
        """What the legs take for these queries as they are given; see ``leg_inputs``."""
        return leg_inputs(vectors, request, self.manifest.max_impact, lambda: self.frequencies)

    def warm(self, *, dense: bool = True) -> None:
        """Read what the legs need, and prepare for single queries; dense: with a dense vector."""
        parts = self.parts if dense else tuple(part for part in self.parts if part != "dense")
        self.engine(parts)
        if self.manifest.scoring is not None:
            self.frequencies.mean_idf  # noqa: B018  it is kept
        if "dense" not in parts:
            return
        for shard in self._shards.dense(self.searched):
            shard.warm()

    def numbered(self) -> Iterator[tuple[int, Document]]:
        """All living documents, each with its number, by number; whole, where rows are passages."""
        if self.passages is not None:
            for place, passages in self.passages.first_rows():
                yield place, whole(self.documents(passages))
            return
        for segment, live in enumerate(self.numbering.live):
            offset = int(self.numbering.offsets[segment])
            size = int(self.numbering.offsets[segment + 1]) - offset
            rows = np.arange(size) if live is None else np.flatnonzero(live)
            for start in range(0, len(rows), _ROWS):
                numbers = rows[start : start + _ROWS] + offset
                yield from zip(numbers.tolist(), self.documents(numbers), strict=True)

    def documents(self, numbers: np.ndarray) -> list[Document]:
        """The documents with these numbers, in the order of the numbers given.

        Where rows are passages: those passages, as documents with their places in the text.
        """
        found: dict[int, Document] = {}
        for segment, where, rows in self.numbering.by_segment(numbers):
            documents = self.searched[segment].documents.get(rows)
            found.update(zip(where.tolist(), documents, strict=True))
        ordered = map(found.__getitem__, range(len(numbers)))
        return list(ordered) if self.passages is None else list(map(as_passage, ordered))

    def has(self, name: str) -> bool:
        """Whether a document with this id can be found."""
        if self.passages is not None:
            return len(self.passages.rows(name)) > 0
        return self.numbering.number(name) is not None

    def whole(self, name: str) -> Document | None:
        """The document with this id, with its whole text; None if it is not there."""
        if self.passages is not None:
            rows = self.passages.rows(name)
            return whole(self.documents(rows)) if len(rows) else None
        number = self.numbering.number(name)
        return None if number is None else self.documents(np.array([number]))[0]

    def release(self) -> None:
        """Unlock the segments, so that they can be removed; files that are open stay readable."""
        while self._holds:
            os.close(self._holds.pop())

    def close(self) -> None:
        """Release, and close Lucene's files; nothing can be searched afterwards."""
        with self._lock:
            for segment in self.segments:
                segment.close()
            self._engines.clear()
            self.release()

    def __del__(self) -> None:
        if os is not None:  # the interpreter may be shutting down
            self.release()

    def _by_name(self) -> dict[str, Segment]:
        names = [entry.name for entry in self.manifest.segments]
        return dict(zip(names, self.segments, strict=True))

    def _open(self, entry: SegmentEntry, held: dict[str, Segment]) -> Segment:
        folder = self.path / entry.path
        hold = share(folder)
        if hold is None:
            raise InputError(f"{folder}: no such folder; the index is incomplete")
        self._holds.append(hold)
        if entry.name in held:
            return held[entry.name]
        integrity = self._integrity
        integrity.opened(entry.path)
        segment = Segment.open(
            folder,
            self.terms,
            lambda part: integrity.read(f"{entry.path}/{part}"),
            self.manifest.shape(entry),
        )
        if integrity.level != "sizes":
            segment.check_order()
        return segment


class Shards:
    """The shards of segments, made once: successive snapshots have most segments in common."""

    def __init__(self) -> None:
        self._dense: WeakKeyDictionary[Segment | Joined, DenseShard] = WeakKeyDictionary()
        self._lexical: WeakKeyDictionary[Segment | Joined, LexicalShard] = WeakKeyDictionary()
        self._gone: WeakKeyDictionary[Segment | Joined, tuple[int, np.ndarray]] = (
            WeakKeyDictionary()
        )

    def dense(self, parts: Sequence[Segment | Joined]) -> list[DenseShard]:
        """The dense vectors of each part."""
        for part in parts:
            if part not in self._dense:
                self._dense[part] = dense_shard(part.faiss, part.forward.dense_matrix)
        return [self._dense[part] for part in parts]

    def gone(self, part: Segment | Joined, live: np.ndarray) -> np.ndarray:
        """For each column of the impacts, how many deleted documents have it.

        live: bool [rows], false for deleted ones. Deletions only grow, so their number names them.
        """
        dead = np.flatnonzero(~live)
        known = self._gone.get(part)
        if known is None or known[0] != len(dead):
            impacts = part.forward.impacts[dead]
            check_columns(impacts)
            counts = np.bincount(impacts.indices, minlength=impacts.shape[1])
            known = self._gone[part] = len(dead), counts
        return known[1]

    def lexical(self, parts: Sequence[Segment | Joined], max_postings: int) -> list[LexicalShard]:
        """The impacts of each part; the smallest are in memory, up to ``max_postings`` together."""
        sizes = [part.forward.impacts.nnz for part in parts]
        held: set[int] = set()
        by_size = sorted(range(len(sizes)), key=sizes.__getitem__)
        room = max_postings
        # Joined ones first: Lucene has no index of them.
        for number in sorted(by_size, key=lambda n: not isinstance(parts[n], Joined)):
            room -= sizes[number]
            if room < 0 and not isinstance(parts[number], Joined):
                break
            held.add(number)
        for number, part in enumerate(parts):
            made = self._lexical.get(part)
            if made is None or made.in_memory != (number in held):
                self._lexical[part] = _lexical_shard(part, number in held)
        return [self._lexical[part] for part in parts]


def _lexical_shard(part: Segment | Joined, in_memory: bool) -> LexicalShard:
    """in_memory: hold the postings, without Lucene and Java; joined segments are always held."""
    if isinstance(part, Joined):
        return Postings(part.forward.impacts)
    if in_memory:
        part.reads(FORWARD_FOLDER)
        return Postings(part.forward.impacts)
    return LuceneShard(part.lucene, part.forward)
