"""Feedback: second queries and their rankings against the formulas, computed over all documents."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter

import numpy as np
import pytest

from dupmae_toolkit import Feedback, HybridIndex
from dupmae_toolkit.analysis import words
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.report.explained import _request
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.records import Document, Query
from dupmae_toolkit.search.feedback import rm3, rocchio
from dupmae_toolkit.search.fusion import Fusion
from tests.brute import MODES, BruteForce
from tests.index_support import documents_of
from tests.support import HashingEncoder

METHODS = ("rm3", "rocchio", "average")
CASES = [pair for pair in itertools.product(METHODS, MODES) if pair != ("rm3", "dense")]
QUESTIONS = ("title 3 w17 w18", "w5 the w5 w399", "same", "the of")
#: Without words; without tokens and words; of one word.
ODD = [
    Document("stop", "", "the of", {"year": 1}),
    Document("marks", "", "?!", {"year": 2}),
    Document("one", "", "w17", {"year": 2}),
]


def documents():
    return [*documents_of(40), *ODD]


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    folder = tmp_path_factory.mktemp("feedback") / "index"
    with HybridIndex.build(folder, documents(), HashingEncoder(), segment_size=17) as built:
        yield built


@pytest.fixture(scope="module")
def brute(index):
    return BruteForce(documents(), index.encoder, index.manifest)


def interpolated(query, found, scores, feedback, weight):
    """A row of the second query. query: [terms]; found: impacts of the first, [n, terms]."""
    if feedback.method == "rm3":
        shares = found / np.maximum(found.sum(axis=1, keepdims=True), 1e-300)
        likelihood = np.maximum(scores, 0)
        model = (likelihood if likelihood.any() else np.ones(len(found))) @ shares
        order = 1
    else:
        lengths = np.linalg.norm(found, axis=1, keepdims=True)
        model = (found / np.maximum(lengths, 1e-300)).sum(axis=0) / max(len(found), 1)
        order = 2
    kept = np.lexsort((np.arange(len(model)), -model))[: feedback.terms]
    cut = np.zeros(len(model))
    cut[kept] = model[kept]
    size, own = np.linalg.norm(cut, order), np.linalg.norm(query, order)
    if not size or not own:
        return query
    return own * (weight * query / own + (1 - weight) * cut / size)


def second(brute, text, mode, feedback, weights=None):
    """The parts' scores of every document for the second query, float64 [n]."""
    first = brute.ranked(text, mode, feedback.documents, weights)
    places = {document.id: row for row, document in enumerate(brute.documents)}
    rows = [places[name] for name, _ in first]
    scores = np.array([score for _, score in first])
    given = feedback.weight
    weight = 1 / (len(rows) + 1) if feedback.method == "average" else given
    query = brute.encoder.encode_queries([text])
    dense = query.dense[0].astype(np.float64)
    if rows:
        dense = weight * dense + (1 - weight) * brute.dense[rows].mean(axis=0)
    tokens = query.lexical.toarray()[0].astype(np.float64)
    if rows:
        tokens = interpolated(tokens, brute.impacts[rows], scores, feedback, weight)
    tokens = round_weights(tokens.astype(np.float32) * brute.factors(), brute.most)
    counts = Counter(words(text))
    names = sorted({*brute.with_word, *counts})
    held = np.array(
        [[brute.impact(own, w) if w in own else 0.0 for w in names] for own in brute.counts]
    )
    asked = np.array([float(counts[word]) for word in names])
    if rows:
        asked = interpolated(asked, held[rows], scores, feedback, weight)
    idf = np.array([brute.idf(brute.with_word[w]) if w in brute.with_word else 0 for w in names])
    return {
        "dense": np.array(
            [own @ dense.astype(np.float32).astype(np.float64) for own in brute.dense]
        ),
        "lexical": brute.impacts @ tokens.astype(np.float64) / brute.manifest.scale,
        "bm25": held @ round_weights(asked * idf, brute.most).astype(np.float64) / brute.most,
    }


def check(hits, brute, text, mode, feedback, k, weights=None):
    parts, n = second(brute, text, mode, feedback, weights), len(brute.documents)
    weights = weights or brute.manifest.scoring.weights
    total = parts.get(mode)
    if mode == "hybrid":
        total = sum(w * part for w, part in zip(weights, parts.values(), strict=True))
    possible = n if mode in ("dense", "hybrid") else int((total > 0).sum())
    assert len(hits) == min(k, possible)
    best = np.sort(total)[::-1][: len(hits)]
    places = {document.id: row for row, document in enumerate(brute.documents)}
    assert len({hit.id for hit in hits}) == len(hits)
    for hit, score in zip(hits, best, strict=True):
        row = places[hit.id]
        assert hit.score == pytest.approx(score, rel=1e-5, abs=1e-6)
        assert total[row] == pytest.approx(score, rel=1e-5, abs=1e-6)
        for part in parts if mode == "hybrid" else ():
            assert getattr(hit, part) == pytest.approx(parts[part][row], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("text", QUESTIONS)
@pytest.mark.parametrize(("method", "mode"), CASES)
def test_the_ranking_is_that_of_the_second_query_over_all_documents(
    index, brute, method, mode, text
):
    feedback = Feedback(method, 5, 7, None if method == "average" else 0.3)
    hits = index.search(text, 12, mode, exact=True, feedback=feedback)
    check(hits, brute, text, mode, feedback, 12)


@pytest.mark.parametrize("method", METHODS)
def test_more_documents_and_terms_than_there_are_and_other_weights(index, brute, method):
    feedback = Feedback(method, 1000, 100_000)
    weights = (3.0, 2.0, 0.25)
    hits = index.search("w17 title", 60, exact=True, feedback=feedback, weights=weights)
    check(hits, brute, "w17 title", "hybrid", feedback, 60, weights)


def test_it_changes_rankings_and_a_weight_of_1_does_not(index):
    text = "title 3 w17 w18"
    before = [hit.id for hit in index.search(text, 20, exact=True)]
    assert before != [h.id for h in index.search(text, 20, exact=True, feedback="rm3")]
    kept = index.search(text, 20, exact=True, feedback=Feedback("rm3", weight=1))
    assert before == [hit.id for hit in kept]
    for part in ("lexical", "bm25"):
        own = [(h.id, h.score) for h in index.search(text, 20, part)]
        kept = index.search(text, 20, part, feedback=Feedback("rm3", weight=1))
        assert [hit.id for hit in kept] == [name for name, _ in own]
        assert [h.score for h in kept] == pytest.approx([s for _, s in own], rel=1e-6)


def test_a_query_that_finds_nothing_stays_as_it_is(index):
    for method, mode in itertools.product(METHODS, ("lexical", "bm25")):
        assert index.search("zzzunknown", mode=mode, feedback=method) == []
    assert index.search("w17", among=[], feedback="rm3") == []
    run = index.search_batch({"a": "zzzunknown", "b": "w17"}, mode="bm25", feedback="rm3")
    assert run.metadata["feedback"]["without_documents"] == 1
    assert not len(run["a"])
    assert len(run["b"])


@pytest.mark.parametrize("method", METHODS)
def test_a_query_is_not_touched_by_the_others_of_its_batch(index, method):
    alone = [index.search(text, 15, feedback=method) for text in QUESTIONS]
    assert index.search(list(QUESTIONS), 15, feedback=method) == alone


@pytest.mark.parametrize("fusion", ["sum", "rrf", "combmnz"])
def test_pages_put_together_are_one_ranking(index, fusion):
    def page(k, offset):
        hits = index.search("w17 w18 title", k, fusion=fusion, offset=offset, feedback="rocchio")
        return [(hit.rank, hit.id, hit.score) for hit in hits]

    whole = page(30, 0)
    assert [*page(4, 0), *page(11, 4), *page(15, 15)] == whole
    assert len(whole) == 30


def test_a_filter_holds_for_both_searches(index, brute):
    only = [document.id for document in brute.documents][5:25]
    feedback = Feedback("rocchio", 4, 6)
    hits = index.search("w17 title 3", 50, "bm25", among=only, feedback=feedback)
    assert hits
    assert {hit.id for hit in hits} <= set(only)
    first = [h.id for h in index.search("w17 title 3", 4, "bm25", among=only)]
    within = index.search("w17 title 3", 50, "bm25", among=first, feedback=feedback)
    score = {hit.id: hit.score for hit in hits}
    assert all(score[hit.id] == pytest.approx(hit.score) for hit in within)
    assert index.search("w17", filter="year == 2", feedback="rm3")[0].id == "one"


@pytest.mark.java
@pytest.mark.parametrize("method", METHODS)
def test_lucene_gives_the_same_as_postings_in_memory(index, method):
    with HybridIndex.open(index.path, index.encoder, max_postings=0) as other:
        for mode in ("hybrid", "lexical", "bm25"):
            found = other.search("w17 title 3", 20, mode, exact=True, feedback=method)
            assert found == index.search("w17 title 3", 20, mode, exact=True, feedback=method)


def test_a_ranking_is_proven_only_if_the_first_one_is(index):
    run = index.search_batch({"a": "w17 title"}, 5, fusion="rrf", feedback="rm3")
    assert run.metadata["feedback"] == {
        "method": "rm3",
        "documents": 10,
        "terms": 10,
        "weight": 0.5,
        "proven": 0,
        "without_documents": 0,
    }
    run = index.search_batch({"a": "w17 title"}, 5, exact=True, feedback="average")
    assert run.metadata["certificate"]["certified"] == 1
    assert run.metadata["feedback"]["proven"] == 1
    assert run.metadata["feedback"]["weight"] is None


def test_deleted_documents_are_not_read(tmp_path):
    kept = documents()[:30]
    gone = [Document(f"g{n}", "", "w17 w18 w19 zzz") for n in range(5)]
    with (
        HybridIndex.build(tmp_path / "a", kept, HashingEncoder(largest_weight=3)) as one,
        HybridIndex.build(
            tmp_path / "b",
            [*kept, *gone],
            HashingEncoder(largest_weight=3),
            mean_length=one.manifest.bm25.mean_length,
        ) as two,
    ):
        two.delete([document.id for document in gone])
        assert two.search("w17", 20, feedback="rm3") == one.search("w17", 20, feedback="rm3")


def test_passages_are_read_where_rows_are_passages(tmp_path):
    texts = [
        Document(f"d{n}", "", " ".join(f"w{(n * 7 + i * i) % 50}" for i in range(30)))
        for n in range(20)
    ]
    encoder = HashingEncoder()
    with HybridIndex.build(tmp_path / "i", texts, encoder, passages=8, overlap=0) as index:
        feedback = Feedback("rocchio", 3, 1000)
        first = index.search("w7 w9", 3, "bm25")
        hits = index.search("w7 w9", 20, "bm25", feedback=feedback)
        # By hand: only the words of the best passages enter.
        held = {word for hit in first for word in words(hit.text)}
        (explained,) = index.explain("w7 w9", [hits[0].id], mode="bm25", feedback=feedback)
        added = {term.term for term in explained.terms if term.added}
        assert added
        assert added <= held - {"w7", "w9"}
        assert explained.score == pytest.approx(hits[0].score, rel=1e-6)
        assert len(hits) > 3
        three = index.search("w7 w9", 5, "bm25", aggregate="sum3", feedback=feedback)
        assert len(three) == 5


@pytest.mark.parametrize("method", METHODS)
def test_explanations_are_of_the_second_query(index, method):
    hits = index.search("w17 title 3", 4, exact=True, feedback=method)
    explained = index.explain("w17 title 3", k=4, exact=True, feedback=method)
    assert [each.id for each in explained] == [hit.id for hit in hits]
    for each, hit in zip(explained, hits, strict=True):
        assert each.score == pytest.approx(hit.score, rel=1e-6)
        shares = each.dense_share + sum(term.share for term in each.terms)
        assert shares == pytest.approx(each.score, rel=1e-9)
    terms = [term for each in explained for term in each.terms]
    assert {term.term for term in terms if not term.added and term.kind == "word"} <= {
        *words("w17 title 3")
    }
    assert any(term.added for term in terms)
    assert not any(term.added for each in index.explain("w17 title 3", k=4) for term in each.terms)


def test_scores_of_given_documents_are_those_of_the_ranking(index):
    request = index.request(10, feedback=Feedback("rm3", 4), exact=True)
    hits = index.search("w17 title 3", 10, feedback=Feedback("rm3", 4), exact=True)
    scores = index.scores("w17 title 3", [hit.id for hit in hits], request)
    assert scores == {hit.id: pytest.approx(hit.score, rel=1e-6) for hit in hits}


def test_vectors_are_searched_without_an_encoder(index):
    vectors = index.encoder.encode_queries(["w17 title 3"], ["0"])
    with HybridIndex.open(index.path) as other:
        run = other.search_batch(vectors, 10, feedback="rm3")
    hits = index.search("w17 title 3", 10, feedback="rm3")
    assert run["0"].ids == [hit.id for hit in hits]


def test_a_fusion_of_ranks_fuses_the_second_querys_lists(index, brute):
    feedback = Feedback("rocchio", 5, 5)
    rrf = Fusion("rrf")
    hits = index.search("w17 title 3", 43, fusion=rrf, feedback=feedback, depth=1000)
    first = index.search("w17 title 3", 5, fusion=rrf, depth=100)
    assert first
    ranks = {}
    for part in ("dense", "lexical", "bm25"):
        listed = [hit for hit in hits if part == "dense" or getattr(hit, part) > 0]
        ordered = sorted(listed, key=lambda hit, p=part: (-getattr(hit, p), hit.id))
        ranks[part] = {hit.id: rank for rank, hit in enumerate(ordered, 1)}
    for hit in hits:
        score = sum(1 / (60 + own[hit.id]) for own in ranks.values() if hit.id in own)
        assert hit.score == pytest.approx(score, rel=1e-4)


def test_worked_examples():
    query, found = {"a": 2.0, "b": 2.0}, [{"a": 1.0, "c": 3.0}, {"c": 1.0, "d": 1.0}, {}]
    # P(t|R) of a, c, d: 1/4·2, 3/4·2 + 1/2·1, 1/2·1 → .5, 2, .5; the largest two: c and a.
    made = rm3(query, found, [2.0, 1.0, 5.0], 2, 0.5)
    assert made == pytest.approx({"a": 4 * (0.25 + 0.5 * 0.2), "b": 1.0, "c": 4 * 0.5 * 0.8})
    assert sum(made.values()) == pytest.approx(4)
    # The mean of unit vectors: a 1/√10, c 3/√10 + 1/√2, d 1/√2, each over 3; d is before a.
    c, d = 3 / math.sqrt(10) + 1 / math.sqrt(2), 1 / math.sqrt(2)
    size, own = math.hypot(c, d), math.sqrt(8)
    made = rocchio(query, found, [2.0, 1.0, 5.0], 2, 0.25)
    wanted = {"a": 0.5, "b": 0.5, "c": 0.75 * own * c / size, "d": 0.75 * own * d / size}
    assert made == pytest.approx(wanted)
    assert list(made)[:2] == ["a", "b"]
    assert rm3({}, found, [1, 1, 1], 2, 0.5) == {}
    assert rm3(query, [{}], [1], 2, 0.5) == query
    assert rocchio(query, [], [], 2, 0.5) == query
    # No score above 0: all count the same. Equal weights: in the order of the terms.
    assert rm3({"q": 1.0}, [{"b": 1.0}, {"a": 1.0}], [-1, 0], 1, 0.5) == {"q": 0.5, "a": 0.5}
    dense = Feedback("average").dense(np.ones(2, np.float32), np.array([[3.0, 0], [2, 2]]))
    assert dense.tolist() == [2.0, 1.0]
    assert Feedback("average").dense(np.ones(2, np.float32), np.zeros((0, 2))).tolist() == [1, 1]


@pytest.mark.parametrize(
    ("settings", "fault"),
    [
        ({"method": "bo1"}, "there is no feedback 'bo1'"),
        ({"documents": 0}, "feedback of 0 documents"),
        ({"documents": 2.5}, "feedback of 2.5 documents"),
        ({"terms": True}, "feedback of True terms"),
        ({"terms": -1}, "feedback of -1 terms"),
        ({"weight": 1.5}, "weight is 1.5"),
        ({"weight": math.nan}, "weight is nan"),
        ({"weight": "1"}, "weight is '1'"),
        ({"method": "average", "weight": 0.5}, "leave out its weight"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, fault):
    with pytest.raises(InputError, match=fault):
        Feedback(**settings)


def test_requests_that_make_no_sense_are_refused(index):
    with pytest.raises(InputError, match="mode dense has no terms, which rm3 mixes"):
        index.search("w17", mode="dense", feedback="rm3")
    with pytest.raises(InputError, match="feedback is a dict; give a Feedback"):
        index.search("w17", feedback={"method": "rm3"})
    with pytest.raises(InputError, match="mode dense has no terms to prune"):
        index.search("w17", mode="dense", query_terms=3)
    for bad in (0, -1, 1.5, "3", True):
        with pytest.raises(InputError, match="query terms"):
            index.search("w17", query_terms=bad)


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "bm25"])
@pytest.mark.parametrize("most", [1, 2, 1000])
def test_a_query_keeps_its_largest_weights_after_frequencies(index, brute, mode, most):
    text = "w17 w18 w17 title 3 same"
    found = index.search(text, 50, mode, exact=True, query_terms=most)
    tokens = round_weights(
        brute.encoder.encode_queries([text]).lexical.toarray()[0] * brute.factors(), brute.most
    ).astype(np.float64)
    kept = np.lexsort((np.arange(len(tokens)), -tokens))[:most]
    cut = np.zeros_like(tokens)
    cut[kept] = tokens[kept]
    counts = Counter(words(text))
    weights = {
        word: float(round_weights(np.array([n * brute.idf(brute.with_word[word])]), brute.most)[0])
        for word, n in counts.items()
        if brute.with_word[word]
    }
    places = list(weights)
    largest = sorted(weights, key=lambda word: (-weights[word], places.index(word)))[:most]
    parts = {
        "dense": brute.parts(text)["dense"],
        "lexical": brute.impacts @ cut / brute.manifest.scale,
        "bm25": np.array(
            [
                sum(weights[w] * brute.impact(own, w) for w in largest if w in own) / brute.most
                for own in brute.counts
            ]
        ),
    }
    total = parts.get(mode)
    if mode == "hybrid":
        fitted = brute.manifest.scoring.weights
        total = sum(w * part for w, part in zip(fitted, parts.values(), strict=True))
    scores = {document.id: total[row] for row, document in enumerate(brute.documents)}
    assert [hit.score for hit in found] == pytest.approx([scores[h.id] for h in found], rel=1e-5)
    best = sorted(total, reverse=True)[: len(found)]
    assert [hit.score for hit in found] == pytest.approx(best, rel=1e-5, abs=1e-6)
    run = index.search_batch({"a": text}, 50, mode, query_terms=most)
    left = run.metadata["query_terms"]
    assert left["most"] == most
    if mode != "bm25":
        assert left["left_out"]["lexical"] == max(0, np.count_nonzero(tokens) - most)
    if mode != "lexical":
        assert left["left_out"]["bm25"] == max(0, len(weights) - most)


def test_both_queries_are_pruned_where_both_are_asked_for(index):
    feedback = Feedback("rm3", 3, 20)
    explained = index.explain("w17 title 3", k=5, mode="bm25", feedback=feedback, query_terms=2)
    assert len({term.term for each in explained for term in each.terms}) <= 2


@pytest.mark.parametrize("mode", ["hybrid", "lexical", "bm25"])
def test_a_report_explains_the_second_query_of_a_run(index, mode):
    run = index.search_batch({"a": "w17 title 3"}, 5, mode, feedback="average", query_terms=3)
    request = _request(index, json.loads(json.dumps(run.metadata)))
    vectors = index.vectors([Query("a", "w17 title 3")])
    explained = index.explanations(vectors, request, run["a"].ids)
    scores = [each.score for each in explained]
    assert scores == pytest.approx(run["a"].scores.tolist(), rel=1e-6)
    plain = index.explanations(vectors, index.request(10, mode), run["a"].ids)
    assert scores != pytest.approx([each.score for each in plain], rel=1e-3)
