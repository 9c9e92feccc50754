"""A segment: an immutable set of documents with everything that is needed to search it."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.dense import (
    IDS_FILE,
    INDEX_FILE,
    DenseIndex,
    keeps_vectors,
    look_at_faiss,
    write_faiss,
)
from dupmae_toolkit.index.documents import FILE, DocumentStore, write_documents
from dupmae_toolkit.index.forward import DENSE_FILE, IMPACT_FILES, ForwardStore
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.progress import Progress, silent

FAISS_FOLDER = "faiss"
LUCENE_FOLDER = "lucene"
FORWARD_FOLDER = "forward"

P = TypeVar("P", DenseIndex, ForwardStore, LuceneImpacts)


class Segment:
    """A segment's folder. Each part is opened when it is first asked for.

    Row i of every part is the same document; rows lie in the order of the ids (code points).
    """

    def __init__(
        self,
        folder: Path,
        terms: Sequence[str] | None = None,
        check: Callable[[str], None] = lambda name: None,
    ) -> None:
        self.folder = Path(folder)
        self._terms = terms
        self._check = check
        #: What must be closed, in a list that outlives the segment where somebody holds it.
        self.opened: list[LuceneImpacts] = []

    @classmethod
    def open(
        cls,
        folder: str | Path,
        terms: Sequence[str] | None = None,
        check: Callable[[str], None] = lambda name: None,
    ) -> Segment:
        """``terms``: Lucene's terms in the order of the vocabulary, needed to search by matrix.

        check: is told the path, relative to ``folder``, of a file that will be read whole.
        """
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; the index is not whole")
        return cls(path, terms, check)

    def reads(self, *parts: str) -> None:
        """Tell ``check`` that these files will be read whole; FORWARD_FOLDER: all files of it."""
        for part in parts:
            if part == FORWARD_FOLDER:
                names = [*IMPACT_FILES] if self._flat else [*IMPACT_FILES, DENSE_FILE]
                self.reads(*(f"{part}/{name}" for name in names))
            else:
                self._check(part)

    @functools.cached_property
    def _flat(self) -> bool:
        """Whether FAISS keeps the dense vectors, so that none stand in the forward store."""
        return look_at_faiss(self.folder / FAISS_FOLDER)[0]

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def ids(self) -> list[str]:
        """The ids by document number."""
        path = self.folder / FAISS_FOLDER / IDS_FILE
        self._check(f"{FAISS_FOLDER}/{IDS_FILE}")
        try:
            text = path.read_bytes().decode("utf-8")
        except FileNotFoundError as error:
            raise InputError(f"{path}: no such file; the index is not whole") from error
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{path}: not readable ({error})") from error
        return text.split("\n")[:-1]

    @functools.cached_property
    def faiss(self) -> DenseIndex:
        """The dense leg."""
        self._check(f"{FAISS_FOLDER}/{INDEX_FILE}")
        return self._accepted("FAISS", DenseIndex(self.folder / FAISS_FOLDER))

    @functools.cached_property
    def lucene(self) -> LuceneImpacts:
        """The lexical leg; starts Java."""
        self.opened.append(LuceneImpacts(self.folder / LUCENE_FOLDER, self._terms))
        return self._accepted("Lucene", self.opened[-1])

    @functools.cached_property
    def forward(self) -> ForwardStore:
        """Impacts and dense vectors by document number."""
        folder = self.folder / FORWARD_FOLDER
        # Whatever lies there: a Flat index has no dense.npy.
        dense = self.faiss.vectors() if self._flat else None
        return self._accepted("the forward store", ForwardStore.open(folder, dense))

    @functools.cached_property
    def documents(self) -> DocumentStore:
        """Titles and texts by document number; ``check`` is told, though not all of it is read."""
        self._check(FILE)
        return DocumentStore(self.folder / FILE)

    def _accepted(self, name: str, part: P) -> P:
        """``part``, just opened; a subclass may refuse it."""
        return part

    def close(self) -> None:
        """Let Lucene's files go, if they were opened."""
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
    """Write every part of a segment into ``folder``; returns the FAISS spec that it has.

    rows: in the order of their ids; ``lexical`` holds impacts, integers. terms: Lucene's, in the
    order of the vocabulary. specs: FAISS factory strings, of which the first that suits the vectors
    is taken; InputError if none does.
    """
    write_documents(folder / FILE, rows.ids, rows.titles, rows.texts)
    with progress("indexing vectors", None):
        spec = _write_first(folder / FAISS_FOLDER, rows, specs)
    dense = None if keeps_vectors(spec) else rows.dense
    ForwardStore.write(folder / FORWARD_FOLDER, rows.lexical, dense)
    write_lucene(folder / LUCENE_FOLDER, rows.ids, rows.lexical, terms, progress)
    written = LuceneImpacts(folder / LUCENE_FOLDER)
    found = (written.segments, len(written))
    written.close()
    if found != (1, len(rows.ids)):
        raise DupMAEError(
            f"{folder}: Lucene holds {found[1]} documents in {found[0]} segments where "
            f"{len(rows.ids)} in one were written; please report this"
        )
    return spec


def _write_first(folder: Path, rows: Rows, specs: Sequence[str]) -> str:
    *others, last = specs
    for spec in others:
        with contextlib.suppress(InputError):
            write_faiss(folder, rows.ids, rows.dense, spec)
            return spec
    write_faiss(folder, rows.ids, rows.dense, last)
    return last
