"""Rankings that are called proven are those of brute force, and what is not proven is said."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.search import arithmetic
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.dense import DenseLeg
from dupmae_toolkit.search.engine import Engine
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.lexical import LexicalLeg
from tests.search_support import Collection, MemoryLexical, MemoryPostings

COLLECTIONS = {
    "one segment": {},
    "three segments": {"sizes": (150, 7, 143)},
    "worst rounding": {"noise": 0.99},
    "worst rounding in segments": {"sizes": (90, 110), "noise": 0.99},
    "an approximate index": {"exhaustive": False},
    "deleted documents": {"sizes": (100, 80), "deleted": tuple(f"d{i}" for i in range(0, 180, 3))},
    "postings in memory": {
        "sizes": (110, 70, 3),
        "deleted": tuple(f"d{i}" for i in range(0, 180, 5)),
        "lexical": MemoryPostings,
    },
    "postings, worst rounding": {"sizes": (90, 110), "noise": 0.99, "lexical": MemoryPostings},
    "postings, an approximate index": {"exhaustive": False, "lexical": MemoryPostings},
}


def ranking(collection, answer):
    ids = collection.numbering.ids(answer.documents)
    return list(zip(ids, answer.scores.tolist(), strict=True))


@pytest.mark.parametrize("name", COLLECTIONS)
@pytest.mark.parametrize("k", [1, 10, 500])
def test_exact_hybrid_search_equals_brute_force(name, k):
    collection = Collection(**COLLECTIONS[name])
    dense, lexical = collection.queries()
    for weights in [(1.0, 1.0), (0.3, 2.0), (0.0, 1.0), (1.0, 0.0)]:
        request = Request(k, "hybrid", Fusion("sum", weights), max(k, 16), exact=True)
        answers = collection.search(dense, lexical, request)
        for query, answer in enumerate(answers):
            d, s = collection.parts(dense[query], lexical[query])
            assert ranking(collection, answer) == collection.best(
                weights[0] * d + weights[1] * s, k
            )
            assert answer.certificate.certified


@pytest.mark.parametrize("name", COLLECTIONS)
@pytest.mark.parametrize("mode", ["dense", "lexical"])
def test_exact_search_of_one_leg_equals_brute_force(name, mode):
    collection = Collection(**COLLECTIONS[name])
    dense, lexical = collection.queries()
    for k in (1, 10, 500):
        answers = collection.search(dense, lexical, Request(k, mode, depth=k, exact=True))
        for query, answer in enumerate(answers):
            d, s = collection.parts(dense[query], lexical[query])
            expected = collection.best(d if mode == "dense" else s, k)
            if mode == "lexical":
                expected = [(name, score) for name, score in expected if score > 0]
            assert ranking(collection, answer) == expected
            assert answer.certificate.certified


def test_whatever_is_called_proven_without_being_asked_is_right():
    proven = 0
    for seed in range(6):
        collection = Collection((400, 300), seed=seed, noise=0.99)
        dense, lexical = collection.queries(seed=seed)
        for depth in (5, 20, 80):
            answers = collection.search(dense, lexical, Request(5, depth=depth))
            for query, answer in enumerate(answers):
                if answer.certificate.certified:
                    d, s = collection.parts(dense[query], lexical[query])
                    assert ranking(collection, answer) == collection.best(d + s, 5)
                    proven += 1
    assert proven > 50


@pytest.mark.parametrize("noise", [0.0, 0.3])
@pytest.mark.parametrize("rough", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(700,), (400, 1, 299)])
def test_with_postings_in_memory_a_sum_is_over_all_documents_whatever_the_depth(
    noise, rough, sizes, monkeypatch
):
    monkeypatch.setattr(arithmetic, "EXACT_COST", 1)  # otherwise most queries would begin again
    for seed in range(4):
        collection = Collection(
            sizes,
            seed=seed,
            noise=noise,
            lexical=MemoryPostings,
            rough=rough,
            deleted=tuple(f"d{number}" for number in range(0, 700, 5 + seed)),
        )
        dense, lexical = collection.queries(seed=seed)
        for weights in [(1.0, 1.0), (30.0, 0.5), (0.0, 1.0), (1.0, 0.0)]:
            request = Request(5, fusion=Fusion("sum", weights), depth=5)
            together = collection.search(dense, lexical, request)
            for query, answer in enumerate(together):
                d, s = collection.parts(dense[query], lexical[query])
                best = collection.best(weights[0] * d + weights[1] * s, 5)
                assert ranking(collection, answer) == best
                (alone,) = collection.search(dense[[query]], lexical[query], request)
                assert ranking(collection, alone) == best


class ScaledDense(DenseLeg):
    """A leg whose scores are divided by a scale and, unlike a lexical leg's, not exact."""

    scale = 1 / 64

    def score(self, queries, row, documents):
        return super().score(queries, row, documents) / self.scale


@pytest.mark.parametrize(("noise", "rough"), [(0.0, 0.0), (0.3, 0.0), (0.0, 0.5)])
def test_the_error_of_a_leg_is_scaled_as_its_scores_are(noise, rough, monkeypatch):
    monkeypatch.setattr(arithmetic, "EXACT_COST", 1)
    for seed in range(4):
        collection = Collection(
            (400, 300), seed=seed, noise=noise, rough=rough, lexical=MemoryPostings
        )
        scaled = ScaledDense(collection.numbering, collection.dense_shards)
        lexical_leg = LexicalLeg(collection.numbering, collection.lexical_shards, collection.scale)
        engine = Engine(collection.numbering, {"dense": scaled, "lexical": lexical_leg})
        dense, lexical = collection.queries(seed=seed)
        answers = engine.search({"dense": dense, "lexical": lexical}, Request(5, depth=5))
        for query, answer in enumerate(answers):
            d, s = collection.parts(dense[query], lexical[query])
            assert ranking(collection, answer) == collection.best(d * 64 + s, 5)


def test_only_scores_with_an_error_are_computed_again(monkeypatch):
    collection = Collection((700,), rough=1000.0, lexical=MemoryPostings)
    calls = []
    for leg in (DenseLeg, LexicalLeg):
        whole = leg.all_scores
        monkeypatch.setattr(
            leg, "all_scores", lambda *a, w=whole, n=leg, **k: calls.append(n) or w(*a, **k)
        )
    dense, lexical = collection.queries()
    (answer,) = collection.search(dense[:1], lexical[0], Request(5, depth=5))
    d, s = collection.parts(dense[0], lexical[0])
    assert ranking(collection, answer) == collection.best(d + s, 5)
    assert calls == [DenseLeg, LexicalLeg, DenseLeg]


@pytest.mark.parametrize("rough", [0.0, 0.5])
@pytest.mark.parametrize("sizes", [(300,), (200, 1, 99)])
def test_one_query_alone_is_fused_by_ranks_as_it_is_in_company(rough, sizes, monkeypatch):
    monkeypatch.setattr(arithmetic, "EXACT_COST", 1)
    for seed, deleted in enumerate([(), tuple(f"d{number}" for number in range(0, 300, 3))]):
        collection = Collection(
            sizes, seed=seed, lexical=MemoryPostings, rough=rough, deleted=deleted
        )
        dense, lexical = collection.queries(seed=seed)
        for k, depth in ((1, 1), (5, 20), (300, 300)):
            request = Request(k, fusion=Fusion("rrf"), depth=depth)
            together = collection.search(dense, lexical, request)
            for query, answer in enumerate(together):
                (alone,) = collection.search(dense[[query]], lexical[query], request)
                assert ranking(collection, alone) == ranking(collection, answer)
                np.testing.assert_array_equal(alone.parts["dense"], answer.parts["dense"])
                np.testing.assert_array_equal(alone.parts["lexical"], answer.parts["lexical"])
                assert alone.certificate == answer.certificate


def test_nothing_is_found_where_all_is_deleted():
    collection = Collection(
        (9,), lexical=MemoryPostings, deleted=tuple(f"d{number}" for number in range(9))
    )
    dense, lexical = collection.queries()
    for fusion in ("sum", "rrf"):
        request = Request(5, fusion=Fusion(fusion), depth=5)
        (answer,) = collection.search(dense[:1], lexical[0], request)
        assert not len(answer.documents)


def test_an_approximate_dense_leg_is_not_called_proven():
    collection = Collection(exhaustive=False)
    dense, lexical = collection.queries()
    for mode in ("dense", "hybrid"):
        answers = collection.search(dense, lexical, Request(5, mode, depth=20))
        assert not any(answer.certificate.certified for answer in answers)


def test_a_query_is_searched_deeper_only_where_needed():
    collection = Collection((4000,))
    dense, lexical = collection.queries()
    shallow = collection.search(dense, lexical, Request(5, depth=20))
    deep = collection.search(dense, lexical, Request(5, depth=20, exact=True))
    for before, after in zip(shallow, deep, strict=True):
        if before.certificate.certified:
            assert after.certificate.depths["dense"] == before.certificate.depths["dense"]
        else:
            assert after.certificate.depths["dense"] > before.certificate.depths["dense"]


def test_equal_documents_at_the_cut_are_returned_in_the_order_of_ids():
    collection = Collection((200,))
    collection.dense[:] = collection.dense[0]
    collection.dense_shards[0].vectors[:] = collection.dense[0]
    dense, lexical = collection.queries(1)
    answer = collection.search(dense, lexical, Request(7, "dense", depth=7))[0]
    assert collection.numbering.ids(answer.documents) == sorted(collection.ids)[:7]


def test_a_query_without_terms_finds_nothing_lexically_and_is_ranked_by_the_dense_part():
    collection = Collection()
    dense, lexical = collection.queries()
    empty = np.flatnonzero(np.diff(lexical.indptr) == 0)
    assert len(empty)
    lexical_only = collection.search(None, lexical, Request(10, "lexical"))
    hybrid = collection.search(dense, lexical, Request(10, exact=True))
    for query in empty:
        assert len(lexical_only[query].documents) == 0
        assert lexical_only[query].certificate.certified
        d, _ = collection.parts(dense[query], lexical[query])
        assert ranking(collection, hybrid[query]) == collection.best(d, 10)


@pytest.mark.parametrize("k", [1, 50])
@pytest.mark.parametrize("exact", [False, True])
def test_vectors_that_are_no_numbers_are_told_and_not_left_out(k, exact):
    collection = Collection((50,))
    collection.dense_shards[0].vectors[7] = np.nan
    dense, _ = collection.queries(3)
    with pytest.raises(DupMAEError, match="dupmae verify"):
        collection.search(dense, None, Request(k, "dense", depth=k, exact=exact))


@pytest.mark.parametrize(
    "fusion", [Fusion("rrf"), Fusion("linear"), Fusion("combmnz", norm="none"), Fusion("combsum")]
)
def test_fusions_that_depend_on_the_candidates_cannot_be_exact(fusion):
    with pytest.raises(InputError, match="cannot be certified"):
        Request(fusion=fusion, exact=True)
    collection = Collection()
    dense, lexical = collection.queries()
    answers = collection.search(dense, lexical, Request(5, fusion=fusion))
    assert not any(answer.certificate.certified for answer in answers)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"k": 0}, "k is 0"),
        ({"k": -3}, "k is -3"),
        ({"k": 10, "depth": 5}, "at least k"),
        ({"mode": "sparse"}, "hybrid, dense, lexical"),
        ({"fusion": Fusion("sum", (1, 2, 3))}, "3 weights for the 2 parts"),
    ],
)
def test_impossible_requests_are_refused(settings, words):
    with pytest.raises(InputError, match=words):
        Request(**settings)


@pytest.fixture
def added_up_in_order(monkeypatch):
    """One of the orders that BLAS may take."""

    def products(vectors, queries):
        with np.errstate(over="ignore"):
            return np.add.accumulate(queries[:, None] * vectors, axis=-1)[..., -1]

    monkeypatch.setattr(arithmetic, "products", products)


@pytest.mark.parametrize("lexical", [MemoryLexical, MemoryPostings])
@pytest.mark.parametrize("mode", ["dense", "hybrid"])
@pytest.mark.parametrize("k", [1, 3])
@pytest.mark.usefixtures("added_up_in_order")
def test_products_that_overflow_on_the_way_are_not_left_out(k, mode, lexical):
    """In float32 the best document's sum is infinite on the way, and stays so."""
    collection = Collection((100,), lexical=lexical)
    vectors = collection.dense_shards[0].vectors
    vectors[:] = np.where(np.arange(100)[:, None] % 2, 1e35, 0)
    vectors[70, :5] = [-3e38, -3e38, 3e38, 3e38, 1e38]
    terms = csr_matrix(np.eye(1, 60, dtype=np.float32))
    request = Request(k, mode, Fusion("sum", (1.0, 1.0)), depth=k, exact=True)
    (answer,) = collection.search(np.ones((1, 12), np.float32), terms, request)
    assert answer.certificate.certified
    assert answer.documents[0] == 70


@pytest.mark.usefixtures("added_up_in_order")
def test_a_deleted_document_is_not_returned_in_the_place_of_one_that_overflowed():
    collection = Collection((30,), lexical=MemoryPostings, deleted=tuple(f"d{n}" for n in range(9)))
    vectors = collection.dense_shards[0].vectors
    vectors[:] = 0.5
    living = np.flatnonzero(collection.numbering.live[0])
    vectors[living[-1], :4] = [-3e38, -3e38, 3e38, 2e38]
    terms = csr_matrix(np.eye(1, 60, dtype=np.float32))
    (answer,) = collection.search(np.ones((1, 12), np.float32), terms, Request(30, depth=30))
    assert sorted(answer.documents.tolist()) == living.tolist()
