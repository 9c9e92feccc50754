"""The lexical leg: Σ query weight × impact over the terms that a query and a document share.

Impacts that fit into memory are searched there, the others by Lucene. Both give the same documents
with the same scores: the products of rounded query weights and impacts are summed in float64, which
holds them exactly (`index/impacts.py`).
"""

from __future__ import annotations

import copy
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.sparse import csc_matrix

from dupmae_toolkit.index.forward import ForwardStore, check_columns
from dupmae_toolkit.index.lucene import LuceneImpacts
from dupmae_toolkit.search.arithmetic import MAX_SCORES, UNIT, Returned, best_above_zero
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.ranking import Asked, Found, Leg, asks

if TYPE_CHECKING:
    from collections.abc import Sequence

    from scipy.sparse import csr_matrix

_NOTHING = (np.empty(0, np.int32), np.empty(0))
#: How many postings an open index may hold in memory, 5 bytes each (6 if impacts exceed 255).
MAX_POSTINGS = 50_000_000


class Terms(NamedTuple):
    """The lexical vector of one query: terms by number, and their weights, float32, not 0."""

    terms: np.ndarray
    weights: np.ndarray

    @classmethod
    def of(cls, queries: csr_matrix, row: int) -> Terms:
        """A row of ``queries``; faster than slicing it, for which scipy makes a new matrix."""
        part = slice(queries.indptr[row], queries.indptr[row + 1])
        return cls(queries.indices[part], queries.data[part])


class LexicalShard:
    """A segment's impacts. Only documents that share a term with the query are returned.

    in_memory: ``all_scores`` may be called, and the scores of ``search`` are exact. stored:
    ``score`` may be called; otherwise the scores of ``search`` are final. A shard in memory returns
    only rows that are ``live``; Lucene, which cannot know, others too.
    """

    in_memory = False

    def __init__(self, size: int, forward: ForwardStore | None) -> None:
        """size: the number of documents."""
        self.size = size
        #: The number of columns: tokens, then words.
        self.width = 0 if forward is None else int(forward.impacts.shape[1])
        self.stored = forward is not None
        self._forward = forward

    def search(self, queries: csr_matrix, k: int, live: np.ndarray | None = None) -> Returned:
        """For each query the rows (int32) and scores of the best ``k``, descending, ties by row.

        queries: CSR float32 [q, |V|], positive, rounded by ``round_weights``.
        """
        raise NotImplementedError

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        """The score of each query with every row, float64 [n], exact."""
        raise NotImplementedError

    def score(self, query: Terms, rows: np.ndarray) -> np.ndarray:
        """Σ weight × impact for some rows, float64, exact."""
        assert self._forward is not None
        return self._forward.lexical_scores(*query, rows)


class LuceneShard(LexicalShard):
    """Impacts searched by Lucene; exact scores come from the forward store."""

    def __init__(self, lucene: LuceneImpacts, forward: ForwardStore | None) -> None:
        super().__init__(len(lucene), forward)
        self._lucene = lucene

    def search(self, queries: csr_matrix, k: int, live: np.ndarray | None = None) -> Returned:
        """Scores are Lucene's: float64 sums, rounded once to float32."""
        return self._lucene.search(queries, k)


class Postings(LexicalShard):
    """Impacts by term, in memory. A search is one pass over the query's postings, without Java."""

    in_memory = True

    def __init__(self, impacts: csr_matrix) -> None:
        """impacts: CSR [n, |V|], unsigned integers of at least 1.

        Raises DupMAEError for terms beyond |V|, which can only be damage.
        """
        super().__init__(impacts.shape[0], ForwardStore(impacts, None))
        check_columns(impacts)  # tocsc does not
        by_term = impacts.tocsc()
        self._bounds = by_term.indptr
        self._rows, self._impacts = by_term.indices, by_term.data
        self._empty: dict[int, csc_matrix] = {}

    def __len__(self) -> int:
        """The number of documents."""
        return self.size

    def search(self, queries: csr_matrix, k: int, live: np.ndarray | None = None) -> Returned:
        """The best ``k`` for each query, with scores as float64, exact."""
        return [best_above_zero(scores, k, live) for scores in self.all_scores(queries)]

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        """The score of each query with every row, float64 [n], exact."""
        starts, ends = self._bounds[queries.indices], self._bounds[queries.indices + 1]
        parts = list(map(slice, starts.tolist(), ends.tolist()))
        counts, weights = ends - starts, queries.data.astype(np.float64)
        scores = []
        for first, last in pairwise(queries.indptr.tolist()):
            query = slice(first, last)
            scores.append(self._scores(parts[query], counts[query], weights[query]))
        return scores

    def _scores(self, parts: list[slice], counts: np.ndarray, weights: np.ndarray) -> np.ndarray:
        """Σ weight × impact for every row, float64 [n].

        parts: where the postings of each query term are. counts: how many each has.
        """
        if not parts:
            return np.zeros(self.size)
        # The columns of these terms as a matrix: its product with the weights is one loop in C.
        # numpy's bincount would need the rows as int64, and an array of all products.
        columns = copy.copy(self._columns(len(parts)))
        columns.indices = np.concatenate([self._rows[part] for part in parts])
        columns.data = np.concatenate([self._impacts[part] for part in parts], dtype=np.float64)
        columns.indptr = np.zeros(len(parts) + 1, columns.indices.dtype)
        np.cumsum(counts, out=columns.indptr[1:])
        scores: np.ndarray = columns @ weights
        return scores

    def _columns(self, count: int) -> csc_matrix:
        """An empty matrix [n, count]; cached, because making one takes as long as filling it."""
        found = self._empty.get(count)
        if found is None:
            found = self._empty[count] = csc_matrix((self.size, count), dtype=np.float64)
        return found


class LexicalLeg(Leg):
    """The impacts of all segments. Queries: CSR float32 [q, |V|], positive, already rounded.

    ``scale`` divides Σ weight × impact. Documents that share no term with a query score 0.
    """

    returns_all = False
    exact = True

    def __init__(
        self, numbering: Numbering, shards: Sequence[LexicalShard], scale: float = 1.0
    ) -> None:
        super().__init__(numbering, shards)
        self.scale = scale
        self.in_memory = all(shard.in_memory for shard in shards)

    def ask(self, queries: csr_matrix) -> AskedLexical:
        return AskedLexical(self, queries)

    @property
    def gives_all_scores(self) -> bool:
        """Whether ``all_scores`` may be called."""
        return self.in_memory

    def all_scores(self, queries: csr_matrix, rough: bool = True) -> tuple[list[np.ndarray], float]:
        """Each query's scores with all documents, float64 [n], not yet divided by the scale.

        They are exact: the second value, the bound on their error, is 0.
        """
        if len(self.shards) == 1:
            return self.shards[0].all_scores(self.over(0, queries)), 0.0
        found = [
            shard.all_scores(self.over(number, queries)) for number, shard in enumerate(self.shards)
        ]
        return [np.concatenate(own) for own in zip(*found, strict=True)], 0.0

    def error_bounds(self, queries: Any, row: int, scores: np.ndarray) -> tuple[float, float]:
        """The largest of the query's scores with all documents; nothing is rounded."""
        return float(scores.max(initial=0.0)), 0.0

    def score(self, queries: csr_matrix, row: int, documents: np.ndarray) -> np.ndarray:
        """Σ weight × impact / scale for documents by number, float64."""
        scores = np.empty(len(documents))
        for segment, where, rows in self.numbering.by_segment(documents):
            query = self.terms(segment, queries, row)
            scores[where] = self.shards[segment].score(query, rows)
        return scores / self.scale

    def over(self, shard: int, queries: Any) -> csr_matrix:
        """The queries over the columns of a shard; tokens have the same columns in all."""
        return queries

    def terms(self, shard: int, queries: Any, row: int) -> Terms:
        """One of the queries over the columns of a shard."""
        return Terms.of(queries, row)


class AskedLexical(Asked):
    """The lexical leg with a batch of queries.

    Where a search computes the scores of all documents, they are kept as long as the batch, and
    completion reads them.
    """

    leg: LexicalLeg

    def __init__(self, leg: LexicalLeg, queries: csr_matrix) -> None:
        super().__init__(leg, queries)
        #: Of a query by row: the scores of all documents, float64 [n], not yet divided.
        self._kept: dict[int, np.ndarray] = {}

    def score(self, row: int, documents: np.ndarray) -> np.ndarray:
        """What one query gives to documents by number, float64; the numbers of ``search``."""
        if row in self._kept:
            return self._kept[row][documents] / self.leg.scale
        return super().score(row, documents)

    def all_scores(self, rough: bool = True) -> tuple[list[np.ndarray], float]:
        """The scores of all queries with all documents; see ``Leg.all_scores``."""
        found, error = super().all_scores(rough)
        self._kept.update(enumerate(found))
        return found, error

    def _find(self, rows: np.ndarray, ask: int, exact: bool) -> list[Found]:
        leg, asked_queries = self.leg, self._rows_of(rows)
        keeps = leg.in_memory and len(rows) * sum(shard.size for shard in leg.shards) <= MAX_SCORES
        returned: list[Returned] = []
        asked: list[int] = []
        kept: list[list[np.ndarray]] = []
        whole: list[int] = []  # for each shard: how many documents it can return
        numbering = self._numbering
        for number, (shard, live, alive) in enumerate(
            zip(leg.shards, numbering.live, numbering.alive, strict=True)
        ):
            queries = leg.over(number, asked_queries)
            whole.append(alive if shard.in_memory else shard.size)
            asked.append(min(alive, ask) if shard.in_memory else asks(ask, shard.size, alive))
            if keeps:
                kept.append(shard.all_scores(queries))
                returned.append([best_above_zero(scores, asked[-1], live) for scores in kept[-1]])
            elif asked[-1]:
                returned.append(shard.search(queries, asked[-1], live))
            else:
                returned.append([_NOTHING] * len(rows))
        if keeps:
            for row, *own in zip(rows.tolist(), *kept, strict=True):
                self._kept[row] = own[0] if len(own) == 1 else np.concatenate(own)
        # Lucene rounds its float64 sums to float32; our own sums keep all digits.
        again = any(shard.stored and not shard.in_memory for shard in leg.shards)
        found = []
        for query, row in enumerate(rows.tolist()):
            documents, scores = self._gather(returned, query)
            scores = self.score(row, documents) if again else scores / leg.scale
            # Documents without a term of the query score 0, and no weight is negative.
            bound, complete = 0.0, True
            for shard, k, size, answers in zip(leg.shards, asked, whole, returned, strict=True):
                values = answers[query][1]
                if 0 < len(values) == k < size:
                    complete = False
                    more = 1 + 4 * UNIT if shard.stored and not shard.in_memory else 1.0
                    bound = max(bound, float(values[-1]) * more / leg.scale)
            found.append(Found(documents, scores, bound, bound, complete))
        return found
