"""Chains of FAISS transforms over few vectors: found again, or refused with nothing written."""

from __future__ import annotations

import json
from pathlib import Path

import faiss
import numpy as np
import pytest

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index import dense
from dupmae_toolkit.index.dense import DenseIndex, write_faiss
from tests.cli_support import run
from tests.support import HashingEncoder
from tests.tiny import save_tiny

CHAINS = [
    "L2norm,Flat",
    "Pad512,Flat",
    "L2norm,HNSW4",
    "PCA1,Flat",
    "RR16,Flat",
    "Pad64,L2norm,SQ8",
]
TRAINED = ["PCA8,Flat", "L2norm,PCA8,Pad64,Flat", "OPQ4,Flat", "PCAR8,L2norm,HNSW4", "IVF2,Flat"]


def vectors_of(count: int, width: int = 32) -> np.ndarray:
    return np.random.default_rng(3).standard_normal((count, width)).astype(np.float32)


@pytest.mark.parametrize("count", [1, 2, 3, 40])
@pytest.mark.parametrize("spec", CHAINS)
def test_a_chain_over_any_number_of_vectors_opens_and_finds(
    tmp_path: Path, spec: str, count: int
) -> None:
    vectors = vectors_of(count)
    write_faiss(tmp_path, [str(row) for row in range(count)], vectors, spec)
    index = DenseIndex(tmp_path)
    assert (len(index), index.dimension) == (count, 32)
    rows, scores = index.search(vectors[:1], count)[0]
    assert sorted(rows.tolist()) == list(range(count))
    if spec == "L2norm,Flat":
        lengths = np.linalg.norm(vectors, axis=1)
        # The query's length is taken out, too.
        wanted = vectors @ vectors[0] / (lengths * lengths[0])
        np.testing.assert_allclose(scores, wanted[rows], atol=1e-5)


@pytest.mark.parametrize("count", [1, 5, 300])
@pytest.mark.parametrize("spec", TRAINED)
def test_a_chain_that_is_trained_opens_or_is_refused_with_nothing_written(
    tmp_path: Path, spec: str, count: int
) -> None:
    refusal = None
    try:
        write_faiss(tmp_path, [str(row) for row in range(count)], vectors_of(count), spec)
    except InputError as error:
        refusal = str(error)
    if refusal is None:
        assert len(DenseIndex(tmp_path)) == count
        return
    assert count < 300
    assert "does not suit" in refusal
    assert list(tmp_path.iterdir()) == []


def test_what_faiss_does_not_read_back_is_removed_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dense, "LEAST_READ_LIMIT", 0)
    with pytest.raises(
        InputError, match=r"'L2norm,Flat': FAISS does not read back .* use Flat"
    ) as e:
        write_faiss(tmp_path, ["a"], vectors_of(1), "L2norm,Flat")
    assert str(tmp_path) not in str(e.value)
    assert list(tmp_path.iterdir()) == []


def test_the_limit_of_other_users_of_faiss_is_left_as_it_was(tmp_path: Path) -> None:
    before = faiss.get_deserialization_vector_byte_limit()
    write_faiss(tmp_path, ["a"], vectors_of(1), "Pad512,Flat")
    assert faiss.get_deserialization_vector_byte_limit() == before


@pytest.mark.java
@pytest.mark.parametrize("spec", ["L2norm,Flat", "Pad48,Flat"])
def test_an_index_by_a_chain_is_searched_before_and_after_it_grows(
    tmp_path: Path, spec: str
) -> None:
    encoder = HashingEncoder(size=64, dim=16)
    texts = {f"d{n}": f"word{n} common" for n in range(4)}
    documents = [{"id": name, "text": text} for name, text in texts.items()]
    index = HybridIndex.build(tmp_path / "i", documents[:1], encoder, faiss=spec)
    assert [hit.id for hit in index.search("word0", mode="dense")] == ["d0"]
    index.add(documents[1:])
    assert {hit.id for hit in index.search("common", mode="hybrid")} == set(texts)
    with HybridIndex.open(tmp_path / "i", encoder) as again:
        for name, text in texts.items():
            assert again.search(text, k=1, mode="dense", exact=True)[0].id == name


@pytest.mark.java
def test_the_command_builds_and_finds_with_a_chain(tmp_path: Path, capsys) -> None:
    save_tiny(tmp_path / "model")
    source = tmp_path / "b.jsonl"
    source.write_text(json.dumps({"id": "b", "text": "zebra"}) + "\n")
    words = ("--index", tmp_path / "i", "--faiss", "L2norm,Flat", "--model", tmp_path / "model")
    assert run(capsys, "index", source, *words)[0] == 0
    code, out, _ = run(capsys, "search", "--index", tmp_path / "i", "zebra", "--json")
    assert code == 0
    assert [hit["id"] for hit in json.loads(out)["hits"]] == ["b"]
