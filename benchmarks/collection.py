"""A synthetic collection as an index of ours, and a plain computation to check results with."""

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
    """An index of one segment, with the vectors of its queries and documents.

    queries: their lexical weights are whole numbers. vectors: the documents', in the order of ids.
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
        """The weights of a dense score and of Σ weight × impact in a hybrid score."""
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
    """The share of the best ``k`` by ``scores`` among the rows ``found``; ties at the cut count.

    scores: float64 [n]. found: distinct row numbers, of which the first ``k`` count.
    """
    k = min(k, len(scores))
    cut = np.partition(scores, len(scores) - k)[len(scores) - k]
    return float(np.count_nonzero(scores[found[:k]] >= cut)) / k


def sample(count: int, limit: int = 50) -> list[int]:
    """At most ``limit`` query numbers, evenly spread, to check with the plain computation."""
    return sorted(set(np.linspace(0, count - 1, min(count, limit)).astype(int).tolist()))


def quality(collection: Collection, rankings: dict[str, Ranking], k: int) -> tuple[float, float]:
    """For a sample of queries: the shares of the exact top ``k`` found, and of correct scores."""
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
    """Query encoders for stock Pyserini: the text "17" stands for query number 17."""

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
    """Returns the vector, a mapping from term to weight, whose number is the text."""

    def __init__(self, matrix: csr_matrix) -> None:
        self._vectors = [
            {f"{TERM}{t}": int(w) for t, w in zip(matrix[i].indices, matrix[i].data, strict=True)}
            for i in range(matrix.shape[0])
        ]

    def encode(self, text: str, **kwargs: Any) -> dict[str, int]:
        return self._vectors[int(text)]


def stock_hybrid(collection: Collection) -> Any:
    """Pyserini's HybridSearcher over the index's own two folders. Raises NoPeerError."""
    jvm.start()  # with our options, before Pyserini starts it
    os.environ.setdefault("OPENAI_API_KEY", "none")  # Pyserini needs one to be imported
    with peer_import("pyserini"):
        from pyserini.search.faiss import FaissSearcher
        from pyserini.search.hybrid import HybridSearcher
        from pyserini.search.lucene import LuceneImpactSearcher
    encoders = StockQueries(collection)
    return HybridSearcher(
        FaissSearcher(collection.faiss, encoders.dense),
        LuceneImpactSearcher(collection.lucene, encoders.lexical, min_idf=-100),
    )
