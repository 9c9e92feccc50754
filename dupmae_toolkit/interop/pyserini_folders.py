"""The folders that stock Pyserini writes, as the legs see them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import IDS_FILE, INDEX_FILE, DenseIndex
from dupmae_toolkit.index.lucene import LuceneImpacts
from dupmae_toolkit.search.flat import Flat
from dupmae_toolkit.search.legs import Returned, Terms

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class FaissShard:
    """Pyserini's FAISS index; exact scores where it holds the vectors as they were given."""

    def __init__(self, index: DenseIndex) -> None:
        self._index = index
        vectors = index.vectors()
        self._vectors = None if vectors is None else Flat(vectors)
        self.size = len(index)
        self.dimension = index.dimension
        self.exhaustive = self.stored = vectors is not None

    def search(self, queries: np.ndarray, k: int) -> Returned:
        return self.scan(queries, k) if self.exhaustive else self._index.search(queries, k)

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        return self._flat.scan(queries, k)

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        return self._flat.all_scores(queries, rough)

    def largest_norm(self) -> float:
        return self._flat.largest_norm()

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return self._flat.score(query, rows)

    @property
    def _flat(self) -> Flat:
        assert self._vectors is not None
        return self._vectors


class LuceneShard:
    """Pyserini's Lucene index, without a forward store. ``terms`` names the queries' columns."""

    stored = quick = False

    def __init__(self, lucene: LuceneImpacts, terms: Sequence[str]) -> None:
        self._lucene = lucene
        self.size = len(lucene)
        self.terms = terms

    def search(self, queries: csr_matrix, k: int) -> Returned:
        weighted = []
        for row in range(queries.shape[0]):
            part = slice(queries.indptr[row], queries.indptr[row + 1])
            columns, weights = queries.indices[part].tolist(), queries.data[part].tolist()
            weighted.append(
                {self.terms[c]: weight for c, weight in zip(columns, weights, strict=True)}
            )
        return self._lucene.search_terms(weighted, k)

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        raise NotImplementedError("Lucene gives no scores of all documents")

    def score(self, query: Terms, rows: np.ndarray) -> np.ndarray:
        raise NotImplementedError("Lucene gives no scores of single documents here")


def is_faiss_folder(path: Path) -> bool:
    """Whether a folder is laid out as Pyserini's FAISS indexes are."""
    return (path / INDEX_FILE).is_file() and (path / IDS_FILE).is_file()


def is_lucene_folder(path: Path) -> bool:
    """Whether a folder holds a Lucene index."""
    return path.is_dir() and any(path.glob("segments_*"))


def read_ids(path: Path, count: int) -> list[str]:
    """The ids of a FAISS folder, one a line; InputError unless there are ``count``."""
    try:
        ids = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as ids, one a line ({error})") from error
    ids = [name.strip() for name in ids]
    if ids and not ids[-1]:
        ids.pop()
    if len(ids) != count:
        raise InputError(f"{path}: {len(ids)} ids for {count} vectors; the folder is not whole")
    return check_ids(ids, path)


def check_ids(ids: list[str], path: Path) -> list[str]:
    """``ids``, if none is empty."""
    if not all(ids):
        raise InputError(f"{path}: a document has no id")
    return ids
