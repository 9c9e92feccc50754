"""An index asked by id: documents, and scores of documents that a search does not list."""

from __future__ import annotations

import shutil

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.collection.store import DocumentStore
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from dupmae_toolkit.search.fusion import Fusion
from tests.index_support import documents_of
from tests.support import HashingEncoder

ENCODER = HashingEncoder()
QUERIES = [Query("1", "w1 w2 w3"), Query("é", "title 3 w17 w100"), Query("none", "nothing at all")]


@pytest.fixture(scope="module")
def documents():
    return documents_of(60)


@pytest.fixture(scope="module")
def index(documents, tmp_path_factory):
    """Over an index of two segments."""
    path = tmp_path_factory.mktemp("lookup") / "index"
    index = HybridIndex.build(path, documents, ENCODER, segment_size=40)
    yield index
    index.close()


@pytest.mark.java
@pytest.mark.parametrize("mode", ["hybrid", "dense", "lexical"])
def test_named_documents_get_the_scores_of_a_search_that_lists_all(index, documents, mode):
    fusion = Fusion("sum", (0.7, 1.9)) if mode == "hybrid" else Fusion()
    names = ["日本", "d3", "ghost", "d41", "é"]
    short = index.request(2, mode, fusion, plain=True)
    everything = index.request(len(index), mode, fusion, plain=True)
    deep = index.run(QUERIES, everything)
    rankings = index.run(QUERIES, short)
    for query, scores in zip(QUERIES, index.scores(QUERIES, [names] * 3, short), strict=True):
        ranking = rankings[query.id]
        expected = dict(zip(deep[query.id].ids, deep[query.id].scores.tolist(), strict=True))
        assert ranking.ids == deep[query.id].ids[:2]
        np.testing.assert_array_equal(ranking.scores, deep[query.id].scores[:2])
        assert list(scores) == ["日本", "d3", "d41", "é"]
        # A lexical search leaves out what shares no term: its score is 0.
        assert scores == {name: expected.get(name, 0.0) for name in scores}
    vectors = ENCODER.encode_documents([d.contents for d in documents], [d.id for d in documents])
    row = [d.id for d in documents].index("d3")
    query = ENCODER.encode_queries([QUERIES[0].text])
    dense = float(query.dense[0] @ vectors.dense[row])
    lexical = float((query.lexical @ vectors.lexical[row].T).toarray()[0, 0])
    plain = {"hybrid": 0.7 * dense + 1.9 * lexical, "dense": dense, "lexical": lexical}[mode]
    scores, *_ = index.scores(QUERIES, [["d3"]] * 3, short)
    assert scores["d3"] == pytest.approx(plain, abs=0.05)  # impacts are rounded


@pytest.mark.java
def test_fusions_by_rank_give_a_document_no_score(index):
    request = index.request(2, "hybrid", Fusion("rrf"))
    with pytest.raises(InputError, match="no score of its own"):
        index.scores(QUERIES, [["d3"]] * 3, request)


@pytest.mark.java
def test_documents_are_found_by_id(index, documents):
    by_id = {document.id: document for document in documents}
    assert index.get(["é", "d0", "nobody", "", "zzz"]) == {n: by_id[n] for n in ("é", "d0")}
    assert index.get([]) == {}
    assert index.get(by_id) == by_id
    corpus = index.corpus()
    assert {document.id: document for document in corpus} == by_id
    assert corpus.count() == 60


@pytest.mark.java
def test_what_is_deleted_is_not_there(index, documents, tmp_path):
    shutil.copytree(index.path, tmp_path / "marked")
    marked = HybridIndex.open(tmp_path / "marked", ENCODER)
    marked.delete(["d3"])
    assert list(marked.get(["d3", "d4"])) == ["d4"]
    scores, *_ = marked.scores(QUERIES, [["d3", "d4"]] * 3, marked.request(2))
    assert list(scores) == ["d4"]
    assert len(list(marked.corpus())) == 59
    marked.close()


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text(
        '{"id": "é", "title": "T", "text": "one\\ntwo"}\n{"id": "2", "text": "x\\u2028y"}\n'
    )
    return path


def test_a_store_keeps_documents_out_of_memory_and_gives_them_back(corpus):
    everything = DocumentStore(open_corpus(corpus))
    assert everything.documents(["2", "é", "3"]) == {
        "é": Document("é", "T", "one\ntwo"), "2": Document("2", "", "x\u2028y")
    }  # fmt: skip
    some = DocumentStore(open_corpus(corpus), {"2", "3"})
    assert (len(some), "é" in some, "2" in some) == (1, False, True)
    everything.close()


def test_a_store_refuses_an_id_that_comes_twice(corpus):
    corpus.write_text(corpus.read_text() + '{"id": "é", "text": "z"}\n')
    with pytest.raises(InputError, match=r"a\.jsonl:3: document é comes a second time"):
        DocumentStore(open_corpus(corpus))
