"""What can be had of a damaged segment, and a new segment made of it.

A segment holds much twice: the ids in ``docid``, in Lucene and beside the texts; the impacts in the
forward store and, as term frequencies, in Lucene; the dense vectors in the forward store and, for
most FAISS specs, in FAISS. What is lost in one place is read from another, and what is lost in all
is encoded again from the texts. Only a part whose files are as they were written is a source.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.index.dense import keeps_vectors, write_ids, write_vectors
from dupmae_toolkit.index.forward import read_dense, read_impacts, write_dense, write_impacts
from dupmae_toolkit.index.impacts import QuantizationError, impact_dtype, quantize
from dupmae_toolkit.index.lucene import write_lucene
from dupmae_toolkit.index.manifest import REBUILD, SEGMENTS_FOLDER, Manifest, SegmentEntry, checksum
from dupmae_toolkit.index.problems import (
    DENSE,
    DOCUMENTS,
    IDS,
    IMPACTS,
    LUCENE,
    VECTORS,
    part_of,
    way_out,
)
from dupmae_toolkit.index.segment import FAISS_FOLDER, FORWARD_FOLDER, Segment
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Documents that are encoded in one call.
_BATCH = 2048
_ENCODED = "the texts, encoded again"
_OTHER_BITS = "not to the same bits: scores may differ in their last digits"


class LostError(Exception):
    """A part cannot be rebuilt; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A part that was rebuilt. ``path``: where it lay; ``into``: where it lies, in the index."""

    path: str
    into: str
    source: str
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.path}: rebuilt from {self.source}{note}, as {self.into}"


class Salvage:
    """A segment some of whose parts, ``lost``, are damaged.

    terms: Lucene's, in the order of the vocabulary; None where that is lost. encoder: gives the
    index's encoder, or raises LostError.
    """

    def __init__(
        self,
        index: Path,
        manifest: Manifest,
        entry: SegmentEntry,
        lost: Collection[str],
        terms: Sequence[str] | None,
        encoder: Callable[[], Encoder],
        progress: Progress = silent,
    ) -> None:
        self._index, self._manifest, self._entry = index, manifest, entry
        self._lost = set(lost)
        self._terms = terms
        self._encoder = encoder
        self._progress = progress
        self._spec = manifest.spec_of(entry)
        self._old = Segment(manifest.segment_folder(index, entry), terms)
        self._place = f"{SEGMENTS_FOLDER}/{entry.name}/"
        self._stated: dict[str, dict[str, Any]] = {
            name.removeprefix(self._place): stated
            for name, stated in manifest.checksums.items()
            if name.startswith(self._place)
        }
        self._error: QuantizationError | None = None
        self._vectors: np.ndarray | None = None
        self._rebuilt: dict[str, tuple[str, str]] = {}
        #: Of each part that stays lost, why.
        self.remaining: dict[str, str] = {}

    def write(self, folder: Path) -> bool:
        """Write what can be rebuilt into ``folder``, and link there what is whole.

        Files of parts that stay lost are taken along as they are: somebody may know more to do with
        them. Returns whether anything was rebuilt.
        """
        steps: dict[str, Callable[[Path], tuple[str, str]]] = {
            IDS: self._write_ids,
            DENSE: self._write_dense,
            VECTORS: self._write_vectors,
            IMPACTS: self._write_impacts,
            LUCENE: self._write_lucene,
        }
        for part, step in steps.items():
            if part in self._lost:  # which a step before may have changed
                try:
                    self._rebuilt[part] = step(folder)
                except LostError as why:
                    self.remaining[part] = str(why)
        if DOCUMENTS in self._lost:
            self.remaining[DOCUMENTS] = way_out(self._place + DOCUMENTS)
        self._old.close()
        if self._rebuilt:
            for name in self._stated:
                if part_of(name) not in self._rebuilt:
                    _link(self._old.folder / name, folder / name)
        return bool(self._rebuilt)

    def settle(self, folder: Path) -> tuple[SegmentEntry, dict[str, dict[str, Any]]]:
        """The entry and the checksums of what ``write`` wrote, which is ``folder`` by now."""
        sums = {
            name: stated
            for name, stated in self._stated.items()
            if part_of(name) not in self._rebuilt
        }
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(folder).as_posix()
            if path.is_file() and name not in sums:
                sums[name] = checksum(path)
        entry = replace(self._entry, name=folder.name)
        if self._error is not None:
            entry = replace(entry, error=self._error, weights=self._error.weights)
        start = folder.relative_to(self._index).as_posix()
        return entry, {f"{start}/{name}": stated for name, stated in sorted(sums.items())}

    def report(self, folder: Path) -> list[Rebuilt]:
        """What was rebuilt, with the new segment's name."""
        start = folder.relative_to(self._index).as_posix()
        return [
            Rebuilt(self._place + part, f"{start}/{part}", source, note)
            for part, (source, note) in self._rebuilt.items()
        ]

    # --- what is had from where

    @cached_property
    def _ids(self) -> tuple[list[str], str]:
        if IDS not in self._lost:
            return self._old.ids, IDS
        if DOCUMENTS not in self._lost:
            return self._old.documents.ids(), DOCUMENTS
        if LUCENE not in self._lost:
            return self._old.lucene.ids(), LUCENE
        raise LostError(
            f"the ids of its documents are lost, in {DOCUMENTS} and {LUCENE} too; put one of the "
            f"three back from a copy, or {REBUILD}"
        )

    @cached_property
    def _impacts(self) -> tuple[csr_matrix, str]:
        if IMPACTS not in self._lost:
            return read_impacts(self._old.folder / FORWARD_FOLDER), IMPACTS
        kind = impact_dtype(self._manifest.max_impact)
        if LUCENE not in self._lost and self._terms is not None:
            impacts = self._old.lucene.impacts().astype(kind)
            shape = (self._entry.count, self._manifest.encoder.vocabulary_size)
            if (impacts.shape, impacts.nnz) == (shape, self._entry.weights):
                return impacts, f"the postings in {LUCENE}"
        impacts, self._error = quantize(
            self._encoded[1], self._manifest.scale, self._manifest.max_impact
        )
        return impacts, _ENCODED

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, csr_matrix]:
        """Both vectors of all documents, of the deleted ones too."""
        from scipy.sparse import csr_matrix, vstack

        if DOCUMENTS in self._lost:
            raise LostError(
                f"its vectors are lost, and {DOCUMENTS}, whose texts could be encoded again, is "
                f"too; put either back from a copy, or {REBUILD}"
            )
        encoder, count = self._encoder(), self._entry.count
        dense, lexical = [], []
        with self._progress("encoding again", count) as advance:
            for start in range(0, count, _BATCH):
                numbers = np.arange(start, min(count, start + _BATCH))
                documents = self._old.documents.get(numbers)
                vectors = encoder.encode_documents(
                    [document.contents for document in documents],
                    [document.id for document in documents],
                )
                dense.append(np.asarray(vectors.dense, np.float32))
                lexical.append(vectors.lexical)
                advance(len(documents))
        return np.concatenate(dense), csr_matrix(vstack(lexical, format="csr"))

    # --- the parts, each with where it is from and what is to be said of it

    def _write_ids(self, folder: Path) -> tuple[str, str]:
        ids, source = self._ids
        write_ids(folder / FAISS_FOLDER, ids)
        return source, ""

    def _write_dense(self, folder: Path) -> tuple[str, str]:
        if VECTORS not in self._lost:
            decoded = self._old.faiss.decoded()
            if decoded is not None:
                write_dense(folder / FORWARD_FOLDER, decoded)
                if self._same(folder, DENSE):  # so FAISS gives back what it was given
                    self._vectors = decoded
                    return VECTORS, ""
                (folder / DENSE).unlink()
        self._vectors = self._encoded[0]
        write_dense(folder / FORWARD_FOLDER, self._vectors)
        if self._same(folder, DENSE):
            return _ENCODED, "to the same bits"
        self._lost.add(VECTORS)  # FAISS holds others than the forward store now
        return _ENCODED, _OTHER_BITS

    def _write_vectors(self, folder: Path) -> tuple[str, str]:
        if keeps_vectors(self._spec):
            write_vectors(folder / FAISS_FOLDER, self._encoded[0], self._spec)
            return _ENCODED, "to the same bits" if self._same(folder, VECTORS) else _OTHER_BITS
        vectors = self._vectors
        if DENSE not in self._lost:
            vectors = read_dense(self._old.folder / FORWARD_FOLDER)
        if vectors is None:
            raise LostError(f"it is built from {DENSE}, which is lost: see there")
        write_vectors(folder / FAISS_FOLDER, vectors, self._spec)
        note = "" if self._same(folder, VECTORS) else "an approximate search may find others"
        return DENSE, note

    def _write_impacts(self, folder: Path) -> tuple[str, str]:
        impacts, source = self._impacts
        write_impacts(folder / FORWARD_FOLDER, impacts)
        names = [name for name in self._stated if part_of(name) == IMPACTS]
        same = all(self._same(folder, name) for name in names)
        if source == _ENCODED:
            return source, "to the same bits" if same else _OTHER_BITS
        return source, ""

    def _write_lucene(self, folder: Path) -> tuple[str, str]:
        if self._terms is None:
            name = self._manifest.vocabulary_file
            raise LostError(f"its terms are those of {name}, which is lost: see there")
        (ids, ids_source), (impacts, source) = self._ids, self._impacts
        write_lucene(folder / LUCENE, ids, impacts, self._terms, self._progress)
        return f"{source} and {ids_source}", ""

    def _same(self, folder: Path, name: str) -> bool:
        """Whether a new file is what the old one was."""
        return checksum(folder / name) == self._stated.get(name)


def _link(old: Path, new: Path) -> None:
    """The same file under another name; a copy where there are no links; nothing for no file."""
    if not old.is_file():
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(old.resolve(), new)
        return
    shutil.copyfile(old, new)
