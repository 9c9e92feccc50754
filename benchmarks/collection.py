"""A synthetic collection as an index of ours, and the plain computation that it is checked by."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks import synthetic
from benchmarks.rows import peer_import
from dupmae_toolkit import HybridIndex, jvm
from dupmae_toolkit.records import Ranking, Representations

TERM = "t"  # what the terms' names begin with


@dataclass
class Collection:
    """An index of one segment, queries, and what each document's vectors are.

    queries: vectors of whole weights. vectors: those of the documents, in the order of the ids.
    """

    index: HybridIndex
    queries: Representations
    vectors: Representations

    @classmethod
    def build(cls, folder: Path, documents: int, topics: int) -> Collection:
        encoder = synthetic.Ready()
        index = HybridIndex.build(
            folder / "index", synthetic.documents(documents), encoder, segment_size=documents
        )
        texts = [str(number) for number in range(documents)]
        ids = [document.id for document in synthetic.documents(documents)]
        vectors = encoder.encode_documents(texts, ids)
        return cls(index, synthetic.query_vectors(topics), vectors)

    @property
    def faiss(self) -> str:
        return str(self.index.path / "segments" / "000001" / "faiss")

    @property
    def lucene(self) -> str:
        return str(self.index.path / "segments" / "000001" / "lucene")

    @property
    def weights(self) -> tuple[float, float]:
        """What a dense and a lexical score count in a hybrid one."""
        info = self.index.manifest.encoder
        return info.dense_weight, info.lexical_weight / self.index.manifest.scale

    def one(self, number: int) -> Representations:
        """A single query."""
        return synthetic.one(self.queries, number)

    def scores(self, number: int) -> np.ndarray:
        """Every document's hybrid score for a query, float64 [n], by a plain computation."""
        w_dense, w_lexical = self.weights
        inner = self.vectors.dense.astype(np.float64) @ self.queries.dense[number]
        return w_dense * inner + w_lexical * self.overlaps(number)

    def overlaps(self, number: int) -> np.ndarray:
        """Every document's Σ query weight × impact, float64 [n]."""
        row = self.queries.lexical[number]
        product = self._impacts @ csr_matrix(row, dtype=np.float64).T
        return product.toarray()[:, 0]

    @cached_property
    def _impacts(self) -> csr_matrix:
        return self.vectors.lexical.astype(np.float64)

    @cached_property
    def number_of(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.vectors.ids)}

    def rows(self, ids: list[str]) -> np.ndarray:
        """The documents' numbers."""
        return np.array([self.number_of[name] for name in ids], np.int64)


def share_of_best(scores: np.ndarray, found: np.ndarray, k: int) -> float:
    """How many of the best ``k`` by ``scores`` are among the rows ``found``, ties counting.

    scores: float64 [n]. found: distinct row numbers, of which the first ``k`` count.
    """
    k = min(k, len(scores))
    least = np.partition(scores, len(scores) - k)[len(scores) - k]
    return float(np.count_nonzero(scores[found[:k]] >= least)) / k


def sample(count: int, most: int = 50) -> list[int]:
    """Query numbers spread over all, to be checked by the plain computation."""
    return sorted(set(np.linspace(0, count - 1, min(count, most)).astype(int).tolist()))


def quality(collection: Collection, rankings: dict[str, Ranking], k: int) -> tuple[float, float]:
    """Over a sample of queries: the share of the exact top ``k``, and of scores that are right."""
    numbers = sample(len(collection.queries))
    found, right, total = 0.0, 0, 0
    for number in numbers:
        exact = collection.scores(number)
        ranking = rankings[collection.queries.ids[number]]
        rows = collection.rows(ranking.ids)
        found += share_of_best(exact, rows, k)
        right += int(np.isclose(ranking.scores, exact[rows], rtol=1e-5).sum())
        total += len(rows)
    return found / len(numbers), right / max(total, 1)


class StockQueries:
    """Query encoders for stock Pyserini: the text "17" is the query number 17."""

    def __init__(self, collection: Collection) -> None:
        self.dense = _DenseQueries(collection.queries.dense)
        self.lexical = LexicalQueries(collection.queries.lexical)


class _DenseQueries:
    def __init__(self, vectors: np.ndarray) -> None:
        self._vectors = vectors

    def encode(self, text: str, **kwargs: Any) -> np.ndarray:
        return self._vectors[int(text)]

    def encode_batch(self, texts: list[str], **kwargs: Any) -> np.ndarray:
        return self._vectors[[int(text) for text in texts]]


class LexicalQueries:
    """Hands out the vector, term to weight, whose number is the text."""

    def __init__(self, matrix: csr_matrix) -> None:
        self._vectors = [
            {f"{TERM}{t}": int(w) for t, w in zip(matrix[i].indices, matrix[i].data, strict=True)}
            for i in range(matrix.shape[0])
        ]

    def encode(self, text: str, **kwargs: Any) -> dict[str, int]:
        return self._vectors[int(text)]


def stock_hybrid(collection: Collection) -> Any:
    """Pyserini's HybridSearcher over the index's own two folders. Raises NoPeerError."""
    jvm.start()  # with options of ours, before Pyserini would
    os.environ.setdefault("OPENAI_API_KEY", "none")  # it asks for one when it is imported
    with peer_import("pyserini"):
        from pyserini.search.faiss import FaissSearcher
        from pyserini.search.hybrid import HybridSearcher
        from pyserini.search.lucene import LuceneImpactSearcher
    encoders = StockQueries(collection)
    return HybridSearcher(
        FaissSearcher(collection.faiss, encoders.dense),
        LuceneImpactSearcher(collection.lucene, encoders.lexical, min_idf=-100),
    )
