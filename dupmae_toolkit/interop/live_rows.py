"""The documents of an index that can be found, in the order of their ids, for exports."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dupmae_toolkit.collection.metadata import metadata_text
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.forward import check_columns
from dupmae_toolkit.index.holding import held
from dupmae_toolkit.index.integrity import Integrity
from dupmae_toolkit.index.layout import DOCUMENTS, FORWARD_FOLDER
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.index.segment import Segment

#: How many rows' impacts are read together.
_ROWS = 65_536


class IndexRows:
    """One state of an index, see ``held``.

    ids: of all live documents, sorted. terms: of the tokens, in Lucene's form.
    """

    def __init__(self, index: Path, manifest: Manifest) -> None:
        """Raises InputError for a damaged index."""
        self.index, self.manifest = index, manifest
        self._integrity = Integrity(index, manifest.checksums)
        self._integrity.read(manifest.vocabulary_file)
        self.terms: list[str] = manifest.terms(index)
        self.segments = [self._open(entry) for entry in manifest.segments]
        self._number()

    @classmethod
    @contextlib.contextmanager
    def opened(cls, index: str | Path) -> Iterator[IndexRows]:
        """The documents of an index; they do not change until the block ends."""
        with held(Path(index)) as manifest:
            yield cls(Path(index), manifest)

    def __len__(self) -> int:
        """The number of live documents."""
        return len(self.ids)

    def _open(self, entry: SegmentEntry) -> Segment:
        self._integrity.opened(entry.path)
        return Segment.open(
            self.index / entry.path,
            check=lambda part: self._integrity.read(f"{entry.path}/{part}"),
            shape=self.manifest.shape(entry),
        )

    def _number(self) -> None:
        """Number the live documents of all segments in the order of their ids."""
        names: list[str] = []
        owners, rows = [], []
        for number, (entry, segment) in enumerate(
            zip(self.manifest.segments, self.segments, strict=True)
        ):
            self._integrity.read(entry.deletions)
            dead = read_deletions(self.index, entry)
            live = np.arange(len(segment.ids))
            live = live if dead is None else np.delete(live, dead)
            names += [segment.ids[row] for row in live.tolist()]
            owners.append(np.full(len(live), number, np.int32))
            rows.append(live)
        order = np.array(sorted(range(len(names)), key=names.__getitem__), np.int64)
        if not len(order):
            raise InputError.at(self.index, None, "all its documents are deleted")
        self.ids = [names[place] for place in order.tolist()]
        #: The segment of each document, and its row there, by number.
        self._owners = np.concatenate(owners)[order]
        self._places = np.concatenate(rows)[order]

    def batches(self, size: int) -> Iterator[Rows]:
        """The documents in order, ``size`` at a time; ``lexical`` has the impacts of tokens."""
        for segment in self.segments:
            segment.reads(FORWARD_FOLDER, DOCUMENTS)
        for start in range(0, len(self), size):
            yield self._batch(slice(start, start + size))

    def _batch(self, span: slice) -> Rows:
        from scipy.sparse import csr_matrix, vstack

        owners, places = self._owners[span], self._places[span]
        tokens = self.manifest.encoder.vocabulary_size
        parts, dense, documents, order = [], [], [], []
        for owner in np.unique(owners).tolist():
            here = np.flatnonzero(owners == owner)
            segment, rows = self.segments[owner], places[here]
            found = csr_matrix(segment.forward.impacts[rows])
            check_columns(found)
            parts.append(found[:, :tokens])
            dense.append(segment.forward.dense(rows))
            documents += segment.documents.get(rows)
            order.append(here)
        back = np.argsort(np.concatenate(order))
        listed = [documents[place] for place in back.tolist()]
        return Rows(
            self.ids[span],
            [each.title for each in listed],
            [each.text for each in listed],
            np.concatenate(dense)[back],
            csr_matrix(csr_matrix(vstack(parts, format="csr"))[back]),
            [metadata_text(each.metadata, self.index, None) for each in listed],
        )

    def impacts(
        self, columns: Sequence[np.ndarray]
    ) -> Iterator[tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]]:
        """All impacts, some rows at a time: their columns, and their documents and values.

        columns: for each segment, int32, the number that replaces each of its columns; below 0: the
        column is left out. The arrays are int32, int32, and uint8 or uint16, each [postings].
        """
        for owner, (segment, names) in enumerate(zip(self.segments, columns, strict=True)):
            segment.reads(FORWARD_FOLDER)
            numbers = np.flatnonzero(self._owners == owner)
            rows, numbers = self._places[numbers], numbers.astype(np.int32)
            for start in range(0, len(rows), _ROWS):
                span = slice(start, start + _ROWS)
                found = segment.forward.impacts[rows[span]]
                check_columns(found)
                named = names[found.indices]
                owned = np.repeat(numbers[span], np.diff(found.indptr))
                kept = named >= 0
                yield named[kept], (owned[kept], found.data[kept])
