"""Segments as the legs see them."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias
from weakref import WeakKeyDictionary

import numpy as np

from dupmae_toolkit.index.joined import Joined
from dupmae_toolkit.index.segment import FORWARD_FOLDER, Segment
from dupmae_toolkit.search.flat import Flat
from dupmae_toolkit.search.legs import Returned, Terms
from dupmae_toolkit.search.postings import MOST_POSTINGS, Postings
from dupmae_toolkit.search.scanning import inner_products

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Part: TypeAlias = Segment | Joined


class SegmentDense:
    """A segment's FAISS index, with its vectors for exact scores.

    Where FAISS would compare the query with every vector, that is done here, faster.
    """

    def __init__(self, segment: Part) -> None:
        self._forward = segment.forward
        self._faiss = segment.faiss
        self.size = len(self._forward if self._faiss is None else self._faiss)
        self.exhaustive = self._faiss is None or self._faiss.exact
        self.stored = self._forward.dense_matrix is not None

    def search(self, queries: np.ndarray, k: int) -> Returned:
        if self._faiss is None or self.exhaustive:
            return self.scan(queries, k)
        return self._faiss.search(queries, k)

    def scan(self, queries: np.ndarray, k: int) -> Returned:
        return self._flat.scan(queries, k)

    def all_scores(self, queries: np.ndarray, rough: bool = True) -> tuple[np.ndarray, float]:
        return self._flat.all_scores(queries, rough)

    def largest_norm(self) -> float:
        return self._flat.largest_norm()

    def warm(self) -> None:
        """Make now what single queries are answered from."""
        if self.exhaustive and self.stored:
            self._flat.largest_norm()
            self._flat.prepare()

    @functools.cached_property
    def _flat(self) -> Flat:
        vectors = self._forward.dense_matrix
        assert vectors is not None
        return Flat(vectors)

    def score(self, query: np.ndarray, rows: np.ndarray) -> np.ndarray:
        return inner_products(self._forward.dense(rows), query)


class SegmentLexical:
    """A segment's impacts, searched in memory or by Lucene; exact scores from the forward store."""

    stored = True

    def __init__(self, segment: Part, in_memory: bool) -> None:
        """in_memory: hold the postings, and leave Lucene and Java alone; joined ones must be."""
        if in_memory and isinstance(segment, Segment):
            segment.reads(FORWARD_FOLDER)
        self._forward = segment.forward
        self._postings = Postings(segment.forward.impacts) if in_memory else None
        self._lucene = None if in_memory or isinstance(segment, Joined) else segment.lucene
        self.quick = in_memory
        self.size = len(segment.forward)

    def search(self, queries: csr_matrix, k: int) -> Returned:
        if self._postings is not None:
            return self._postings.search(queries, k)
        assert self._lucene is not None
        return self._lucene.search(queries, k)

    def all_scores(self, queries: csr_matrix) -> list[np.ndarray]:
        assert self._postings is not None
        return self._postings.all_scores(queries)

    def score(self, query: Terms, rows: np.ndarray) -> np.ndarray:
        return self._forward.lexical_scores(*query, rows)


class Shards:
    """The shards of segments, each made once: a state of the index has most of the last one's."""

    def __init__(self) -> None:
        self._dense: WeakKeyDictionary[Part, SegmentDense] = WeakKeyDictionary()
        self._lexical: WeakKeyDictionary[Part, SegmentLexical] = WeakKeyDictionary()

    def dense(self, parts: Sequence[Part]) -> list[SegmentDense]:
        """The dense vectors of each part."""
        for part in parts:
            if part not in self._dense:
                self._dense[part] = SegmentDense(part)
        return [self._dense[part] for part in parts]

    def lexical(self, parts: Sequence[Part], most: int = MOST_POSTINGS) -> list[SegmentLexical]:
        """The impacts; the smaller ones in memory, as many as have ``most`` postings together."""
        sizes = [part.forward.impacts.nnz for part in parts]
        held: set[int] = set()
        by_size = sorted(range(len(sizes)), key=sizes.__getitem__)
        # Joined ones first: Lucene has no index of them.
        for number in sorted(by_size, key=lambda n: not isinstance(parts[n], Joined)):
            most -= sizes[number]
            if most < 0 and not isinstance(parts[number], Joined):
                break
            held.add(number)
        for number, part in enumerate(parts):
            made = self._lexical.get(part)
            if made is None or made.quick != (number in held):
                self._lexical[part] = SegmentLexical(part, number in held)
        return [self._lexical[part] for part in parts]
