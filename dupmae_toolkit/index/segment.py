"""A segment: an immutable set of documents with everything that is needed to search it."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import IDS_FILE, DenseIndex
from dupmae_toolkit.index.documents import FILE, DocumentStore
from dupmae_toolkit.index.forward import ForwardStore
from dupmae_toolkit.index.lucene import LuceneImpacts

FAISS_FOLDER = "faiss"
LUCENE_FOLDER = "lucene"
FORWARD_FOLDER = "forward"


class Segment:
    """A segment's folder. Each part is opened when it is first asked for.

    Row i of every part is the same document; rows lie in the order of the ids (code points).
    """

    def __init__(self, folder: Path, terms: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self._terms = terms

    @classmethod
    def open(cls, folder: str | Path, terms: Sequence[str] | None = None) -> Segment:
        """``terms``: Lucene's terms in the order of the vocabulary, needed to search by matrix."""
        path = Path(folder)
        if not path.is_dir():
            raise InputError(f"{path}: no such folder; the index is not whole")
        return cls(path, terms)

    def __len__(self) -> int:
        return len(self.ids)

    @functools.cached_property
    def ids(self) -> list[str]:
        """The ids by document number."""
        path = self.folder / FAISS_FOLDER / IDS_FILE
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
        return DenseIndex(self.folder / FAISS_FOLDER)

    @functools.cached_property
    def lucene(self) -> LuceneImpacts:
        """The lexical leg; starts Java."""
        return LuceneImpacts(self.folder / LUCENE_FOLDER, self._terms)

    @functools.cached_property
    def forward(self) -> ForwardStore:
        """Impacts and dense vectors by document number."""
        folder = self.folder / FORWARD_FOLDER
        dense = None if (folder / "dense.npy").exists() else self.faiss.vectors()
        return ForwardStore.open(folder, dense)

    @functools.cached_property
    def documents(self) -> DocumentStore:
        """Titles and texts by document number."""
        return DocumentStore(self.folder / FILE)
