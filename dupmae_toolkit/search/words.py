"""The leg of BM25: the words' columns of the same impacts that the lexical leg searches.

A query's words have other columns in each segment. So a batch of queries numbers its own words, and
each shard translates these numbers into its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.search.lexical import LexicalLeg, LexicalShard, Terms
from dupmae_toolkit.search.numbering import Numbering

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class WordQueries:
    """The words of q queries, weighted.

    words: all different words. matrix: CSR float32 [q, words], positive, rounded by
    ``round_weights``.
    """

    __slots__ = ("matrix", "shape", "words")

    def __init__(self, words: Sequence[str], matrix: csr_matrix) -> None:
        self.words = words
        self.matrix = matrix
        self.shape = matrix.shape

    def __getitem__(self, rows: Any) -> WordQueries:
        """Some of the queries."""
        return WordQueries(self.words, self.matrix[rows])

    def over(self, columns: Mapping[str, int], width: int) -> csr_matrix:
        """The same queries over the columns of a segment; words that it lacks are left out."""
        from scipy.sparse import csr_matrix

        places = np.array([columns.get(word, -1) for word in self.words], np.int64)
        found = places[self.matrix.indices]
        held = found >= 0
        bounds = np.concatenate([[0], np.cumsum(held)])[self.matrix.indptr]
        return csr_matrix(
            (self.matrix.data[held], found[held], bounds), shape=(self.shape[0], width)
        )


class WordLeg(LexicalLeg):
    """BM25 over all segments. Queries: WordQueries."""

    def __init__(
        self,
        numbering: Numbering,
        shards: Sequence[LexicalShard],
        scale: float,
        columns: Sequence[Mapping[str, int]],
    ) -> None:
        """columns: for each shard, the column of each word."""
        super().__init__(numbering, shards, scale)
        self._columns = columns

    def over(self, shard: int, queries: WordQueries) -> csr_matrix:
        return queries.over(self._columns[shard], self.shards[shard].width)

    def terms(self, shard: int, queries: WordQueries, row: int) -> Terms:
        return Terms.of(self.over(shard, queries[row : row + 1]), 0)
