"""The fitted score at its limits: powers out of range, tiny mean lengths, small integers as k."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.updates import add_corpus
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.search.inputs import LARGEST_WEIGHT, rounded
from dupmae_toolkit.search.words import Weighted, WordQueries
from tests.brute import BruteForce
from tests.cli_support import run
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = pytest.mark.usefixtures("quick_disk")

ENCODER = HashingEncoder(largest_weight=4.0)
DOCUMENTS = documents_of(60, seed=4)
#: One word that no other document has.
RARE = Document("rare", "", "unparalleled")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> HybridIndex:
    folder = tmp_path_factory.mktemp("limits") / "index"
    return HybridIndex.build(folder, [*DOCUMENTS, RARE], ENCODER)


@pytest.mark.java
@pytest.mark.parametrize("power", [1e3, 1e6, 1e300])
@pytest.mark.parametrize("most", [1 << 30, 0])
def test_a_power_that_takes_weights_out_of_range_is_one_line(
    index, power: float, most: int
) -> None:
    opening = HybridIndex.open(index.path, ENCODER, max_postings=most)
    with opening as opened, warnings.catch_warnings():
        warnings.simplefilter("error")  # numpy's of overflow
        for mode in ("lexical", "hybrid"):
            with pytest.raises(InputError, match="choose a smaller idf power") as raised:
                opened.search("unparalleled", mode=mode, idf_power=power)
            assert "\n" not in str(raised.value)
        # Common tokens lose all weight instead, and the other parts have none to lose.
        assert opened.search("title", mode="lexical", idf_power=power) == []
        assert opened.search("unparalleled", mode="bm25", idf_power=power)[0].id == "rare"
        assert opened.search("unparalleled", k=3, mode="dense", idf_power=power)


@pytest.mark.java
def test_such_a_power_is_refused_by_the_command_too(index, capsys, monkeypatch) -> None:
    monkeypatch.setattr("dupmae_toolkit.search.hybrid_index.load_encoder", lambda *_, **__: ENCODER)
    given = ("search", "--index", index.path, "unparalleled", "--idf-power", "1e9")
    code, out, said = run(capsys, *given)
    assert (code, out, said.count("\n")) == (2, "", 1)
    assert "choose a smaller idf power" in said


def test_weights_up_to_the_limit_pass_and_none_beyond() -> None:
    query = csr_matrix(np.array([[1.0, 0.5]], np.float32))
    factors = np.array([LARGEST_WEIGHT, 1.0])
    assert rounded(query, factors=factors).data.tolist() == [LARGEST_WEIGHT, 0.5]
    for bad in (np.nextafter(LARGEST_WEIGHT, np.inf), np.inf, np.nan):
        with pytest.raises(InputError, match="out of range"):
            rounded(query, factors=np.array([bad, 1.0]))


@pytest.mark.java
@pytest.mark.parametrize("length", [1e-300, 1e-60, 1e300])
def test_no_mean_length_drops_a_word(tmp_path: Path, index, length: float) -> None:
    with HybridIndex.build(tmp_path / "i", DOCUMENTS, ENCODER, mean_length=length) as extreme:
        (ours,) = extreme.manifest.segments
        with HybridIndex.build(tmp_path / "usual", DOCUMENTS, ENCODER) as usual:
            (theirs,) = usual.manifest.segments
            assert (ours.words, ours.postings) == (theirs.words, theirs.postings)
            for text in ("w1 w2 title", DOCUMENTS[0].text):
                found = {hit.id for hit in extreme.search(text, k=60, mode="bm25")}
                assert found == {hit.id for hit in usual.search(text, k=60, mode="bm25")}
                assert found


def test_the_share_of_a_word_is_never_nothing() -> None:
    counts = csr_matrix(np.array([[1, 30]], np.int32))
    for mean in (5e-324, 1e-60, 1.0, 1e308):
        with np.errstate(over="ignore"):
            parts = Bm25(mean).saturation(counts, np.array([31], np.int32)).data
        assert parts.dtype == np.float32
        assert (parts > 0).all()
        assert (parts <= 1).all()


@pytest.mark.java
def test_compacting_renews_the_mean_length_and_nothing_else_of_bm25(tmp_path: Path) -> None:
    folder = tmp_path / "index"
    documents = [Document(f"d{n}", "", " ".join(["a1", "b2"] * n)) for n in range(1, 9)]
    HybridIndex.build(folder, documents, ENCODER).close()
    manifest = Manifest.load(folder)
    manifest.scoring = replace(manifest.scoring, bm25=Bm25(manifest.bm25.mean_length, 1.5, 0.25))
    manifest.save(folder)
    with HybridIndex.open(folder, ENCODER) as opened:
        opened.delete(["d8"])
        opened.compact()
        assert opened.manifest.bm25 == Bm25(8.0, 1.5, 0.25)
        brute = BruteForce(documents[:7], ENCODER, opened.manifest)
        hits = opened.search("a1 b2", k=9, mode="bm25", exact=True)
        assert [(hit.id, hit.score) for hit in hits] == brute.ranked("a1 b2", "bm25", 9)


@pytest.mark.java
@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int64])
@pytest.mark.parametrize("most", [1 << 30, 0])
def test_a_small_integer_of_numpys_is_a_k_like_any_other(index, kind: type, most: int) -> None:
    opening = HybridIndex.open(index.path, ENCODER, max_postings=most)
    with opening as opened, warnings.catch_warnings():
        warnings.simplefilter("error")
        for mode in ("dense", "lexical", "bm25", "hybrid"):
            for k in (120, 60, 3):
                text = "w1 w2 w3 w4 w5 title"
                found = opened.search(text, k=kind(k), mode=mode, exact=True)
                assert found == opened.search(text, k=k, mode=mode, exact=True)


@pytest.mark.java
@pytest.mark.parametrize("k", [10**12, 2**63, 10**30])
def test_a_huge_k_gives_all_there_are(index, k: int) -> None:
    for most in (1 << 30, 0):
        with HybridIndex.open(index.path, ENCODER, max_postings=most) as opened:
            assert len(opened.search("w1 title", k=k)) == len(opened) == 61
            found = opened.search("w1 title", k=k, mode="bm25", exact=True)
            assert 0 < len(found) < 61


def test_queries_find_their_columns_in_each_segment_again() -> None:
    matrix = csr_matrix(np.array([[1, 2, 0], [0, 3, 4]], np.float32))
    weights = Weighted(matrix.data, matrix.indices.astype(np.int64), matrix.indptr, 3)
    queries = WordQueries(["a", "b", "c"], weights)

    def expected(columns: dict[str, int], rows: slice) -> np.ndarray:
        dense = np.zeros((2, 9), np.float32)
        for place, word in enumerate("abc"):
            if word in columns:
                dense[:, columns[word]] = matrix.toarray()[:, place]
        return dense[rows]

    for number in range(50):  # a mapping that is gone may leave its place to the next one
        columns = {word: number % 5 + place for place, word in enumerate("cab"[: number % 4])}
        for rows in (slice(0, 2), slice(1, 2), slice(0, 1)):
            found = queries[rows].over(columns, 9)
            parts = found.data, found.indices, found.indptr
            dense = csr_matrix(parts, shape=found.shape).toarray()
            np.testing.assert_array_equal(dense, expected(columns, rows))


# --- additions


class Cutting(HashingEncoder):
    """Says how many documents were longer than 10 words."""

    def encode_documents(self, texts, ids=None):
        found = super().encode_documents([" ".join(text.split()[:10]) for text in texts], ids)
        found.truncated = sum(len(text.split()) > 10 for text in texts)
        return found


@pytest.mark.java
def test_an_addition_says_how_many_of_its_documents_were_cut(tmp_path: Path, capsys) -> None:
    encoder, long = Cutting(largest_weight=4.0), " ".join(["w1"] * 11)
    HybridIndex.build(tmp_path / "index", [Document("a", "", long)], encoder).close()
    more = [Document("b", "", long), Document("c", "", "w1"), Document("d", "", long)]
    done = add_corpus(tmp_path / "index", more, encoder)
    assert (done.added, done.truncated) == (3, 2)
    encode_corpus([Document("e", "", long)], encoder, tmp_path / "e")
    encode_corpus([Document("f", "", "w1")], encoder, tmp_path / "f")
    said = run(capsys, "add", tmp_path / "e", "--index", tmp_path / "index")[2]
    assert "weights clipped, 1 cut at the encoder's limit\n" in said
    assert "cut" not in run(capsys, "add", tmp_path / "f", "--index", tmp_path / "index")[2]
    assert "cut" not in run(capsys, "delete", "e", "--index", tmp_path / "index")[2]
    assert Manifest.load(tmp_path / "index").truncated == 4
