"""Completion: what one leg found gets its exact score of the other leg."""

from __future__ import annotations

import numpy as np
import pytest

from dupmae_toolkit.search.arithmetic import inner_products, largest_norm
from dupmae_toolkit.search.dense import DenseLeg
from dupmae_toolkit.search.engine import complete, unite
from dupmae_toolkit.search.lexical import LexicalLeg
from tests.search_support import Collection, MemoryLexical, MemoryPostings


@pytest.mark.parametrize("lexical", [MemoryLexical, MemoryPostings])
@pytest.mark.parametrize("sizes", [(300,), (120, 1, 179)])
@pytest.mark.parametrize("depth", [1, 7, 400])
def test_every_candidate_has_both_scores_of_brute_force(sizes, depth, lexical):
    collection = Collection(sizes, lexical=lexical)
    dense, lexical = collection.queries()
    dense_leg = DenseLeg(collection.numbering, collection.dense_shards).ask(dense)
    lexical_leg = LexicalLeg(collection.numbering, collection.lexical_shards, collection.scale).ask(
        lexical
    )
    rows = np.arange(len(dense))
    dense_lists = dense_leg.search(rows, depth)
    lexical_lists = lexical_leg.search(rows, depth)
    for query, (found, matched) in enumerate(zip(dense_lists, lexical_lists, strict=True)):
        candidates = unite([found, matched])
        given = [dense_leg, lexical_leg], query
        before = np.isnan(candidates.scores)
        complete(candidates, *given, np.flatnonzero(before.any(axis=0))[:1])
        assert np.isnan(candidates.scores).sum() in {0, before.sum() - 1}
        complete(candidates, *given)
        expected = set(found.documents.tolist()) | set(matched.documents.tolist())
        assert candidates.documents.tolist() == sorted(expected)
        products, overlaps = collection.parts(dense[query], lexical[query])
        np.testing.assert_allclose(
            candidates.scores[0], products[candidates.documents], rtol=1e-12, atol=1e-12
        )
        np.testing.assert_array_equal(candidates.scores[1], overlaps[candidates.documents])
        for row, listed in enumerate((found, matched)):
            held = candidates.ranks[row] > 0
            assert held.sum() == len(listed.documents)
            order = np.argsort(candidates.ranks[row][held])
            assert candidates.documents[held][order].tolist() == listed.documents.tolist()


def test_a_document_outside_both_lists_is_no_candidate():
    collection = Collection()
    dense, lexical = collection.queries(1)
    legs = [
        DenseLeg(collection.numbering, collection.dense_shards).ask(dense),
        LexicalLeg(collection.numbering, collection.lexical_shards).ask(lexical),
    ]
    candidates = unite([leg.search(np.arange(1), 3)[0] for leg in legs])
    complete(candidates, legs, 0)
    assert 3 <= len(candidates.documents) <= 6


@pytest.mark.parametrize("dimensions", [1, 3, 7, 16, 17, 129, 384, 8193, 17_000])
def test_an_inner_product_is_the_same_in_whatever_company(dimensions):
    dice = np.random.default_rng(dimensions)
    vectors = dice.normal(size=(501, dimensions)).astype(np.float32)
    query = dice.normal(size=dimensions).astype(np.float32)
    together = inner_products(vectors, query)
    for rows in ([0], [500], [3, 2], range(1, 501, 7), dice.permutation(501)):
        rows = np.array(rows)
        np.testing.assert_array_equal(inner_products(vectors[rows], query), together[rows])
    strided = np.zeros((501, dimensions + 1), np.float32)[:, 1:]
    strided[:] = vectors
    np.testing.assert_array_equal(inner_products(strided, query), together)


def test_the_largest_norm_is_found_in_any_block():
    vectors = np.ones((70_000, 2), np.float32)
    assert largest_norm(vectors) == pytest.approx(np.sqrt(2))
    vectors[69_999] = [3, 4]
    assert largest_norm(vectors) == 5
