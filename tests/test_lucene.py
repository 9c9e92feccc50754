"""Lucene's scores are the exact dot products, in the right order, for every query and every k."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from scipy.sparse import random as random_matrix

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.index.vocabulary import WORD, lucene_terms, word_terms, words_of

pytestmark = pytest.mark.java


def impacts_of(n: int, size: int, density: float, seed: int, most: int = 255) -> csr_matrix:
    generator = np.random.default_rng(seed)
    matrix = random_matrix(n, size, density, "csr", random_state=generator)
    kind = np.uint8 if most < 256 else np.uint16
    matrix.data = generator.integers(1, most + 1, matrix.nnz).astype(kind)
    matrix.sort_indices()
    return matrix.astype(kind)


def write(folder: Path, impacts: csr_matrix) -> LuceneImpacts:
    ids = [f"d{number:06d}" for number in range(impacts.shape[0])]
    terms = [f"t{number}" for number in range(impacts.shape[1])]
    write_lucene(folder, ids, impacts, terms)
    return LuceneImpacts(folder, terms)


def queries_of(rows: np.ndarray) -> csr_matrix:
    return csr_matrix(np.atleast_2d(rows).astype(np.float32))


def best(impacts: csr_matrix, weights: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The exact answer: scipy's float64 product, rounded once, ties by row."""
    scores = (impacts.astype(np.float64) @ weights.astype(np.float64)).astype(np.float32)
    order = np.lexsort((np.arange(len(scores)), -scores))
    order = order[scores[order] > 0][:k]
    return order, scores[order]


def assert_exact(index: LuceneImpacts, impacts: csr_matrix, rows: np.ndarray, k: int) -> None:
    found = index.search(queries_of(rows), k)
    assert len(found) == len(np.atleast_2d(rows))
    for weights, (docs, scores) in zip(np.atleast_2d(rows), found, strict=True):
        expected_docs, expected_scores = best(impacts, weights.astype(np.float32), k)
        assert docs.dtype == np.int32
        assert scores.dtype == np.float32
        np.testing.assert_array_equal(docs, expected_docs)
        np.testing.assert_array_equal(scores, expected_scores)


@pytest.fixture(scope="module")
def dense_folder(tmp_path_factory: pytest.TempPathFactory) -> tuple[LuceneImpacts, csr_matrix]:
    """7,000 documents over few terms: long posting lists, in which Lucene skips blocks."""
    impacts = impacts_of(7000, 60, 0.3, seed=1)
    return write(tmp_path_factory.mktemp("dense"), impacts), impacts


@pytest.mark.parametrize("k", [1, 2, 10, 100, 999, 1000, 1001, 6999, 7000, 7001, 2**31 - 1, 2**40])
def test_scores_are_bit_equal_to_scipys_for_every_k(
    dense_folder: tuple[LuceneImpacts, csr_matrix], k: int
) -> None:
    index, impacts = dense_folder
    generator = np.random.default_rng(k % 1000)
    rows = generator.random((6, 60)) * (generator.random((6, 60)) < 0.2) * 3
    assert_exact(index, impacts, round_weights(rows), k)


@pytest.mark.parametrize("terms", [1, 2, 3, 8, 60])
def test_few_terms_and_many_are_alike(
    dense_folder: tuple[LuceneImpacts, csr_matrix], terms: int
) -> None:
    index, impacts = dense_folder
    generator = np.random.default_rng(terms)
    rows = np.zeros((20, 60))
    for row in rows:
        row[generator.choice(60, terms, replace=False)] = generator.lognormal(size=terms)
    for k in (1, 10, 1000):
        assert_exact(index, impacts, round_weights(rows), k)


@pytest.mark.parametrize("k", [1, 5, 100, 1000, 3000, 7000])
def test_ties_go_to_the_lower_document_number_even_where_blocks_are_skipped(
    tmp_path: Path, k: int
) -> None:
    impacts = impacts_of(7000, 12, 0.5, seed=2, most=2)
    index = write(tmp_path, impacts)
    generator = np.random.default_rng(k)
    rows = generator.integers(0, 3, (30, 12))
    assert_exact(index, impacts, rows, k)


def test_weights_of_very_different_size_are_summed_exactly(
    dense_folder: tuple[LuceneImpacts, csr_matrix],
) -> None:
    index, impacts = dense_folder
    rows = round_weights(np.logspace(-9, 3, 60).reshape(1, 60))
    assert_exact(index, impacts, rows, 7000)


def test_impacts_of_sixteen_bits_are_exact_too(tmp_path: Path) -> None:
    impacts = impacts_of(2000, 50, 0.4, seed=3, most=65535)
    rows = round_weights(np.random.default_rng(3).random((5, 50)), 65535)
    assert_exact(write(tmp_path, impacts), impacts, rows, 500)


def test_a_term_of_every_document_counts(tmp_path: Path) -> None:
    impacts = csr_matrix(np.array([[7, 1], [9, 0], [7, 2]], np.uint8))
    assert_exact(write(tmp_path, impacts), impacts, np.array([[1.0, 0.0], [1.0, 5.0]]), 10)


def test_a_query_of_all_terms_is_answered(tmp_path: Path) -> None:
    impacts = impacts_of(300, 6000, 0.05, seed=4)
    index = write(tmp_path, impacts)
    assert_exact(index, impacts, round_weights(np.random.default_rng(4).random((2, 6000))), 300)


def test_documents_without_terms_are_kept_and_never_found(tmp_path: Path) -> None:
    impacts = csr_matrix(np.array([[0, 0], [3, 0], [0, 0]], np.uint8))
    index = write(tmp_path, impacts)
    assert len(index) == 3
    assert_exact(index, impacts, np.array([[1.0, 1.0]]), 3)


def test_a_query_without_terms_or_with_unknown_ones_finds_nothing(tmp_path: Path) -> None:
    impacts = csr_matrix(np.array([[5, 0]], np.uint8))
    index = write(tmp_path, impacts)
    found = index.search(queries_of([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0]]), 5)
    assert [docs.tolist() for docs, _ in found] == [[], [], [0]]
    assert index.search(csr_matrix((0, 2), dtype=np.float32), 5) == []
    assert index.search_terms([{"never seen": 1.0}], 5)[0][0].tolist() == []


def test_stored_zeros_in_a_query_are_no_terms(tmp_path: Path) -> None:
    index = write(tmp_path, csr_matrix(np.array([[5, 1]], np.uint8)))
    query = queries_of([[2.0, 1.0]])
    query.data[1] = 0
    assert index.search(query, 1)[0][1].tolist() == [10.0]


def test_documents_keep_their_order_in_one_segment(tmp_path: Path) -> None:
    impacts = impacts_of(25_000, 30, 0.1, seed=5)
    index = write(tmp_path, impacts)
    assert index.segments == 1
    assert index.ids() == [f"d{number:06d}" for number in range(25_000)]


def test_documents_keep_their_order_when_the_buffer_is_flushed_many_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dupmae_toolkit.index.lucene._BUFFER_MIB", 0.1)
    impacts = impacts_of(3000, 400, 0.2, seed=6)
    index = write(tmp_path, impacts)
    assert index.segments == 1
    assert index.ids() == [f"d{number:06d}" for number in range(3000)]
    assert_exact(index, impacts, round_weights(np.random.default_rng(6).random((3, 400))), 3000)


def test_several_threads_search_at_once(dense_folder: tuple[LuceneImpacts, csr_matrix]) -> None:
    index, impacts = dense_folder
    rows = [round_weights(np.random.default_rng(n).random((2, 60))) for n in range(24)]
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda row: assert_exact(index, impacts, row, 50), rows))


def test_threads_that_search_different_indexes_do_not_exchange_them(tmp_path: Path) -> None:
    pairs = []
    for number in range(4):
        impacts = impacts_of(500, 60, 0.3, seed=10 + number)
        pairs.append((write(tmp_path / str(number), impacts), impacts))

    def search(number: int) -> None:
        index, impacts = pairs[number % 4]
        row = round_weights(np.random.default_rng(number).random((1, 60)))
        assert_exact(index, impacts, row, 20)
        assert len(index.ids()) == 500

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(search, range(200)))


def test_indexes_can_be_written_and_opened_while_another_is_searched(tmp_path: Path) -> None:
    impacts = impacts_of(400, 60, 0.3, seed=20)

    def work(number: int) -> None:
        index = write(tmp_path / str(number), impacts)
        assert index.ids()[-1] == "d000399"
        assert_exact(index, impacts, round_weights(np.random.default_rng(number).random(60)), 50)
        index.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(12)))


def test_terms_and_ids_beyond_the_first_plane_are_javas_own_characters(tmp_path: Path) -> None:
    write_lucene(tmp_path, ["😀"], csr_matrix(np.array([[1]], np.uint8)), ["😀😀"])
    index = LuceneImpacts(tmp_path, ["😀😀"])
    stored = b"".join(path.read_bytes() for path in sorted(tmp_path.iterdir()))
    assert "😀😀".encode() in stored
    assert index.ids() == ["😀"]


tokens = st.one_of(
    st.text(max_size=12),
    st.text(st.characters(), max_size=6),
    st.text(
        st.sampled_from(' \t\n\x00\x01|^~*?:"()[]{}\\/+-!&▁Ġ\u00a0\u3000\u2028😀\ud800é'),
        max_size=5,
    ),
    st.sampled_from(["AND", "OR", "NOT", "TO", "", "|", "a|3", "x^2", "<s>", "[MASK]", "x" * 300]),
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(tokens, min_size=1, max_size=60))
def test_every_entry_of_a_nasty_vocabulary_is_found_by_itself_and_only_by_itself(
    tmp_path_factory: pytest.TempPathFactory, vocabulary: list[str]
) -> None:
    size = len(vocabulary)
    impacts = csr_matrix(np.diag(np.arange(1, size + 1).astype(np.uint8)))
    terms = lucene_terms(vocabulary)
    folder = tmp_path_factory.mktemp("nasty")
    write_lucene(folder, [str(number) for number in range(size)], impacts, terms)
    index = LuceneImpacts(folder, terms)
    found = index.search(csr_matrix(np.eye(size, dtype=np.float32)), size + 1)
    assert [docs.tolist() for docs, _ in found] == [[number] for number in range(size)]
    assert [scores.tolist() for _, scores in found] == [[n + 1.0] for n in range(size)]
    index.close()


@given(st.lists(tokens, min_size=1, max_size=30, unique=True), st.lists(tokens, max_size=30))
def test_words_come_back_from_the_terms_whatever_tokens_stand_beside_them(
    tmp_path_factory: pytest.TempPathFactory, words: list[str], vocabulary: list[str]
) -> None:
    terms = [*lucene_terms(vocabulary), *word_terms(words)]
    folder = tmp_path_factory.mktemp("words")
    # A column without a posting has no term in Lucene.
    impacts = csr_matrix(np.array([[1] * (len(terms) - 1) + [0]], np.uint8))
    write_lucene(folder, ["d"], impacts, terms)
    index = LuceneImpacts(folder)
    assert words_of(index.terms(WORD)) == sorted(words[:-1])
    index.close()


def test_there_are_no_terms_in_an_index_of_none(tmp_path: Path) -> None:
    write_lucene(tmp_path, ["d"], csr_matrix((1, 3), dtype=np.uint8), ["a", "b", "c"])
    index = LuceneImpacts(tmp_path)
    assert index.terms("a") == []
    index.close()
    write_lucene(tmp_path / "one", ["d"], csr_matrix(np.array([[1]], np.uint8)), ["a"])
    index = LuceneImpacts(tmp_path / "one")
    assert (index.terms("a"), index.terms("b"), index.terms("aa")) == (["a"], [], [])
    index.close()


@pytest.mark.parametrize("name", ["plain", "日本", "😀", "a|b", "x" * 5000, "é\u0301", "001", "NA"])
def test_ids_come_back_as_they_were(tmp_path: Path, name: str) -> None:
    write_lucene(tmp_path, [name], csr_matrix(np.array([[1]], np.uint8)), ["t"])
    assert LuceneImpacts(tmp_path).ids() == [name]


def test_an_id_beyond_lucenes_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="too long"):
        write_lucene(tmp_path, ["x" * 40_000], csr_matrix(np.array([[1]], np.uint8)), ["t"])


@pytest.mark.parametrize("k", [0, -1])
def test_a_k_below_one_is_refused(dense_folder: tuple[LuceneImpacts, csr_matrix], k: int) -> None:
    with pytest.raises(InputError, match=f"k is {k}"):
        dense_folder[0].search(queries_of([[1.0] * 60]), k)


@pytest.mark.parametrize("bad", [-1.0, float("nan"), float("inf")])
def test_weights_that_are_none_are_refused(
    dense_folder: tuple[LuceneImpacts, csr_matrix], bad: float
) -> None:
    with pytest.raises(InputError, match="weights"):
        dense_folder[0].search(queries_of([[bad] * 60]), 5)


def test_queries_of_another_vocabulary_are_refused(
    dense_folder: tuple[LuceneImpacts, csr_matrix],
) -> None:
    with pytest.raises(InputError, match="encode them with the index's encoder"):
        dense_folder[0].search(queries_of([[1.0] * 61]), 5)


def test_a_folder_that_is_missing_or_empty_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        LuceneImpacts(tmp_path / "nowhere")
    with pytest.raises(DupMAEError) as raised:
        LuceneImpacts(tmp_path)
    assert str(raised.value).startswith(f"{tmp_path}: opening the Lucene index: ")
    assert "\n" not in str(raised.value)
