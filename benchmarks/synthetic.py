"""Vectors like real ones: terms by Zipf's law, skewed impacts."""

from __future__ import annotations

import numpy as np
from scipy.sparse import csr_matrix

TERMS = 30_522


def impacts(count: int, terms_each: int, seed: int = 0) -> csr_matrix:
    """Documents with integer impacts of 1 to 255, uint8 CSR [count, TERMS]."""
    return _draw(count, terms_each, seed, 1.0).astype(np.uint8)


def queries(count: int, terms_each: int, seed: int = 1) -> csr_matrix:
    """Queries with whole weights of 1 to 255, float32, so that Pyserini can take them too."""
    return _draw(count, terms_each, seed, 0.7).astype(np.float32)


def _draw(count: int, terms_each: int, seed: int, skew: float) -> csr_matrix:
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(10, TERMS + 10) ** skew
    drawn = rng.choice(TERMS, size=(count, terms_each), p=chance / chance.sum())
    rows = np.repeat(np.arange(count), terms_each)
    values = np.clip(rng.gamma(2.0, 30.0, size=drawn.size), 1, 255).astype(np.int64)
    matrix = csr_matrix((values, (rows, drawn.ravel())), shape=(count, TERMS))
    matrix.sum_duplicates()
    matrix.data = np.clip(matrix.data, 1, 255)
    return matrix
