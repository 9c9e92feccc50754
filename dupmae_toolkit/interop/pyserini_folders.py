"""The folders that stock Pyserini writes, in the form that the legs search."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.layout import FAISS_FILE, IDS_FILE
from dupmae_toolkit.index.lucene import CONTENTS_FIELD, LuceneImpacts
from dupmae_toolkit.search.arithmetic import Returned
from dupmae_toolkit.search.lexical import LuceneShard, Terms

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

_EXAMINED = 100


class TermsShard(LuceneShard):
    """Pyserini's Lucene index, without a forward store. ``terms`` are the queries' columns."""

    def __init__(self, lucene: LuceneImpacts, terms: Sequence[str]) -> None:
        super().__init__(lucene, None)
        self.terms = terms

    def search(self, queries: csr_matrix, k: int, live: np.ndarray | None = None) -> Returned:
        """The ``k`` best with Lucene's scores: float64 sums, rounded once to float32."""
        weighted = []
        for row in range(queries.shape[0]):
            columns, weights = Terms.of(queries, row)
            named = zip(columns.tolist(), weights.tolist(), strict=True)
            weighted.append({self.terms[column]: weight for column, weight in named})
        return self._lucene.search_terms(weighted, k)


def is_faiss_folder(path: Path) -> bool:
    """Whether a folder has the layout of Pyserini's FAISS indexes."""
    return (path / FAISS_FILE).is_file() and (path / IDS_FILE).is_file()


def is_lucene_folder(path: Path) -> bool:
    """Whether a folder holds a Lucene index."""
    return path.is_dir() and any(path.glob("segments_*"))


def check_impacts(lucene: LuceneImpacts) -> None:
    """Raise InputError for an index of words and their counts, which BM25 would score.

    With impacts, Lucene's norms are 1, or there are none; for BM25 they are the documents' lengths.
    The first ``_EXAMINED`` documents of each of Lucene's segments are looked at.
    """
    with jvm.errors(f"{lucene.folder}: reading norms"), jvm.lock:
        for leaf in lucene.reader.leaves().toArray():
            norms = leaf.reader().getNormValues(CONTENTS_FIELD)
            total = min(int(leaf.reader().maxDoc()), _EXAMINED) if norms is not None else 0
            if any(norms.advanceExact(doc) and norms.longValue() != 1 for doc in range(total)):
                raise InputError.at(
                    lucene.folder,
                    None,
                    "an index of words and their counts, as BM25 scores them, not of impacts",
                    "search it with Pyserini's LuceneSearcher; or index the texts with `dupmae "
                    "index`, whose mode bm25 scores words",
                )


def read_ids(path: Path, count: int) -> list[str]:
    """The ids of a FAISS folder, one per line; InputError unless there are ``count``."""
    try:
        ids = path.read_bytes().decode("utf-8").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable as ids, one per line ({error})") from error
    ids = [name.strip() for name in ids]
    if ids and not ids[-1]:
        ids.pop()
    if len(ids) != count:
        raise InputError(f"{path}: {len(ids)} ids for {count} vectors; the folder is incomplete")
    return check_ids(ids, path)


def check_ids(ids: list[str], path: Path) -> list[str]:
    """``ids``, if none is empty."""
    if not all(ids):
        raise InputError(f"{path}: a document has no id")
    return ids
