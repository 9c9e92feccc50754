"""The dense leg finds what brute force finds, in a stated order, and says when it cannot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import DenseIndex, keeps_vectors, make_faiss, write_faiss
from dupmae_toolkit.search.dense import DenseShard, dense_shard


def vectors_of(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def whole_vectors_of(n: int, d: int = 16, seed: int = 0) -> np.ndarray:
    """Vectors of small integers: their products are exact in any order, and many are equal."""
    return np.random.default_rng(seed).integers(-2, 3, (n, d)).astype(np.float32)


def write(folder: Path, dense: np.ndarray, spec: str = "Flat") -> DenseIndex:
    write_faiss(folder, [f"d{number}" for number in range(len(dense))], dense, spec)
    return DenseIndex(folder)


def shard(index: DenseIndex) -> DenseShard:
    """What the dense leg searches: an exact index is scanned."""
    return dense_shard(index, index.vectors())


def best(dense: np.ndarray, query: np.ndarray, k: int) -> tuple[list[int], list[float]]:
    scores = dense.astype(np.float64) @ query.astype(np.float64)
    order = np.lexsort((np.arange(len(scores)), -scores))[:k]
    return order.tolist(), scores[order].tolist()


@pytest.mark.parametrize("k", [1, 3, 50, 299, 300, 301, 10**6])
def test_a_flat_index_equals_brute_force_with_ties_by_row(tmp_path: Path, k: int) -> None:
    dense = whole_vectors_of(300)
    queries = whole_vectors_of(25, seed=1)
    for query, (rows, scores) in zip(
        queries, shard(write(tmp_path, dense)).search(queries, k), strict=True
    ):
        assert (rows.dtype, scores.dtype) == (np.int32, np.float32)
        assert (rows.tolist(), scores.tolist()) == best(dense, query, k)


def test_a_tie_of_many_documents_at_the_cut_is_resolved_over_all_of_them(tmp_path: Path) -> None:
    dense = np.ones((2000, 8), np.float32)
    dense[1990:] = 2
    rows, _ = shard(write(tmp_path, dense)).search(np.ones((1, 8), np.float32), 15)[0]
    assert rows.tolist() == [*range(1990, 2000), 0, 1, 2, 3, 4]


def test_an_empty_batch_has_an_empty_answer(tmp_path: Path) -> None:
    assert write(tmp_path, vectors_of(5)).search(np.empty((0, 16), np.float32), 3) == []


def test_one_document_and_zero_vectors_are_fine(tmp_path: Path) -> None:
    index = write(tmp_path, np.zeros((1, 4), np.float32))
    rows, scores = index.search(np.zeros((2, 4), np.float32), 10)[1]
    assert (rows.tolist(), scores.tolist()) == ([0], [0.0])


SPECS = [
    *("HNSW16", "IVF8,Flat", "PQ8x4", "SQ8", "PCA12,Flat", "IVF4,SQ8", "NSG16"),
    pytest.param("OPQ8,IVF4,PQ8x4", marks=pytest.mark.slow),  # OPQ trains 256 centroids
]


@pytest.mark.parametrize("spec", SPECS)
def test_other_specs_find_near_neighbours_and_never_minus_one(
    tmp_path: Path, spec: str, capfd: pytest.CaptureFixture[str]
) -> None:
    dense = vectors_of(400)
    index = write(tmp_path, dense, spec)
    found = index.search(dense[:50], 400)
    assert not index.exact
    assert index.vectors() is None
    for rows, scores in found:
        assert len(rows) <= 400
        assert len(set(rows.tolist())) == len(rows)
        assert rows.min() >= 0
        assert all(scores[:-1] >= scores[1:])
    assert np.mean([number in rows[:10] for number, (rows, _) in enumerate(found)]) > 0.8
    assert capfd.readouterr().err == ""


def test_a_flat_index_gives_back_its_vectors_without_a_copy(tmp_path: Path) -> None:
    dense = vectors_of(20)
    index = write(tmp_path, dense)
    held = index.vectors()
    assert held is not None
    np.testing.assert_array_equal(held, dense)
    assert not held.flags.writeable
    assert not held.flags.owndata
    piece = held[3:5]
    del index, held
    np.testing.assert_array_equal(piece, dense[3:5])


@pytest.mark.parametrize(("spec", "kept"), [("Flat", True), ("HNSW32", False), ("SQ8", False)])
def test_only_flat_keeps_vectors_as_they_were(spec: str, kept: bool) -> None:
    assert keeps_vectors(spec) is kept


def test_ids_are_written_as_pyserini_writes_them(tmp_path: Path) -> None:
    write_faiss(tmp_path, ["a", "日本", "001"], vectors_of(3))
    assert (tmp_path / "docid").read_bytes() == "a\n日本\n001\n".encode()


@pytest.mark.parametrize("spec", ["", "Flatt", "IVF,Flat", "PQ3", "LSH", "IDMap,Flat", "\n"])
def test_a_spec_that_faiss_does_not_know_is_refused_in_one_line(spec: str) -> None:
    with pytest.raises(InputError) as raised:
        make_faiss(spec, 16)
    message = str(raised.value)
    assert repr(spec) in message
    assert "\n" not in message
    assert ".cpp" not in message


@pytest.mark.parametrize("spec", ["IVF100,Flat", "PQ4", "PCA12,Flat", "NSG16"])
def test_too_few_vectors_to_train_on_are_told(tmp_path: Path, spec: str) -> None:
    with pytest.raises(InputError, match=r"does not suit 5 vectors of 16 dimensions: .*use Flat"):
        write_faiss(tmp_path, list("abcde"), vectors_of(5), spec)
    assert not (tmp_path / "index").exists()


@pytest.mark.parametrize("k", [0, -3])
def test_a_k_below_one_is_refused(tmp_path: Path, k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}"):
        write(tmp_path, vectors_of(3)).search(vectors_of(1), k)


def test_queries_of_another_dimension_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"\(2, 8\) for vectors of 16 dimensions"):
        write(tmp_path, vectors_of(3)).search(vectors_of(2, 8), 1)


@pytest.mark.parametrize("content", [b"", b"nonsense", b"IxFI" + b"\xff" * 60])
def test_a_file_that_is_no_index_is_told_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "index").write_bytes(content)
    with pytest.raises(InputError, match="FAISS cannot read it") as raised:
        DenseIndex(tmp_path)
    assert "\n" not in str(raised.value)


def test_a_missing_index_and_one_of_distances_are_refused(tmp_path: Path) -> None:
    import faiss

    with pytest.raises(InputError, match="no such file"):
        DenseIndex(tmp_path)
    faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "index"))
    with pytest.raises(InputError, match="inner-product index is needed"):
        DenseIndex(tmp_path)
