"""Makes a new segment from what is intact in a damaged one.

A segment stores much of its data twice: the ids in ``docid``, in Lucene and with the texts; the
impacts in the forward store and, as term frequencies, in Lucene, whose terms also name the words;
the dense vectors in the forward store and, for most FAISS specs, in FAISS. What one part lost is
read from another. Vectors that are lost everywhere are encoded again from the texts, and lengths
are counted again. Only parts whose files are unchanged are read.
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
from dupmae_toolkit.index.forward import (
    all_impacts,
    read_dense,
    read_impacts,
    write_columns,
    write_dense,
    write_lengths,
)
from dupmae_toolkit.index.impacts import QuantizationError, impact_dtype, quantize
from dupmae_toolkit.index.integrity import way_out
from dupmae_toolkit.index.layout import (
    DENSE,
    DOCUMENTS,
    FAISS_FOLDER,
    FORWARD_FOLDER,
    IDS,
    IMPACTS,
    LENGTHS,
    LUCENE,
    LUCENE_FOLDER,
    VECTORS,
    part_of,
)
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.index.manifest import REBUILD, Manifest, SegmentEntry, checksum
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.index.vocabulary import WORD, word_terms, words_of
from dupmae_toolkit.index.words import Words
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Documents encoded in one call.
_BATCH = 2048
_ENCODED = "the texts, encoded again"
_SAME_BITS = "bit for bit identical"
_OTHER_BITS = f"not {_SAME_BITS}: scores may differ in their last digits"


class LostError(Exception):
    """A part cannot be rebuilt; the message says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    """A part that was rebuilt. path: where it was, relative to the index. into: where it is now."""

    path: str
    into: str
    source: str
    note: str = ""

    def __str__(self) -> str:
        note = f" ({self.note})" if self.note else ""
        return f"{self.path}: rebuilt from {self.source}{note}, as {self.into}"


class Salvage:
    """Rebuilds a segment whose parts ``lost`` are damaged.

    terms: Lucene's, in the order of the vocabulary; None if that is lost. encoder: returns the
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
        self._old = Segment.open(index / entry.path, terms)
        self._prefix = f"{entry.path}/"
        self._stated: dict[str, dict[str, Any]] = {
            name.removeprefix(self._prefix): stated
            for name, stated in manifest.checksums.items()
            if name.startswith(self._prefix)
        }
        self._error: QuantizationError | None = None
        self._vectors: np.ndarray | None = None
        self._precision: str | None = None
        self._rebuilt: dict[str, tuple[str, str]] = {}
        #: Why each part that stays lost could not be rebuilt.
        self.remaining: dict[str, str] = {}

    def write(self, folder: Path) -> bool:
        """Write what can be rebuilt into ``folder``, and link what is intact into it.

        Files of parts that stay lost are linked too: somebody may be able to recover them. Returns
        whether anything was rebuilt.
        """
        steps: dict[str, Callable[[Path], tuple[str, str]]] = {
            IDS: self._write_ids,
            DENSE: self._write_dense,
            VECTORS: self._write_vectors,
            IMPACTS: self._write_impacts,
            LENGTHS: self._write_lengths,
            LUCENE: self._write_lucene,
        }
        for part, step in steps.items():
            if part in self._lost:  # an earlier step may have added to it
                try:
                    self._rebuilt[part] = step(folder)
                except LostError as why:
                    self.remaining[part] = str(why)
        if DOCUMENTS in self._lost:
            self.remaining[DOCUMENTS] = way_out(self._prefix + DOCUMENTS)
        self._old.close()
        if self._rebuilt:
            for name in self._stated:
                if part_of(name) not in self._rebuilt:
                    _link(self._old.folder / name, folder / name)
        return bool(self._rebuilt)

    def settle(self, folder: Path) -> tuple[SegmentEntry, dict[str, dict[str, Any]]]:
        """The entry and the checksums of the new segment; ``folder``: where it is now."""
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
        """What was rebuilt; ``folder``: where the new segment is."""
        start = folder.relative_to(self._index).as_posix()
        return [
            Rebuilt(self._prefix + part, f"{start}/{part}", source, note)
            for part, (source, note) in self._rebuilt.items()
        ]

    def encoded_in(self) -> str | None:
        """The precision of documents that were encoded again: ``bf16``, ``fp32`` or ``unknown``.

        None if none were, or if all came out bit for bit identical.
        """
        if (_ENCODED, _OTHER_BITS) not in self._rebuilt.values():
            return None
        return self._precision if self._precision in ("bf16", "fp32") else "unknown"

    @cached_property
    def _ids(self) -> tuple[list[str], str]:
        """The ids, and the part that they come from."""
        if IDS not in self._lost:
            return self._old.ids, IDS
        if DOCUMENTS not in self._lost:
            return self._old.documents.ids(), DOCUMENTS
        if LUCENE not in self._lost:
            return self._lucene.ids(), LUCENE
        raise LostError(
            f"the ids of its documents are lost, in {DOCUMENTS} and {LUCENE} too; restore one of "
            f"the three from a copy, or {REBUILD}"
        )

    @cached_property
    def _lucene(self) -> LuceneImpacts:
        """The segment's Lucene index, without terms: the words' file may be lost."""
        return self._opened(None)

    def _opened(self, terms: Sequence[str] | None) -> LuceneImpacts:
        self._old.opened.append(LuceneImpacts(self._old.folder / LUCENE_FOLDER, terms))
        return self._old.opened[-1]

    @cached_property
    def _impacts(self) -> tuple[csr_matrix, list[str] | None, str]:
        """All impacts [n, |V| + W], the W words (None without BM25), and where they come from."""
        manifest, entry = self._manifest, self._entry
        with_words = manifest.bm25 is not None
        if IMPACTS not in self._lost:
            impacts = read_impacts(self._old.folder / FORWARD_FOLDER)
            return impacts, self._old.words if with_words else None, IMPACTS
        if LUCENE not in self._lost and self._terms is not None:
            words = words_of(self._lucene.terms(WORD)) if with_words else []
            impacts = self._opened([*self._terms, *word_terms(words)]).impacts()
            shape = (entry.count, manifest.encoder.vocabulary_size + entry.words)
            if (impacts.shape, impacts.nnz) == (shape, entry.postings):
                kind = impact_dtype(manifest.max_impact)
                return (
                    impacts.astype(kind),
                    words if with_words else None,
                    f"the postings in {LUCENE}",
                )
        lexical = self._encoded[1]  # says what is lost if there are no texts
        tokens, self._error = quantize(lexical, manifest.scale, manifest.max_impact)
        pruning = manifest.pruning
        if pruning is not None:
            tokens = pruning.pruned(tokens)
            self._error = self._error.of_some(tokens.nnz)
        if manifest.bm25 is None:
            return tokens, None, _ENCODED
        weighed, _ = self._counted.weighed(manifest.bm25, manifest.max_impact)
        if pruning is not None and pruning.words:
            weighed = weighed.pruned(pruning)
        return all_impacts(tokens, weighed), weighed.words, _ENCODED

    @cached_property
    def _counted(self) -> Words:
        """The words of the texts, counted again."""
        if DOCUMENTS in self._lost:
            raise LostError(
                f"the lengths of its documents are lost, and so is {DOCUMENTS}, whose words could "
                f"be counted again; restore either from a copy, or {REBUILD}"
            )
        documents = self._old.documents.get(np.arange(self._entry.count))
        return Words.counted(document.contents for document in documents)

    @cached_property
    def _encoded(self) -> tuple[np.ndarray, csr_matrix]:
        """The representations of all documents, including deleted ones."""
        from scipy.sparse import csr_matrix, vstack

        if DOCUMENTS in self._lost:
            raise LostError(
                f"its vectors are lost, and so is {DOCUMENTS}, whose texts could be encoded again; "
                f"restore either from a copy, or {REBUILD}"
            )
        encoder, count = self._encoder(), self._entry.count
        dense, lexical, precisions = [], [], set()
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
                precisions.add(vectors.precision)
                advance(len(documents))
        self._precision = precisions.pop() if len(precisions) == 1 else None
        return np.concatenate(dense), csr_matrix(vstack(lexical, format="csr"))

    # Each of these writes one part, and returns what it was rebuilt from and a note.

    def _write_ids(self, folder: Path) -> tuple[str, str]:
        ids, source = self._ids
        write_ids(folder / FAISS_FOLDER, ids)
        return source, ""

    def _write_dense(self, folder: Path) -> tuple[str, str]:
        if VECTORS not in self._lost:
            decoded = self._old.faiss.decoded()
            if decoded is not None:
                write_dense(folder / FORWARD_FOLDER, decoded)
                if self._same(folder, DENSE):  # so FAISS holds the vectors as they were
                    self._vectors = decoded
                    return VECTORS, ""
                (folder / DENSE).unlink()
        self._vectors = self._encoded[0]
        write_dense(folder / FORWARD_FOLDER, self._vectors)
        if self._same(folder, DENSE):
            return _ENCODED, _SAME_BITS
        self._lost.add(VECTORS)  # FAISS now holds other vectors than the forward store
        return _ENCODED, _OTHER_BITS

    def _write_vectors(self, folder: Path) -> tuple[str, str]:
        if keeps_vectors(self._spec):
            write_vectors(folder / FAISS_FOLDER, self._encoded[0], self._spec)
            return _ENCODED, _SAME_BITS if self._same(folder, VECTORS) else _OTHER_BITS
        vectors = self._vectors
        if DENSE not in self._lost:
            vectors = read_dense(self._old.folder / FORWARD_FOLDER)
        if vectors is None:
            raise LostError(f"it is built from {DENSE}, which is lost too: see there")
        write_vectors(folder / FAISS_FOLDER, vectors, self._spec)
        same = self._same(folder, VECTORS)
        return DENSE, "" if same else "an approximate search may return other documents"

    def _write_impacts(self, folder: Path) -> tuple[str, str]:
        impacts, words, source = self._impacts
        write_columns(folder / FORWARD_FOLDER, impacts, words)
        names = [name for name in self._stated if part_of(name) == IMPACTS]
        same = all(self._same(folder, name) for name in names)
        if source == _ENCODED:
            return source, _SAME_BITS if same else _OTHER_BITS
        return source, ""

    def _write_lengths(self, folder: Path) -> tuple[str, str]:
        write_lengths(folder / FORWARD_FOLDER, self._counted.lengths)
        return DOCUMENTS, ""

    def _write_lucene(self, folder: Path) -> tuple[str, str]:
        if self._terms is None:
            name = self._manifest.vocabulary_file
            raise LostError(f"its terms are those of {name}, which is lost too: see there")
        (ids, ids_source), (impacts, words, source) = self._ids, self._impacts
        terms = [*self._terms, *word_terms(words or ())]
        write_lucene(folder / LUCENE_FOLDER, ids, impacts, terms, self._progress)
        return f"{source} and {ids_source}", ""

    def _same(self, folder: Path, name: str) -> bool:
        """Whether a new file has the same bytes as the original."""
        return checksum(folder / name) == self._stated.get(name)


def _link(old: Path, new: Path) -> None:
    """Link a file, or copy it where links are not possible; nothing if there is no such file."""
    if not old.is_file():
        return
    new.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError):
        os.link(old.resolve(), new)
        return
    shutil.copyfile(old, new)
