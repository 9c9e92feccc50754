"""The forward store gives back what was stored, from disk, and sums it exactly."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.documents import SegmentDocuments, write_documents
from dupmae_toolkit.index.forward import ForwardStore
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.records import Document


def impacts_of(n: int, size: int, density: float = 0.1) -> csr_matrix:
    generator = np.random.default_rng(n)
    matrix = random_matrix(n, size, density, "csr", random_state=generator)
    matrix.data = generator.integers(1, 256, matrix.nnz)
    matrix.sort_indices()
    return matrix.astype(np.uint8)


def test_impacts_come_back_mapped_not_copied(tmp_path: Path) -> None:
    impacts = impacts_of(200, 300)
    ForwardStore.write(tmp_path, impacts, None)
    store = ForwardStore.open(tmp_path)
    assert len(store) == 200
    assert (store.impacts != impacts).nnz == 0
    assert store.impacts.data.dtype == np.uint8
    assert isinstance(store.impacts.data, np.memmap)
    assert isinstance(store.impacts.indices, np.memmap)
    assert (store.impacts.astype(np.float64) @ np.ones(300)).shape == (200,)


def test_lexical_scores_equal_scipys_exactly(tmp_path: Path) -> None:
    impacts = impacts_of(300, 400)
    ForwardStore.write(tmp_path, impacts, None)
    store = ForwardStore.open(tmp_path)
    query = random_matrix(1, 400, 0.2, "csr", dtype=np.float32, random_state=1)
    query.data = round_weights(query.data)
    expected = (impacts.astype(np.float64) @ query.toarray().ravel().astype(np.float64)).ravel()
    docs = np.array([299, 0, 7, 7, 150], np.int32)
    terms, weights = query.indices, query.data
    found = store.lexical_scores(terms, weights, docs)
    assert found.dtype == np.float64
    np.testing.assert_array_equal(found, expected[docs])
    np.testing.assert_array_equal(store.lexical_scores(terms, weights, np.arange(300)), expected)
    assert store.lexical_scores(terms, weights, np.empty(0, np.int32)).tolist() == []


def test_documents_and_queries_without_terms_score_zero(tmp_path: Path) -> None:
    impacts = csr_matrix(np.array([[0, 0], [2, 0], [0, 0]], np.uint8))
    ForwardStore.write(tmp_path, impacts, None)
    store = ForwardStore.open(tmp_path)
    three = np.float32([3])
    assert store.lexical_scores(np.array([0]), three, np.arange(3)).tolist() == [0, 6, 0]
    nothing = np.empty(0, np.int32)
    assert store.lexical_scores(nothing, three[:0], np.arange(3)).tolist() == [0, 0, 0]


def test_a_store_without_any_impact_can_be_opened(tmp_path: Path) -> None:
    ForwardStore.write(tmp_path, csr_matrix((3, 7), dtype=np.uint8), None)
    assert ForwardStore.open(tmp_path).impacts.shape == (3, 7)


def test_dense_vectors_are_read_by_number(tmp_path: Path) -> None:
    dense = np.random.default_rng(0).normal(size=(2000, 8)).astype(np.float32)
    ForwardStore.write(tmp_path, csr_matrix((2000, 4), dtype=np.uint8), dense)
    store = ForwardStore.open(tmp_path)
    np.testing.assert_array_equal(store.dense(np.array([5, 1999, 5])), dense[[5, 1999, 5]])
    assert isinstance(store.dense_matrix, np.memmap)
    given = ForwardStore.open(tmp_path, dense=dense * 2)
    np.testing.assert_array_equal(given.dense(np.array([1])), dense[[1]] * 2)


def test_dense_vectors_that_are_nowhere_are_told(tmp_path: Path) -> None:
    ForwardStore.write(tmp_path, csr_matrix((3, 4), dtype=np.uint8), None)
    with pytest.raises(InputError, match="no dense vectors"):
        ForwardStore.open(tmp_path).dense(np.array([0]))


@pytest.mark.parametrize("name", ["indptr", "indices", "data", "shape"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "nonsense", "shorter"])
def test_damaged_arrays_are_told_with_their_file(tmp_path: Path, name: str, damage: str) -> None:
    ForwardStore.write(tmp_path, impacts_of(3000, 300), None)
    path = tmp_path / f"impacts-{name}.npy"
    content = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "shorter":
        np.save(path, np.load(path)[:-1])
    else:
        changed = {"empty": b"", "cut": content[:-1], "nonsense": b"x" * 500}
        path.write_bytes(changed[damage])
    with pytest.raises(InputError, match=str(tmp_path)):
        ForwardStore.open(tmp_path)


def test_pickles_are_not_opened(tmp_path: Path) -> None:
    ForwardStore.write(tmp_path, impacts_of(3, 3), None)
    np.save(tmp_path / "impacts-data.npy", np.array([{"a": 1}], dtype=object))
    with pytest.raises(InputError):
        ForwardStore.open(tmp_path)


def test_documents_come_back_by_number_in_the_order_asked_for(tmp_path: Path) -> None:
    texts = [f"text {number}\n\t😀" for number in range(1300)]
    ids = [f"d{number}" for number in range(1300)]
    write_documents(tmp_path / "documents.parquet", ids, [""] * 1300, texts)
    store = SegmentDocuments(tmp_path / "documents.parquet")
    assert len(store) == 1300
    numbers = [1299, 0, 600, 0]
    assert store.get(numbers) == [Document(f"d{n}", "", texts[n]) for n in numbers]
    assert store.get(np.array([3], np.int32)) == [Document("d3", "", texts[3])]
    assert store.get([]) == []
    assert store.ids() == ids
    for beyond in ([1300], [-1]):
        with pytest.raises(IndexError):
            store.get(beyond)


def test_only_the_groups_that_are_needed_are_held(tmp_path: Path) -> None:
    path = tmp_path / "documents.parquet"
    write_documents(path, [str(n) for n in range(5000)], ["t"] * 5000, ["x"] * 5000)
    store = SegmentDocuments(path)
    store.get([0, 4999])
    assert len(store._groups) == 2


@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "other columns"])
def test_a_damaged_documents_file_is_told(tmp_path: Path, damage: str) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "documents.parquet"
    write_documents(path, ["a"], ["t"], ["x"])
    if damage == "missing":
        path.unlink()
    elif damage == "other columns":
        pq.write_table(pa.table({"id": ["a"]}), path)
    else:
        path.write_bytes(b"" if damage == "empty" else path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"documents\.parquet"):
        SegmentDocuments(path)


def test_the_same_documents_give_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_documents(tmp_path / name, ["a", "b"], ["t", ""], ["x", "y"])
        ForwardStore.write(tmp_path / f"{name}-forward", impacts_of(20, 20), np.ones((20, 2)))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    for path in (tmp_path / "one-forward").iterdir():
        assert path.read_bytes() == (tmp_path / "two-forward" / path.name).read_bytes()
    shutil.rmtree(tmp_path / "one-forward")
