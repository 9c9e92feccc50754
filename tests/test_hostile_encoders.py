"""Encoders are other people's code: what they give is looked at before anything believes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.sparse import coo_matrix, csr_array, csr_matrix

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Document, Query, Representations
from dupmae_toolkit.search.inputs import rounded
from dupmae_toolkit.search.queries import query_vectors
from tests.support import HashingEncoder

DOCUMENTS = [Document(f"d{n}", "", f"word{n} word{n + 1} word") for n in range(8)]
SIZE, DIM = 64, 8


class Bent(HashingEncoder):
    """Gives what ``bend`` makes of the right answer."""

    def __init__(self, bend: Callable[[Representations], Any]) -> None:
        super().__init__(SIZE, DIM)
        self.bend = bend

    def encode_documents(self, texts, ids=None):
        return self.bend(super().encode_documents(texts, ids))


def put(part: str, value: Callable[[Any], Any]) -> Callable[[Representations], Representations]:
    def bend(r: Representations) -> Representations:
        setattr(r, part, value(getattr(r, part)))
        return r

    return bend


def raw(indices=None, indptr=None, data=None) -> Callable[[Representations], Representations]:
    """A matrix whose arrays contradict one another; scipy's constructor would refuse some."""

    def bend(r: Representations) -> Representations:
        for name, change in (("indices", indices), ("indptr", indptr), ("data", data)):
            if change is not None:
                setattr(r.lexical, name, change(getattr(r.lexical, name).copy()))
        return r

    return bend


def at(place: int, value: Any) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[place] = value
        return array

    return change


WRONG = {
    "nothing": lambda r: None,
    "a tuple": lambda r: (r.dense, r.lexical),
    "no ids": put("ids", lambda ids: []),
    "ids of others": put("ids", lambda ids: ids[::-1]),
    "too few rows": put("dense", lambda d: d[:-1]),
    "too many rows": put("dense", lambda d: np.vstack([d, d])),
    "another width": put("dense", lambda d: d[:, :-1]),
    "one dimension": put("dense", lambda d: d.reshape(-1)),
    "a list": put("dense", lambda d: d.tolist()),
    "integers": put("dense", lambda d: d.astype(np.int64)),
    "complex numbers": put("dense", lambda d: d.astype(np.complex64)),
    "objects": put("dense", lambda d: d.astype(object)),
    "texts": put("dense", lambda d: d.astype(str)),
    "dense terms": put("lexical", lambda m: m.toarray()),
    "other terms": put("lexical", lambda m: m[:, :-1]),
    "COO": put("lexical", coo_matrix),
    "CSC": put("lexical", lambda m: m.tocsc()),
    "complex weights": put("lexical", lambda m: m.astype(np.complex64)),
    "a term below": raw(indices=at(0, -1)),
    "a term beyond": raw(indices=at(0, SIZE)),
    "a term far beyond": raw(indices=at(-1, 2**31 - 1)),
    "rows that go back": raw(indptr=at(1, 2**30)),
    "rows that begin late": raw(indptr=at(0, 1)),
    "too few weights": raw(data=lambda d: d[:-1]),
    "a count of texts": put("truncated", lambda n: "many"),
}
VALUES = {
    "dense NaN": put("dense", at(0, np.nan)),
    "dense infinity": put("dense", at(-1, -np.inf)),
    "weight NaN": raw(data=at(0, np.nan)),
    "weight infinity": raw(data=at(0, np.inf)),
    "weight below 0": raw(data=at(0, -1e-30)),
    "weight beyond float32": put("lexical", lambda m: m.astype(np.float64) * 1e39),
    "dense beyond float32": put("dense", lambda d: d.astype(np.float64) * 1e39),
}


@pytest.mark.parametrize("case", [*WRONG, *VALUES])
def test_what_is_not_what_was_asked_for_is_refused_and_not_written(tmp_path, case):
    encoder = Bent((WRONG | VALUES)[case])
    with pytest.raises(DupMAEError, match="encoder hashing: ") as caught:
        encode_corpus(DOCUMENTS, encoder, tmp_path / "out")
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "out").glob("*.parquet"))
    # The same folder takes the right ones.
    assert len(encode_corpus(DOCUMENTS, HashingEncoder(SIZE, DIM), tmp_path / "out")) == 8


@pytest.mark.parametrize("case", [*WRONG, *VALUES])
def test_queries_by_such_an_encoder_are_refused(case):
    encoder = Bent((WRONG | VALUES)[case])
    queries = [Query("a", "word1 word2"), Query("b", "word3")]

    def ask() -> None:
        vectors = query_vectors(queries, encoder.info, Path("ix"), lambda: encoder)
        rounded(vectors.lexical)

    with pytest.raises(InputError):
        ask()


def test_other_forms_of_the_same_numbers_are_the_same(tmp_path):
    right = read(encode_corpus(DOCUMENTS, HashingEncoder(SIZE, DIM), tmp_path / "right"))

    def shuffled(m: csr_matrix) -> csr_matrix:
        """Each row's terms backwards, each weight in two halves, and a zero on top."""
        rows = np.repeat(np.arange(m.shape[0]), np.diff(m.indptr))[::-1]
        terms, halves = m.indices[::-1], m.data[::-1] / 2
        other = coo_matrix((halves, (rows, terms)), m.shape).tocsr()
        doubled = csr_matrix(m.shape, dtype=np.float32)
        order = np.argsort(np.concatenate([rows, rows]), kind="stable")
        doubled.indices = np.concatenate([terms, terms])[order].astype(np.int32)
        doubled.data = np.concatenate([halves, halves])[order]
        doubled.indptr = (2 * other.indptr).astype(np.int32)
        return doubled

    forms = {
        "float64": put("dense", lambda d: d.astype(np.float64)),
        "columns first": put("dense", np.asfortranarray),
        "strided": put("dense", lambda d: np.repeat(d, 2, axis=1)[:, ::2]),
        "wide weights": put("lexical", lambda m: m.astype(np.float64)),
        "csr_array": put("lexical", csr_array),
        "in halves": put("lexical", shuffled),
    }
    for name, bend in forms.items():
        assert read(encode_corpus(DOCUMENTS, Bent(bend), tmp_path / name)) == right, name


def read(encoded: EncodedCorpus) -> list[Any]:
    return [(p.ids, p.dense.tolist(), p.lexical.toarray().tolist()) for p in encoded.parts()]


@pytest.mark.parametrize(
    "error", [RuntimeError("no"), MemoryError(), KeyboardInterrupt(), OSError(5)]
)
def test_an_encoder_that_fails_half_way_leaves_what_it_has_done(tmp_path, error):
    class Failing(HashingEncoder):
        calls = 0

        def encode_documents(self, texts, ids=None):
            Failing.calls += 1
            if Failing.calls == 3:
                raise error
            return super().encode_documents(texts, ids)

    expected: Any = DupMAEError if isinstance(error, OSError) else type(error)
    with pytest.raises((expected, type(error))):
        encode_corpus(DOCUMENTS, Failing(SIZE, DIM), tmp_path / "out", part_size=2)
    with pytest.raises(InputError, match="was not finished"):
        EncodedCorpus.open(tmp_path / "out")
    encoded = encode_corpus(DOCUMENTS, HashingEncoder(SIZE, DIM), tmp_path / "out", part_size=2)
    assert encoded.newly_encoded == 4


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_the_edges_of_floats_are_kept_or_refused(tmp_path, dtype):
    largest = float(np.finfo(dtype).max)
    edges = np.array([0.0, -0.0, largest, -largest, 2.0**-24, 1e-45, 1.0, -1.0], np.float32)
    encoder = Bent(put("dense", lambda d: np.tile(edges, (len(d), 1))))
    encoded = encode_corpus(DOCUMENTS, encoder, tmp_path / "out", dense_dtype=dtype)
    expected = edges.astype(dtype).astype(np.float32)
    assert np.array_equal(next(encoded.parts()).dense, np.tile(expected, (8, 1)))
    beyond = Bent(put("dense", lambda d: np.full(d.shape, largest * 1.001)))
    with pytest.raises(DupMAEError, match="does not fit into"):
        encode_corpus(DOCUMENTS, beyond, tmp_path / "beyond", dense_dtype=dtype)


@pytest.mark.java
@pytest.mark.parametrize(
    "bend",
    [
        put("dense", np.zeros_like),
        put("lexical", lambda m: m * 0),
        put("lexical", lambda m: m * np.float32(1e-38)),
        put("lexical", lambda m: m * np.float32(1e35)),
        put("dense", lambda d: d * np.float32(1e18)),
        put("dense", lambda d: d * np.float32(1e-30)),
        lambda r: Representations(r.ids, np.zeros_like(r.dense), r.lexical * 0),
    ],
    ids=["zero vectors", "no terms", "subnormal", "large", "long", "short", "nothing at all"],
)
@pytest.mark.parametrize("faiss", ["Flat", "HNSW4"])
def test_vectors_of_nothing_and_of_any_size_are_indexed_and_searched(tmp_path, bend, faiss):
    encoder = Bent(bend)
    index = HybridIndex.build(tmp_path / "ix", DOCUMENTS, encoder, faiss=faiss)
    stored = bend(HashingEncoder(SIZE, DIM).encode_documents([d.contents for d in DOCUMENTS]))
    query = bend(HashingEncoder(SIZE, DIM).encode_documents(["word1 word"], ["q"]))
    query.texts = ["word1 word"]
    if stored.lexical.nnz and stored.lexical.data.max() > 1e30:
        with pytest.raises(DupMAEError, match="no finite number; the vectors are too large"):
            index.search_batch(query, mode="lexical")
        return
    for mode in ("dense", "lexical", "hybrid"):
        ranking = index.search_batch(query, k=20, mode=mode, exact=True)["q"]
        assert np.isfinite(ranking.scores).all()
        if mode == "dense":
            products = stored.dense.astype(np.float64) @ query.dense[0].astype(np.float64)
            best = sorted(range(8), key=lambda i: (-np.float32(products[i]), f"d{i}"))
            assert ranking.ids == [f"d{i}" for i in best]
        if mode == "lexical":
            overlap = (stored.lexical != 0).astype(int) @ (query.lexical != 0).astype(int).T
            assert set(ranking.ids) <= {f"d{i}" for i in range(8) if overlap[i, 0]}
        if mode == "hybrid":
            assert len(ranking) == 8
    index.close()
