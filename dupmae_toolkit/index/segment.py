"""A segment: an immutable set of documents with everything that is needed to search it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.dense import DenseIndex, keeps_vectors, read_header, write_faiss
from dupmae_toolkit.index.documents import (
    PassageColumns,
    SegmentDocuments,
    TypedColumns,
    write_documents,
)
from dupmae_toolkit.index.forward import (
    ForwardStore,
    check_columns,
    read_frequencies,
    read_lengths,
    read_words,
)
from dupmae_toolkit.index.layout import (
    ADDED_FILES,
    DENSE_FILE,
    DOCUMENTS,
    FAISS_FOLDER,
    FORWARD_FOLDER,
    FREQUENCIES_FILE,
    IDS,
    IMPACT_FILES,
    LENGTHS_FILE,
    LUCENE_FOLDER,
    VECTORS,
    WORDS_FILE,
)
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.index.manifest import Shape
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.index.vocabulary import word_terms
from dupmae_toolkit.index.words import Words, columns_of
from dupmae_toolkit.progress import Progress, silent

#: Says which rows of a segment pass, bool [n].
RowTest = Callable[[TypedColumns], np.ndarray]


class Segment:
    """A segment's folder. Each part is opened when it is first used.

    Row i of every part is the same document; rows are sorted by id (code points). Parts are read by
    row number, so a part of the wrong shape would return wrong documents, or fail far from the
    cause. Checksums do not catch that: they only show that a file has not changed.
    """

    def __init__(
        self,
        folder: Path,
        terms: Sequence[str] | None,
        check: Callable[[str], None],
        shape: Shape | None,
    ) -> None:
        self.folder = folder
        self._terms = terms
        self._check = check
        self._shape = shape
        #: Open readers; through this list they can be closed even after the segment is gone.
        self.opened: list[LuceneImpacts] = []

    @classmethod
    def open(
        cls,
        folder: str | Path,
        terms: Sequence[str] | None = None,
        check: Callable[[str], None] = lambda name: None,
        shape: Shape | None = None,
    ) -> Segment:
        """Open the segment in ``folder``; InputError if there is no such folder.

        terms: Lucene's terms in the order of the vocabulary, needed to search with query matrices.
        check: called with the path, relative to ``folder``, of each file that will be read whole.
        shape: what every part must hold; a part that differs raises InputError when it is opened.
        None accepts any part, as verifying and repairing need.
        """
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; the index is incomplete")
        return cls(path, terms, check, shape)

    def reads(self, *parts: str) -> None:
        """Call ``check`` for files that will be read whole; FORWARD_FOLDER means all its files."""
        for part in parts:
            if part == FORWARD_FOLDER:
                names = [*IMPACT_FILES] if self._flat else [*IMPACT_FILES, DENSE_FILE]
                names += [name for name in ADDED_FILES if (self.folder / part / name).exists()]
                self.reads(*(f"{part}/{name}" for name in names))
            else:
                self._check(part)

    @functools.cached_property
    def _flat(self) -> bool:
        """Whether FAISS holds the dense vectors unchanged, so that the forward store has none."""
        return read_header(self.folder / FAISS_FOLDER)[0]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def ids(self) -> list[str]:
        """The ids by row."""
        path = self.folder / IDS
        self._check(IDS)
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; the index is incomplete") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable ({error})") from error
        ids = text.split("\n")[:-1]
        if self._shape is not None and len(ids) != self._shape.documents:
            raise self._misnamed(self._shape.documents)
        return ids

    def check_order(self) -> None:
        """Raise InputError unless the ids are in ascending order."""
        if not all(first < second for first, second in pairwise(self.ids)):
            raise self._misnamed(len(self.ids))

    @functools.cached_property
    def faiss(self) -> DenseIndex:
        """The dense vectors, opened for search."""
        self._check(VECTORS)
        index = DenseIndex(self.folder / FAISS_FOLDER)
        self._compare("FAISS", len(index), dimensions=index.dimension)
        return index

    @functools.cached_property
    def lucene(self) -> LuceneImpacts:
        """The impacts, opened for search; starts Java."""
        terms = self._terms
        if terms is not None and self.words:
            terms = [*terms, *word_terms(self.words)]
        self.opened.append(LuceneImpacts(self.folder / LUCENE_FOLDER, terms))
        self._compare("Lucene", len(self.opened[-1]))
        return self.opened[-1]

    @functools.cached_property
    def forward(self) -> ForwardStore:
        """Impacts and dense vectors by row."""
        # With a Flat index, a dense.npy in the folder is not ours.
        dense = self.faiss.vectors() if self._flat else None
        store = ForwardStore.open(self.folder / FORWARD_FOLDER, dense)
        vectors = store.dense_matrix
        self._compare(
            "the forward store",
            len(store),
            terms=store.impacts.shape[1],
            dimensions=None if vectors is None else vectors.shape[1],
        )
        return store

    @functools.cached_property
    def words(self) -> list[str]:
        """The words that have columns, after those of the tokens; none without BM25."""
        words = self._read(WORDS_FILE, read_words)
        found = 0 if words is None else len(words)
        if self._shape is not None and found != self._shape.words:
            raise self._refused(f"holds {found} words; the manifest states {self._shape.words}")
        return words or []

    @functools.cached_property
    def columns(self) -> dict[str, int]:
        """The column of each word."""
        return columns_of(self.words, self.forward.impacts)

    @functools.cached_property
    def frequencies(self) -> np.ndarray:
        """For each column of the impacts, how many documents have it, deleted ones included."""
        found = self._read(FREQUENCIES_FILE, read_frequencies)
        impacts = self.forward.impacts
        if found is None:  # written by an earlier version
            check_columns(impacts)
            return np.bincount(impacts.indices, minlength=impacts.shape[1])
        if len(found) != impacts.shape[1]:
            raise self._refused(f"holds {len(found)} frequencies for {impacts.shape[1]} columns")
        return found

    @functools.cached_property
    def lengths(self) -> np.ndarray:
        """The length of each document, in words; zeros where they were not counted."""
        found = self._read(LENGTHS_FILE, read_lengths)
        if found is None:
            return np.zeros(len(self.forward), np.int32)
        if len(found) != len(self.forward):
            raise self._refused(f"holds {len(found)} lengths for {len(self.forward)} documents")
        return found

    def _read(self, name: str, read: Callable[[Path], Any]) -> Any:
        """A file in forward/ that some segments lack, checked, or None."""
        if (self.folder / FORWARD_FOLDER / name).exists():
            self._check(f"{FORWARD_FOLDER}/{name}")
        return read(self.folder / FORWARD_FOLDER)

    @functools.cached_property
    def documents(self) -> SegmentDocuments:
        """Titles, texts, metadata by row; ``check`` is called although only some rows are read."""
        self._check(DOCUMENTS)
        documents = SegmentDocuments(self.folder / DOCUMENTS)
        self._compare(DOCUMENTS, len(documents))
        return documents

    def matching(self, test: RowTest) -> np.ndarray:
        """The rows that pass a test of the documents' fields, bool [n]."""
        return test(self._fields)

    def kinds(self) -> list[Mapping[str, Sequence[str]]]:
        """The fields of the documents, with the kinds of their values; see `fields.py`."""
        return [self._fields.kinds()]

    @property
    def _fields(self) -> TypedColumns:
        of_passages = self._shape is not None and self._shape.passages
        fields = self.documents.fields
        return PassageColumns(fields) if of_passages else fields

    def _compare(
        self, part: str, documents: int, terms: int | None = None, dimensions: int | None = None
    ) -> None:
        """Raise InputError unless a part that was just opened has the shape of the segment."""
        shape = self._shape
        if shape is None:
            return
        if documents != shape.documents:
            raise self._refused(
                f"{part} holds {documents} documents; the manifest states {shape.documents}"
            )
        wanted = shape.terms + shape.words
        if terms not in (None, wanted):
            raise self._refused(f"holds {terms} terms; the manifest states {wanted}")
        if dimensions not in (None, shape.dimensions):
            raise self._refused(
                f"its vectors have {dimensions} dimensions, the encoder's {shape.dimensions}"
            )

    def _misnamed(self, documents: int) -> InputError:
        return self._refused(f"does not name {documents} documents in the order of their ids")

    def _refused(self, what: str) -> InputError:
        return InputError.at(self.folder, None, what, "run `dupmae verify` on the index")

    def close(self) -> None:
        """Close Lucene's files, if they were opened."""
        vars(self).pop("lucene", None)
        while self.opened:
            self.opened.pop().close()


def write_segment(
    folder: Path,
    rows: Rows,
    terms: Sequence[str],
    specs: Sequence[str],
    progress: Progress = silent,
) -> str:
    """Write every part of a segment into ``folder``; returns the FAISS spec that was used.

    rows: sorted by id, quantised. terms: Lucene's, in the order of the vocabulary.
    specs: FAISS factory strings; the first that suits the vectors is used. InputError if none does.
    """
    write_documents(folder / DOCUMENTS, rows.ids, rows.titles, rows.texts, rows.metadata)
    with progress("indexing vectors", None):
        spec = _write_first(folder / FAISS_FOLDER, rows, specs)
    dense = None if keeps_vectors(spec) else rows.dense
    impacts = ForwardStore.write(folder / FORWARD_FOLDER, rows.lexical, dense, rows.words)
    write_lucene(folder / LUCENE_FOLDER, rows.ids, impacts, all_terms(terms, rows.words), progress)
    written = LuceneImpacts(folder / LUCENE_FOLDER)
    found = (written.segments, len(written))
    written.close()
    if found != (1, len(rows.ids)):
        raise DupMAEError(
            f"{folder}: {len(rows.ids)} documents were written in one Lucene segment, but it holds "
            f"{found[1]} in {found[0]} segments; please report this"
        )
    return spec


def all_terms(tokens: Sequence[str], words: Words | None) -> Sequence[str]:
    """Lucene's terms in the order of the impacts' columns. tokens: the terms of the vocabulary."""
    return tokens if words is None else [*tokens, *word_terms(words.words)]


def _write_first(folder: Path, rows: Rows, specs: Sequence[str]) -> str:
    *others, last = specs
    for spec in others:
        with contextlib.suppress(InputError):
            write_faiss(folder, rows.ids, rows.dense, spec)
            return spec
    write_faiss(folder, rows.ids, rows.dense, last)
    return last
