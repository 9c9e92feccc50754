"""The leg of BM25: the words' columns of the same impacts that the lexical leg searches.

A query's words have other columns in each segment. So a batch of queries numbers its own words, and
each shard translates these numbers into its columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import repeat
from typing import Any

import numpy as np

from dupmae_toolkit.index.pruning import largest
from dupmae_toolkit.search.lexical import LexicalLeg, LexicalShard, Terms
from dupmae_toolkit.search.numbering import Numbering


class Weighted:
    """The terms of q queries, in the form of a CSR matrix that is not checked.

    Making one of scipy's takes as long as searching a few thousand documents. indices: int64
    columns. data: float32. indptr: int64 [q + 1].
    """

    __slots__ = ("data", "indices", "indptr", "shape")

    def __init__(
        self, data: np.ndarray, indices: np.ndarray, indptr: np.ndarray, width: int
    ) -> None:
        self.data, self.indices, self.indptr = data, indices, indptr
        self.shape = len(indptr) - 1, width

    def __getitem__(self, rows: Any) -> Weighted:
        """Some of the queries: a slice without a step, or an array of rows."""
        if isinstance(rows, slice):
            start, stop, _ = rows.indices(self.shape[0])
            bounds = self.indptr[start : max(start, stop) + 1]
            part = slice(int(bounds[0]), int(bounds[-1]))
            return Weighted(self.data[part], self.indices[part], bounds - bounds[0], self.shape[1])
        starts, counts = self.indptr[rows], self.indptr[rows + 1] - self.indptr[rows]
        bounds = np.concatenate([[0], np.cumsum(counts)])
        places = np.arange(bounds[-1]) + np.repeat(starts - bounds[:-1], counts)
        return Weighted(self.data[places], self.indices[places], bounds, self.shape[1])

    def kept(self, held: np.ndarray) -> Weighted:
        """Without the terms where ``held`` is false, bool [terms]."""
        if held.all():
            return self
        bounds = np.concatenate([[0], np.cumsum(held)])[self.indptr]
        return Weighted(self.data[held], self.indices[held], bounds, self.shape[1])


class WordQueries:
    """The words of q queries, weighted.

    words: all different words. weights: their weights, positive, rounded by ``round_weights``.
    """

    __slots__ = ("_places", "shape", "weights", "words")

    def __init__(
        self,
        words: Sequence[str],
        weights: Weighted,
        places: dict[int, tuple[Mapping[str, int], np.ndarray]] | None = None,
    ) -> None:
        self.words = words
        self.weights = weights
        self.shape = weights.shape
        #: The column of each word, -1 for none, by segment: ``over`` is called for each query.
        self._places = {} if places is None else places

    def __getitem__(self, rows: Any) -> WordQueries:
        """Some of the queries."""
        return WordQueries(self.words, self.weights[rows], self._places)

    def pruned(self, most: int) -> WordQueries:
        """The same queries with their ``most`` largest weights; of equal ones, the first words'."""
        kept = largest(self.weights.data, self.weights.indptr, most)
        return WordQueries(self.words, self.weights.kept(kept), self._places)

    def over(self, columns: Mapping[str, int], width: int) -> Weighted:
        """The same queries over the columns of a segment; words that it lacks are left out."""
        known = self._places.get(id(columns))
        if known is None:  # `columns` is kept too, so that its id stays its own
            places = np.array(list(map(columns.get, self.words, repeat(-1))), np.int64)
            known = self._places[id(columns)] = columns, places
        weights = self.weights
        moved = Weighted(weights.data, known[1][weights.indices], weights.indptr, width)
        return moved.kept(moved.indices >= 0)


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

    def over(self, shard: int, queries: WordQueries) -> Weighted:
        return queries.over(self._columns[shard], self.shards[shard].width)

    def terms(self, shard: int, queries: WordQueries, row: int) -> Terms:
        return Terms.of(self.over(shard, queries[row : row + 1]), 0)
