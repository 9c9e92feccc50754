"""Dense vectors of queries without the network: a sum of one vector per token, from a table.

The vector of a query with n different tokens is Σ_t E_t / √n + b. It is not scaled to length one:
the less of the network's vector the table can tell, the shorter it is, and the less it adds to a
sum of scores. Nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

#: Weight of the distance to the tokens' own vectors; see ``fit_table``.
RIDGE = 1.0
#: Steps of conjugate gradients, and the share of the first residual at which they end sooner.
STEPS, ENOUGH = 60, 3e-3


@dataclass(frozen=True, slots=True)
class DenseTable:
    """vectors: int8 [|V|, d]. scales: float32 [|V|], of each row. bias: float32 [d]."""

    vectors: np.ndarray
    scales: np.ndarray
    bias: np.ndarray

    def encode(self, rows: Sequence[Sequence[int]]) -> np.ndarray:
        """float32 [n, d]. rows: the different tokens of each query; without any: zeros."""
        found = np.zeros((len(rows), len(self.bias)), np.float32)
        for made, row in zip(found, rows, strict=True):
            if row:
                tokens = np.asarray(row)
                weights = self.scales[tokens] / np.float32(len(row) ** 0.5)
                made[:] = weights @ self.vectors[tokens].astype(np.float32) + self.bias
        return found

    @classmethod
    def rounded(cls, table: np.ndarray, bias: np.ndarray) -> DenseTable:
        """Each row of a float table [|V|, d] rounded to 127 steps of its largest number."""
        largest = np.abs(table).max(axis=1, initial=0.0)
        scales = (largest / 127).astype(np.float32)
        scales[scales == 0] = 1
        vectors = np.rint(table / scales[:, None]).astype(np.int8)
        return cls(vectors, scales, bias.astype(np.float32))


def fit_table(
    rows: Sequence[Sequence[int]], vectors: np.ndarray, alone: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Table and bias, float32 [|V|, d] and [d], whose sums come near to the network's vectors.

    rows: the different tokens of each text. vectors: float32 [n, d], the network's of these texts.
    alone: float32 [|V|, d], those of each token as a text of its own.

    b is the mean of ``vectors``, and E minimises |X E + b - vectors|² + RIDGE · |E - (alone - b)|²,
    where X has 1 / √n for each of a text's n tokens. So a token that is in no text keeps its own
    vector. Ridge regression: Hoerl and Kennard 1970; by conjugate gradients, all columns at once.
    """
    if not rows:
        return np.zeros_like(alone), np.zeros(alone.shape[1], np.float32)
    lengths = np.array([len(row) for row in rows])
    columns = np.fromiter((token for row in rows for token in row), np.int64, lengths.sum())
    weights = np.repeat((1 / np.sqrt(np.maximum(lengths, 1))).astype(np.float32), lengths)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    texts = csr_matrix((weights, columns, bounds), shape=(len(rows), len(alone)))
    tokens = texts.T.tocsr()
    bias = vectors.mean(axis=0, dtype=np.float64).astype(np.float32)
    table = alone - bias
    residual = tokens @ (vectors - bias - texts @ table)
    direction = residual.copy()
    size = np.square(residual, dtype=np.float64).sum(axis=0)
    enough = ENOUGH**2 * size
    for _ in range(STEPS):
        if (size <= enough).all():
            break
        image = tokens @ (texts @ direction) + RIDGE * direction
        curve = (direction * image).sum(axis=0, dtype=np.float64)
        step = np.divide(size, curve, out=np.zeros_like(size), where=curve > 0).astype(np.float32)
        table += step * direction
        residual -= step * image
        before, size = size, np.square(residual, dtype=np.float64).sum(axis=0)
        ratio = np.divide(size, before, out=np.zeros_like(size), where=before > 0)
        direction = residual + ratio.astype(np.float32) * direction
    return table, bias


def mean_cosine(one: np.ndarray, other: np.ndarray) -> float:
    """The mean cosine of rows, float32 [n, d]; 0 for rows of zeros, and for no rows."""
    if not len(one):
        return 0.0
    lengths = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    products = (one * other).sum(axis=1)
    return float(
        np.divide(products, lengths, out=np.zeros_like(products), where=lengths > 0).mean()
    )
