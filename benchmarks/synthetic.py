"""Vectors like real ones: terms by Zipf's law, skewed impacts, dense vectors of low rank."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix, vstack

from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.records import Document, EncoderInfo, Representations

TERMS = 30_522
WIDTH, RANK = 384, 32
#: Terms of a document and of a query, some of them drawn twice and counted once.
DOCUMENT_TERMS, QUERY_TERMS = 150, 30
#: Documents that are drawn together.
_BLOCK = 1024


def impacts(count: int, terms_each: int, seed: int = 0) -> csr_matrix:
    """Documents with integer impacts of 1 to 255, uint8 CSR [count, TERMS]."""
    return _draw(count, terms_each, seed, 1.0).astype(np.uint8)


def queries(count: int, terms_each: int, seed: int = 1) -> csr_matrix:
    """Queries with whole weights of 1 to 255, float32, so that Pyserini can take them too."""
    return _draw(count, terms_each, seed, 0.7).astype(np.float32)


def dense(count: int, seed: int) -> np.ndarray:
    """Unit vectors near a fixed subspace of RANK dimensions, float32 [count, WIDTH]."""
    basis = np.random.default_rng(97).normal(size=(RANK, WIDTH))
    rng = np.random.default_rng([seed, 3])
    vectors = rng.normal(size=(count, RANK)) @ basis + 0.3 * rng.normal(size=(count, WIDTH))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def query_vectors(count: int) -> Representations:
    """Queries with both vectors, named by their numbers."""
    lexical = queries(count, QUERY_TERMS)
    lexical.sort_indices()
    return Representations([str(i) for i in range(count)], dense(count, 10**9), lexical)


def one(queries: Representations, number: int) -> Representations:
    """A single query of several."""
    part = slice(number, number + 1)
    return Representations([queries.ids[number]], queries.dense[part], queries.lexical[part])


def documents(count: int) -> Iterator[Document]:
    """Documents whose text is their number, ids in the order of the numbers."""
    return (Document(f"d{number:08}", "", str(number)) for number in range(count))


class Ready:
    """A stand-in for an encoder: the text "17" always has the vectors number 17."""

    def __init__(self) -> None:
        self.vocabulary = [f"t{i}" for i in range(TERMS)]
        self.info = EncoderInfo(
            name="synthetic",
            weights_sha256=hashlib.sha256(b"synthetic").hexdigest(),
            vocabulary_sha256=sha256_lines(self.vocabulary),
            vocabulary_size=TERMS,
            dense_dim=WIDTH,
            # A lexical score is a sum of whole numbers, some tens of thousands.
            dense_weight=20_000.0,
            lexical_weight=1.0,
            largest_weight=255.0,  # so that impacts are the weights
        )

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        """The vectors of the texts' numbers. Weights are whole, so impacts are not rounded."""
        numbers = np.array([int(text) for text in texts], np.int64)
        vectors = np.empty((len(numbers), WIDTH), np.float32)
        lexical, order = [], []
        for block in np.unique(numbers // _BLOCK).tolist():
            places = np.flatnonzero(numbers // _BLOCK == block)
            rows = numbers[places] % _BLOCK
            vectors[places] = dense(_BLOCK, block)[rows]
            drawn = impacts(_BLOCK, DOCUMENT_TERMS, seed=block).astype(np.float32)
            # One weight has the largest value, so that an index's scale is 1.
            drawn.data[0] = 255
            lexical.append(drawn[rows])
            order.append(places)
        back = np.argsort(np.concatenate(order)) if order else np.empty(0, np.int64)
        joined = csr_matrix(vstack(lexical) if lexical else (0, TERMS), dtype=np.float32)
        ids = ids if ids is not None else [str(i) for i in range(len(texts))]
        matrix = csr_matrix(joined[back])
        matrix.sort_indices()
        return Representations(ids, vectors, matrix)

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        raise NotImplementedError("queries are drawn by query_vectors")


class Held(Ready):
    """``Ready`` with its vectors drawn beforehand, so that returning them takes no time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.vectors = super().encode_documents([str(number) for number in range(count)])

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        rows = [int(text) for text in texts]
        lexical = csr_matrix(self.vectors.lexical[rows])
        return Representations(list(ids or texts), self.vectors.dense[rows], lexical)


def _draw(count: int, terms_each: int, seed: int, skew: float) -> csr_matrix:
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(10, TERMS + 10) ** skew
    drawn = rng.choice(TERMS, size=(count, terms_each), p=chance / chance.sum())
    rows = np.repeat(np.arange(count), terms_each)
    values = np.clip(rng.gamma(2.0, 30.0, size=drawn.size), 1, 255).astype(np.int64)
    matrix = csr_matrix((values, (rows, drawn.ravel())), shape=(count, TERMS))
    matrix.sum_duplicates()
    matrix.data = np.clip(matrix.data, 1, 255)
    return matrix
