"""The weighted words of queries, against scipy's matrices."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import sparse

from dupmae_toolkit.search.words import Weighted, WordQueries


@pytest.mark.parametrize("seed", range(5))
def test_weighted_terms_are_sliced_and_moved_as_a_matrix_is(seed):
    dice = np.random.default_rng(seed)
    matrix = sparse.random(7, 12, 0.3, "csr", np.float32, random_state=dice)
    weighted = Weighted(matrix.data, matrix.indices.astype(np.int64), matrix.indptr, 12)
    columns = np.where(dice.random(12) < 0.3, -1, dice.permutation(12))
    words = [f"w{column}" for column in range(12)]
    named = {word: int(c) for word, c in zip(words, columns, strict=True) if c >= 0}
    moved = np.zeros((7, 20), np.float32)
    moved[:, columns[columns >= 0]] = matrix.toarray()[:, columns >= 0]
    for rows in [slice(0, 7), slice(2, 5), slice(3, 3), slice(5, 2), slice(-2, None)] + [
        dice.integers(0, 7, size) for size in (0, 1, 5)
    ]:
        some = weighted[rows]
        assert some.shape == (matrix[rows].shape[0], 12)
        np.testing.assert_array_equal(dense_of(some), matrix[rows].toarray())
        over = WordQueries(words, some).over(named, 20)
        np.testing.assert_array_equal(dense_of(over), moved[rows])


def dense_of(weighted):
    parts = weighted.data, weighted.indices, weighted.indptr
    return sparse.csr_matrix(parts, shape=weighted.shape).toarray()


def test_words_that_a_segment_lacks_are_left_out():
    weights = Weighted(
        np.array([1, 2, 3, 4], np.float32),
        np.array([0, 2, 1, 2]),
        np.array([0, 2, 2, 4]),
        3,
    )
    queries = WordQueries(["sea", "sky", "tree"], weights)
    over = queries[1:].over({"tree": 5, "sea": 1}, 6)
    np.testing.assert_array_equal(dense_of(over), [[0] * 6, [0, 0, 0, 0, 0, 4]])
