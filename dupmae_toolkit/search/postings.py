"""The lexical leg in memory: the impacts of a segment by term, added up for each query.

Lucene is the index of record, and serves what is too large for memory. This engine reads the same
impacts from the forward store, turned around, and gives the same documents with the same scores:
the products of rounded query weights and impacts are added up in float64, where they are exact
(`index/impacts.py`). It needs no Java, and a query costs one pass over the postings of its terms.
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from scipy.sparse import csc_matrix

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
        self._empty: dict[int, csc_matrix] = {}

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
        counts, weights = ends - starts, queries.data.astype(np.float64)
        return [
            self._scores(parts[first:last], counts[first:last], weights[first:last])
            for first, last in pairwise(queries.indptr.tolist())
        ]

    def _scores(self, parts: list[slice], counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Σ weight × impact over some terms, whose postings are ``counts`` many each."""
        if not parts:
            return np.zeros(self._count)
        # The columns of these terms as a matrix: its product with the weights is one loop in C
        # over what is here. numpy's bincount would have the rows as int64, and every product.
        columns = copy.copy(self._columns(len(parts)))
        columns.indices = np.concatenate([self._rows[part] for part in parts])
        columns.data = np.concatenate([self._impacts[part] for part in parts], dtype=np.float64)
        columns.indptr = np.zeros(len(parts) + 1, columns.indices.dtype)
        np.cumsum(counts, out=columns.indptr[1:])
        scores: np.ndarray = columns @ weights
        return scores

    def _columns(self, count: int) -> csc_matrix:
        """An empty matrix [n, count], kept: making one takes as long as filling it."""
        found = self._empty.get(count)
        if found is None:
            found = self._empty[count] = csc_matrix((self._count, count), dtype=np.float64)
        return found
