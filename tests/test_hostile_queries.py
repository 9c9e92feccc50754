"""Queries without anything to find, and indexes without anything to be found."""

from __future__ import annotations

import unicodedata

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.records import Document, Representations
from tests.support import HashingEncoder
from tests.tiny import save_tiny

pytestmark = pytest.mark.java

ENCODER = HashingEncoder(size=64, dim=8)
DOCUMENTS = [Document(f"d{n}", "", f"word{n} word{n + 1} word") for n in range(8)]
MODES = ("hybrid", "dense", "lexical")


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return HybridIndex.build(tmp_path_factory.mktemp("ix") / "ix", DOCUMENTS, ENCODER)


@pytest.mark.parametrize("text", ["!!!", "...", "👩‍👩‍👧", "\ud800", "-"])
def test_a_query_without_a_known_term_finds_all_by_its_vector_and_none_by_terms(index, text):
    assert index.search(text, mode="lexical") == []
    for mode in ("dense", "hybrid"):
        hits = index.search(text, mode=mode)
        # All score 0, so that they come by id.
        assert [hit.id for hit in hits] == [f"d{n}" for n in range(8)]
        assert all(hit.score == 0 for hit in hits)


@pytest.mark.parametrize(
    "text", ["", " ", "\t\r\n", "\u3000\u2028", "\x1c\x85", "\u200b\u200d", "\0"]
)
def test_an_empty_question_is_refused(index, text):
    with pytest.raises(InputError, match="has no text"):
        index.search(text)
    with pytest.raises(InputError, match="'0' has no text"):
        index.search([text, "word"])
    with pytest.raises(InputError, match="'q' has no text"):
        index.search_batch([Query("q", text)])


def test_a_question_of_special_tokens_alone_has_the_vector_of_nothing(tmp_path):
    save_tiny(tmp_path / "model")
    encoder = DupMAEEncoder.from_pretrained(tmp_path / "model", device="cpu", precision="fp32")
    items = [Document("a", "", "w1 w2"), Document("b", "", "w3 w4")]
    index = HybridIndex.build(tmp_path / "ix", items, encoder)
    for text in ("[CLS]", "[CLS] [SEP] [PAD] [MASK]"):
        assert index.search(text, mode="lexical") == []
        assert len(index.search(text)) == 2
    index.close()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [0, -1, -(10**30)])
def test_a_k_below_one_is_refused(index, k, mode):
    with pytest.raises(InputError, match="k is "):
        index.search("word1", k=k, mode=mode)


@pytest.mark.parametrize("k", [1.5, "10", None, True, float("nan"), float("inf")])
def test_a_k_that_is_no_whole_number_is_refused(index, k):
    with pytest.raises(InputError, match="k is "):
        index.search("word1", k=k)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("k", [8, 9, 2**31 - 1, 2**31, 2**63, 10**30])
def test_a_k_beyond_the_corpus_gives_all_there_is(index, k, mode):
    for exact in (False, True):
        hits = index.search("word", k=k, mode=mode, exact=exact)
        assert sorted(hit.id for hit in hits) == [f"d{n}" for n in range(8)]


def test_a_k_beyond_the_corpus_is_fine_for_lucene_too(index):
    other = HybridIndex.open(index.path, ENCODER, max_postings=0)
    for k in (8, 2**31, 10**30):
        assert len(other.search("word", k=k, mode="lexical")) == 8
    other.close()


def test_no_queries_at_all_give_an_empty_run(index):
    assert len(index.search_batch([])) == 0
    assert index.search([]) == []


def test_an_index_of_one_document_answers(tmp_path):
    index = HybridIndex.build(tmp_path / "ix", DOCUMENTS[:1], ENCODER)
    for mode in MODES:
        assert [hit.id for hit in index.search("word", mode=mode, k=5)] == ["d0"]
    assert [hit.id for hit in index.search("unknown")] == ["d0"]
    index.close()


def test_an_index_of_no_documents_is_refused_and_leaves_nothing(tmp_path):
    for nothing in ([], iter([]), [Document("a", "", " ")]):
        with pytest.raises(InputError):
            HybridIndex.build(tmp_path / "ix", nothing, ENCODER)
        assert not (tmp_path / "ix").exists()


def test_an_index_whose_documents_are_all_deleted_finds_nothing_and_takes_new_ones(tmp_path):
    index = HybridIndex.build(tmp_path / "ix", DOCUMENTS, ENCODER)
    index.delete([document.id for document in DOCUMENTS])
    assert len(index) == 0
    for most in (0, None):
        settings_ = {} if most is None else {"max_postings": most}
        again = HybridIndex.open(tmp_path / "ix", ENCODER, **settings_)
        for mode in MODES:
            for exact in (False, True):
                assert again.search("word", mode=mode, exact=exact) == []
        assert len(again.search_batch([Query("q", "word")])["q"]) == 0
        again.close()
    index.compact()
    assert index.search("word") == []
    index.add([Document("new", "", "word")])
    assert [hit.id for hit in index.search("word")] == ["new"]
    index.close()


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(text=st.text(max_size=30), k=st.integers(1, 12), mode=st.sampled_from(MODES))
def test_whatever_is_asked_gives_a_ranking_or_one_line(index, text, k, mode):
    message = ""
    try:
        hits = index.search(text, k=k, mode=mode)
    except InputError as error:
        message = str(error)
    if message:
        kinds = {unicodedata.category(character) for character in text}
        assert kinds <= {"Cc", "Cf", "Zs", "Zl", "Zp"}
        return
    assert len(hits) <= k
    assert len({hit.id for hit in hits}) == len(hits)
    keys = [(-np.float32(hit.score), hit.id) for hit in hits]
    assert keys == sorted(keys)
    # A query vector of float32 and the documents': the products by brute force.
    vectors = ENCODER.encode_documents([d.contents for d in DOCUMENTS]).dense.astype(np.float64)
    products = vectors @ ENCODER.encode_queries([text]).dense[0].astype(np.float64)
    for hit in hits:
        if hit.dense is not None:
            assert hit.dense == np.float32(products[int(hit.id[1:])])


@pytest.mark.parametrize("weight", [0.0, 1e-45, 1e-38, 2.0**-31, 3e38])
def test_query_weights_of_any_size_are_searched_or_refused(index, weight):
    lexical = csr_matrix((np.full(64, weight, np.float32), ([0] * 64, range(64))), shape=(1, 64))
    query = Representations(["q"], np.zeros((1, 8), np.float32), lexical)
    message = ""
    try:
        ranking = index.search_batch(query, mode="lexical", idf_power=0)["q"]
    except DupMAEError as error:
        message = str(error)
    if message:
        assert weight == 3e38
        assert "no finite number" in message
    else:
        assert np.isfinite(ranking.scores).all()
        assert len(ranking) == (8 if weight > 2.0**-31 else 0)


@pytest.mark.parametrize("size", [1e19, 3e38])
def test_query_vectors_whose_products_overflow_are_refused(index, size):
    query = Representations(["q"], np.full((1, 8), size, np.float32), csr_matrix((1, 64)))
    message = ""
    try:
        scores = index.search_batch(query, mode="dense")["q"].scores
    except DupMAEError as error:
        message = str(error)
    assert message or np.isfinite(scores).all()
