"""The lexical leg in memory: the impacts of a segment by term, added up for each query.

Lucene is the index of record, and serves what is too large for memory. This engine reads the same
impacts from the forward store, turned around, and gives the same documents with the same scores:
the products of rounded query weights and impacts are added up in float64, where they are exact
(`index/impacts.py`). It needs no Java, and a query costs one pass over the postings of its terms.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.search.scanning import Returned, best_above_zero

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Postings that an open index holds in memory at most, 5 bytes each (6 above an impact of 255).
MOST_POSTINGS = 50_000_000


class Postings:
    """Impacts by term. Searching from several threads at once is safe."""

    def __init__(self, impacts: csr_matrix) -> None:
        """impacts: CSR [n, |V|], unsigned integers of at least 1.

        Raises DupMAEError for terms beyond |V|, which can only be damage.
        """
        terms = impacts.indices
        # Where columns lie is believed by what turns them around.
        if len(terms) and (terms.min() < 0 or terms.max() >= impacts.shape[1]):
            raise DupMAEError(
                "the forward store names terms that are not in the vocabulary; look for damage "
                "with `dupmae verify`"
            )
        turned = impacts.tocsc()
        self._count = impacts.shape[0]
        self._bounds = turned.indptr
        self._rows, self._impacts = turned.indices, turned.data

    def __len__(self) -> int:
        """The number of documents."""
        return self._count

    def search(self, queries: csr_matrix, k: int) -> Returned:
        """As ``LuceneImpacts.search``, with scores as float64, exact.

        queries: CSR float32 [q, |V|], positive, rounded by ``round_weights``.
        """
        return [best_above_zero(scores, k) for scores in self.all_scores(queries)]

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        """Of each query with every document, float64 [n]; see ``search``."""
        starts, ends = self._bounds[queries.indices], self._bounds[queries.indices + 1]
        parts = list(map(slice, starts.tolist(), ends.tolist()))
        counts = ends - starts
        weights = np.repeat(queries.data.astype(np.float64), counts)
        if queries.shape[0] == 1:
            return [self._scores(parts, weights)]
        lasts = np.concatenate([[0], np.cumsum(counts)])[queries.indptr].tolist()
        return [
            self._scores(parts[start:end], weights[first:last])
            for (start, end), (first, last) in zip(
                pairwise(queries.indptr.tolist()), pairwise(lasts), strict=True
            )
        ]

    def _scores(self, parts: list[slice], weights: np.ndarray) -> np.ndarray:
        if not parts:
            return np.zeros(self._count)
        rows = np.concatenate([self._rows[part] for part in parts])
        impacts = np.concatenate([self._impacts[part] for part in parts])
        return np.bincount(rows, impacts * weights, self._count)
