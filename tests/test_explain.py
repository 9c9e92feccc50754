"""Explanations: the parts sum to the score, and every number is what the definitions give."""

from __future__ import annotations

import json
import random
from collections import Counter

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import Document, HybridIndex, Query, Representations
from dupmae_toolkit.analysis import words as words_of
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.search.dense import DenseLeg, DenseShard
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.ranks import Rank, leg_ranks
from tests.brute import MODES, BruteForce
from tests.index_support import age
from tests.support import HashingEncoder

pytestmark = [pytest.mark.java, pytest.mark.usefixtures("quick_disk")]

WORDS = [f"word{number}" for number in range(120)]
WEIGHTS = (70.0, 1.5, 1.25)


class ExpandingEncoder(HashingEncoder):
    """Also gives each text the token after each of its own, which does not stand in it."""

    def encode_documents(self, texts, ids=None):
        found = super().encode_documents(texts, ids)
        size = found.lexical.shape[1]
        shift = csr_matrix((np.ones(size), (np.arange(size), (np.arange(size) + 1) % size)))
        both = csr_matrix(found.lexical + 0.375 * (found.lexical @ shift), dtype=np.float32)
        both.sort_indices()
        return Representations(found.ids, found.dense, both)


ENCODER = ExpandingEncoder(size=256, dim=16)


def corpus(count: int, seed: int) -> list[Document]:
    dice = random.Random(seed)
    documents = []
    for number in range(count):
        text = " ".join(dice.choices(WORDS, k=dice.randint(2, 25)))
        if number % 9 == 0:  # copies, whose scores tie
            text = "the very same words in each"
        title = f"title word{number % 5}" if number % 2 else ""
        documents.append(Document(f"s{seed}d{number}", title, text))
    return documents


FIRST, ADDED = corpus(170, 0), corpus(60, 1)
GONE = {document.id for document in (FIRST + ADDED)[::7]}
LIVING = [document for document in FIRST + ADDED if document.id not in GONE]
TOPICS = [" ".join(random.Random(seed).choices(WORDS, k=5)) for seed in range(9)]
TOPICS += ["the same words", "nothing-known-here", "word1 word1 word2"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three segments by building, one by an addition, and deletions in all of them."""
    path = tmp_path_factory.mktemp("explain") / "index"
    with HybridIndex.build(path, FIRST, ENCODER, segment_size=60) as index:
        index.add(ADDED)
        index.delete(sorted(GONE))
    return path


@pytest.fixture(params=["joined", "in memory", "Lucene"])
def index(request, folder, monkeypatch):
    if request.param == "in memory":
        monkeypatch.setattr("dupmae_toolkit.index.joined.SMALL_SEGMENT", 0)
    room = 0 if request.param == "Lucene" else 1 << 30
    with HybridIndex.open(folder, ENCODER, max_postings=room) as opened:
        yield opened


@pytest.fixture(scope="module")
def approximate(tmp_path_factory):
    path = tmp_path_factory.mktemp("explain") / "hnsw"
    with HybridIndex.build(path, LIVING, ENCODER, faiss="HNSW4") as built:
        yield built


def total(explained) -> float:
    return explained.dense_share + sum(term.share for term in explained.terms)


def ranks_of(brute, topic, mode, **settings):
    found = brute.ranked(topic, mode, len(LIVING), **settings)
    return {name: rank for rank, (name, _) in enumerate(found, 1)}


@pytest.mark.parametrize("plain", [False, True])
@pytest.mark.parametrize("mode", MODES)
def test_the_parts_sum_to_the_score_and_ranks_are_those_of_brute_force(index, mode, plain):
    """Some 10,000 random pairs over all cases."""
    if plain and mode == "bm25":
        pytest.skip("the plain score has no words")
    brute = BruteForce(LIVING, ENCODER, index.manifest)
    weights = WEIGHTS[: 2 if plain else 3]
    fusion = Fusion("sum", weights) if mode == "hybrid" else "sum"
    request = index.request(mode=mode, fusion=fusion, plain=plain)
    dice = random.Random(mode)
    rows = {document.id: row for row, document in enumerate(LIVING)}
    for topic in TOPICS:
        names = [document.id for document in dice.sample(LIVING, 40)]
        explained = index.explain(topic, names, mode=mode, fusion=fusion, plain=plain)
        assert [each.id for each in explained] == names
        parts = brute.parts(topic, plain)
        searched = list(parts) if mode == "hybrid" else [mode]
        by_part = {part: ranks_of(brute, topic, part, plain=plain) for part in searched}
        fused = ranks_of(brute, topic, mode, weights=weights, plain=plain)
        (scores,) = index.scores([Query("0", topic)], [names], request)
        for each in explained:
            assert each.additive
            assert abs(total(each) - each.score) <= 1e-6
            assert float(np.float32(each.score)) == scores[each.id]
            assert list(each.lists) == searched
            for place, (part, own) in enumerate(each.lists.items()):
                assert own.score == pytest.approx(parts[part][rows[each.id]], abs=1e-9)
                weight = weights[place] if mode == "hybrid" else 1.0
                assert (own.weight, own.contribution) == (weight, weight * own.score)
                assert each.ranks[part] == Rank(by_part[part].get(each.id))
            assert each.ranks["fused"] == Rank(fused.get(each.id))
            shares = [term.share for term in each.terms]
            assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize("plain", [False, True])
def test_every_number_of_a_term_is_what_the_definitions_give(index, plain):
    brute = BruteForce(LIVING, ENCODER, index.manifest)
    factors = np.ones(256) if plain else brute.factors()
    stands = expands = 0
    for topic in TOPICS:
        query = ENCODER.encode_queries([topic]).lexical.toarray()[0].astype(np.float64)
        rounded = round_weights(query * factors).astype(np.float64)
        counts = Counter(words_of(topic))
        sample = list(enumerate(LIVING))[::5]
        names = [document.id for _, document in sample]
        fusion = Fusion("sum", WEIGHTS[: 3 - plain])
        found = index.explain(topic, names, fusion=fusion, plain=plain)
        for (row, document), explained in zip(sample, found, strict=True):
            tokens = {term.term: term for term in explained.terms if term.kind == "token"}
            words = {term.term: term for term in explained.terms if term.kind == "word"}
            met = np.flatnonzero((rounded > 0) & (brute.impacts[row] > 0))
            assert set(tokens) == {ENCODER.vocabulary[column] for column in met}
            inside = {column for column, *_ in ENCODER.token_offsets(document.contents)}
            for column in met.tolist():
                term, impact = tokens[ENCODER.vocabulary[column]], brute.impacts[row, column]
                assert term.weight == pytest.approx(query[column])
                assert term.factor == pytest.approx(factors[column])
                assert term.query_weight == rounded[column]
                assert term.impact == impact
                share = 1.5 * rounded[column] * impact / index.manifest.scale
                assert term.share == pytest.approx(share)
                assert term.in_text == (column in inside)
                stands, expands = stands + term.in_text, expands + (not term.in_text)
            assert set(words) == (set() if plain else set(counts) & set(brute.counts[row]))
            for word, term in words.items():
                idf = brute.idf(brute.with_word[word])
                assert (term.weight, term.factor) == (counts[word], pytest.approx(idf))
                assert term.impact == brute.impact(brute.counts[row], word)
                share = 1.25 * term.query_weight * term.impact / brute.most
                assert term.share == pytest.approx(share)
                assert term.in_text
    assert stands > 50
    assert expands > 50


@pytest.mark.parametrize(
    "fusion",
    [
        Fusion("rrf"),
        Fusion("rrf", (0.5, 2.0, 1.0), rrf_k=7),
        Fusion("linear"),
        Fusion("linear", (0.2, 0.5, 0.3), norm="z-score"),
        Fusion("combsum"),
        Fusion("combmnz"),
    ],
    ids=lambda fusion: f"{fusion.method} {fusion.normalisation}",
)
def test_lists_of_ranks_and_norms_sum_to_the_fused_score(index, fusion):
    brute = BruteForce(LIVING, ENCODER, index.manifest)
    parts = ("dense", "lexical", "bm25")
    for topic in TOPICS:
        hits = index.search(topic, k=25, fusion=fusion, depth=30)
        explained = index.explain(topic, [hit.id for hit in hits], k=25, fusion=fusion, depth=30)
        lists = {part: dict(brute.ranked(topic, part, 30)) for part in parts}
        for hit, each in zip(hits, explained, strict=True):
            assert not each.additive
            assert each.ranks["fused"] == Rank(hit.rank)
            assert float(np.float32(each.score)) == hit.score
            added = [own.contribution for own in each.lists.values()]
            assert sum(added) == pytest.approx(each.score, abs=1e-9)
            for place, part in enumerate(parts):
                own = each.lists[part]
                names = list(lists[part])
                held = names.index(each.id) + 1 if each.id in names else None
                assert own.rank == held
                assert own.score == pytest.approx(getattr(hit, part), abs=1e-5)
                terms = [t for t in each.terms if t.kind == ("word" if part == "bm25" else "token")]
                if part != "dense":
                    assert sum(term.share for term in terms) == pytest.approx(own.score)
                if fusion.method == "rrf":
                    weight = (fusion.weights or (1, 1, 1))[place]
                    expected = weight / (fusion.rrf_k + held) if held else 0.0
                    assert own.contribution == pytest.approx(expected)
            assert each.dense_share == each.lists["dense"].contribution


def test_min_max_by_hand(index):
    """With lists as long as the index, every document is a candidate."""
    everything = len(LIVING)
    explained = index.explain("word1 word2", fusion="combmnz", k=everything, depth=everything)
    assert len(explained) == everything
    for part in ("dense", "lexical", "bm25"):
        scores = [each.lists[part].score for each in explained]
        low, high = min(scores), max(scores)
        for each in explained:
            held = sum(own.rank is not None for own in each.lists.values())
            own = each.lists[part]
            assert own.contribution == pytest.approx(held * (own.score - low) / (high - low))


def test_a_document_outside_of_all_fused_lists_has_no_score(index):
    brute = BruteForce(LIVING, ENCODER, index.manifest)
    topic = "word1 word2 word3"
    seen = {n for part in MODES[:3] for n, _ in brute.ranked(topic, part, 3)}
    name = next(document.id for document in LIVING if document.id not in seen)
    explained = index.explain(topic, name, k=3, depth=3, fusion="rrf")
    assert explained.score is None
    assert explained.ranks["fused"] == Rank(None)
    assert explained.ranks["dense"].rank == ranks_of(brute, topic, "dense")[name]
    assert all(own.rank is own.contribution is None for own in explained.lists.values())
    assert "no score" in str(explained)
    assert json.loads(json.dumps(explained.to_dict()))["score"] is None


def test_without_ids_the_first_hits_are_explained(index):
    for mode in MODES:
        hits = index.search("word1 word2", k=4, mode=mode)
        explained = index.explain("word1 word2", k=4, mode=mode)
        assert [(hit.id, hit.rank) for hit in hits] == [
            (each.id, each.ranks["fused"].rank) for each in explained
        ]
    assert index.explain("nothing-known-here", mode="bm25") == []
    assert index.explain("word1", []) == []


def test_approximate_indexes_give_exact_ranks(approximate, monkeypatch):
    brute = BruteForce(LIVING, ENCODER, approximate.manifest)
    names = [document.id for document in LIVING]
    for topic in TOPICS[:3]:
        explained = approximate.explain(topic, names)
        fused, dense = ranks_of(brute, topic, "hybrid"), ranks_of(brute, topic, "dense")
        assert {each.id: each.ranks["fused"].rank for each in explained} == fused
        assert {each.id: each.ranks["dense"].rank for each in explained} == dense
    monkeypatch.setattr("dupmae_toolkit.search.ranks.LEG_DEPTHS", (3, 5))
    monkeypatch.setattr("dupmae_toolkit.search.ranks.RANKING_DEPTHS", (2, 4))
    for each in approximate.explain(TOPICS[0], names):
        assert each.ranks["fused"] == below(ranks_of(brute, TOPICS[0], "hybrid")[each.id], 4)
        assert each.ranks["dense"] == below(ranks_of(brute, TOPICS[0], "dense")[each.id], 5)
    far = approximate.explain(TOPICS[0], list(ranks_of(brute, TOPICS[0], "hybrid"))[-1])
    assert far.to_dict()["ranks"]["fused"] is None
    assert far.to_dict()["beyond"]["fused"] == 4
    assert "rank beyond 4" in str(far)


def test_lucenes_lists_are_searched_only_so_deep(folder, monkeypatch):
    monkeypatch.setattr("dupmae_toolkit.search.ranks.LEG_DEPTHS", (2, 6))
    with HybridIndex.open(folder, ENCODER, max_postings=0) as index:
        brute = BruteForce(LIVING, ENCODER, index.manifest)
        ranks = ranks_of(brute, "the same words", "lexical")
        names = [document.id for document in LIVING]
        for each in index.explain("the same words", names, mode="lexical"):
            expected = below(ranks[each.id], 6) if each.id in ranks else Rank(None)
            assert each.ranks["lexical"] == expected


def below(rank: int, limit: int) -> Rank:
    return Rank(rank) if rank <= limit else Rank(None, limit)


def test_a_score_that_overflows_on_the_way_does_not_hide_a_rank():
    """float32 gives infinity less infinity where the true products are small."""
    vectors = np.array([[3e19, -3e19, x] for x in (5e30, 1e30, 3e30, 3e30)], np.float32)
    leg = DenseLeg(Numbering([["a", "b", "c", "d"]]), [DenseShard(vectors)])
    query = np.array([[3e19, 3e19, 1]], np.float32)
    found = leg_ranks(leg, query, np.arange(4))
    assert [each.rank for each in found] == [1, 4, 2, 3]


def test_what_is_not_in_the_index_is_one_line(index):
    gone = min(GONE)
    with pytest.raises(InputError, match=f"has no document '{gone}', 'x'; give ids as"):
        index.explain("word1", [LIVING[0].id, gone, "x"])
    with pytest.raises(InputError, match="has no document ''"):
        index.explain("word1", "")
    with pytest.raises(InputError, match="the id 5 is an int; ids are strings"):
        index.explain("word1", [5])
    for query in ("", " \n"):
        with pytest.raises(InputError, match="no text"):
            index.explain(query)
    with pytest.raises(InputError, match="give one query"):
        index.explain(["word1"])
    with pytest.raises(InputError, match="give one query"):
        index.explain(ENCODER.encode_queries(["word1", "word2"]))


def test_vectors_of_a_query_need_no_encoder(folder):
    vectors = ENCODER.encode_queries(["word1 word2"])
    with HybridIndex.open(folder, ENCODER) as index:
        expected = index.explain("word1 word2")
    with HybridIndex.open(folder) as index:
        explained = index.explain(vectors)
        assert {t.in_text for e in explained for t in e.terms if t.kind == "token"} == {None}
        assert "in the text or an expansion" in str(explained[0])
        assert [each.score for each in explained] == [each.score for each in expected]
        assert [each.ranks for each in explained] == [each.ranks for each in expected]
        assert "word1" in str(index.snippet(vectors, "a text with word1"))
        vectors.texts = None
        assert index.explain(vectors, plain=True)
        with pytest.raises(InputError, match="BM25 needs the texts"):
            index.explain(vectors)
        assert index.snippet(vectors, "a text with word1").highlights == ()


def test_a_closed_index_explains_nothing(folder):
    index = HybridIndex.open(folder, ENCODER)
    index.close()
    with pytest.raises(DupMAEError, match="closed"):
        index.explain("word1")


def test_the_same_id_may_be_asked_for_twice(index):
    name = LIVING[3].id
    first, second = index.explain("word1", [name, name])
    assert first == second


def test_an_index_without_words_or_with_one_document(tmp_path):
    with HybridIndex.build(tmp_path / "one", [Document("é", "", "word1")], ENCODER) as index:
        (explained,) = index.explain("word1")
        assert {each.rank for each in explained.ranks.values()} == {1}
        assert [term.kind for term in explained.terms].count("word") == 1
    with HybridIndex.build(tmp_path / "no", LIVING, ENCODER, bm25=False) as index:
        for each in index.explain("word1 word2", k=5):
            assert list(each.lists) == ["dense", "lexical"]
            assert abs(total(each) - each.score) <= 1e-6


@pytest.mark.parametrize("version", [1, 2])
def test_an_index_of_an_earlier_version(tmp_path, version):
    HybridIndex.build(tmp_path / "old", LIVING, ENCODER, bm25=False).close()
    age(tmp_path / "old", version)
    with HybridIndex.open(tmp_path / "old", ENCODER) as index:
        for each in index.explain("word1 word2", k=5):
            assert list(each.lists) == ["dense", "lexical"]
            assert {term.factor for term in each.terms} <= {1.0}
            assert abs(total(each) - each.score) <= 1e-6
        found = index.snippet("word1s", "nothing here but words1 and word1")
        assert [found.text[start:end] for start, end in found.highlights] == ["word1"]


def test_the_passage_is_where_the_shares_are(tmp_path):
    text = "Filler about nothing at all. " * 40 + "Here word1 meets word2. " + "More filler. " * 40
    with HybridIndex.build(tmp_path / "i", [Document("a", "Of word1", text)], ENCODER) as index:
        explained = index.explain("word1 word2", "a")
        snippet = explained.snippet
        assert text[snippet.start : snippet.end] == snippet.text
        marked = [snippet.text[start:end] for start, end in snippet.highlights]
        assert {"word1", "word2"} <= set(marked)
        assert [explained.title.text[a:b] for a, b in explained.title.highlights] == ["word1"]
        assert explained.title.text == "Of word1"
        assert str(snippet) == f"… {snippet.text} …"
        assert index.snippet("word1 word2", index.search("word2", k=1)[0]).text == snippet.text


def test_json_has_the_documented_keys(index):
    found = json.loads(json.dumps(index.explain("word1 word2", LIVING[1].id).to_dict()))
    assert {"id", "score", "dense_share", "terms", "ranks"} <= set(found)
    assert set(found["ranks"]) == {"dense", "lexical", "bm25", "fused"}
    for term in index.explain("word1 word2", k=1)[0].to_dict()["terms"]:
        assert {"term", "kind", "query_weight", "impact", "share", "in_text"} <= set(term)
