"""The documents that a filter or a list of ids leaves, and the engines that search them.

A selection is a numbering in which all other documents count as deleted. So every leg searches it
as it searches an index with deletions, and every proof holds. The frequencies of terms stay those
of the whole index: a filter changes no score.

Where few documents are left, their vectors and impacts are copied into small shards in memory. They
are searched as a small index would be: every document is scored, and every sum is proven.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.index.joined import Joined
from dupmae_toolkit.index.segment import Segment
from dupmae_toolkit.search.answers import Answer, Request
from dupmae_toolkit.search.dense import DenseShard
from dupmae_toolkit.search.engine import Candidates, Engine
from dupmae_toolkit.search.filters import Node, parse_filter
from dupmae_toolkit.search.lexical import Postings
from dupmae_toolkit.search.matching import leaves, matching, of_kinds, resolved, unread_kinds
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.passage_map import PassageMap
from dupmae_toolkit.search.ranking import Leg

#: The most documents that are copied, and the largest share of all where all would be scored.
FEW, SHARE = 16_384, 4
#: The selections that a snapshot keeps, and the bytes that their masks and copies take.
_KEPT, _BYTES = 64, 2**28

Parts = Sequence[Segment | Joined]


class Selection:
    """Some of a snapshot's documents.

    numbering: those of the snapshot, restricted. unknown: how many of the ids that were given are
    not in the index. unread: for fields of the filter, how many documents have a value there of a
    kind that the filter says nothing of, such as a text where it names a number. matching: how many
    documents match; their rows may be passages.
    """

    def __init__(
        self,
        numbering: Numbering,
        unknown: int = 0,
        unread: Mapping[str, int] | None = None,
        matching: int = 0,
    ) -> None:
        self.numbering = numbering
        self.unknown = unknown
        self.unread = dict(unread or {})
        self._matching = matching
        self.engines: dict[tuple[str, ...], Engine] = {}
        self._few: Few | None = None

    def __len__(self) -> int:
        """How many documents match."""
        return self._matching

    @property
    def nbytes(self) -> int:
        """The memory that it takes, about."""
        few = self._few.nbytes if self._few else 0
        return int(self.numbering.offsets[-1]) + few

    def few(self, parts: Parts, scores_all: bool) -> Few | None:
        """The copy of the documents, made once; None if there are too many of them.

        scores_all: whether a search of the whole would compute all scores. It is then not much
        faster to compute those of a good part of the documents.
        """
        count = self.numbering.searchable
        if count > FEW or (scores_all and count * SHARE > int(self.numbering.offsets[-1])):
            return None
        if self._few is None:
            self._few = Few(self.numbering, parts)
        return self._few


class Few:
    """A copy of the documents that a restricted numbering selects.

    documents: their numbers, int64, ascending. numbering: theirs in the copy, from 0.
    """

    def __init__(self, numbering: Numbering, parts: Parts) -> None:
        rows = [
            np.arange(len(part)) if live is None else np.flatnonzero(live)
            for part, live in zip(parts, numbering.live, strict=True)
        ]
        # Each shard costs a search some time, even an empty one. But there must be one.
        held = [number for number, own in enumerate(rows) if len(own)] or [0]
        self.parts = [parts[number] for number in held]
        self._rows = [rows[number] for number in held]
        self.documents = np.concatenate(
            [numbering.offsets[number] + rows[number] for number in held]
        )
        ids = [
            [part.ids[row] for row in own.tolist()]
            for part, own in zip(self.parts, self._rows, strict=True)
        ]
        self.numbering = Numbering(ids)
        self.nbytes = 0
        self._dense: list[DenseShard] | None = None
        self._lexical: list[Postings] | None = None

    def dense(self) -> list[DenseShard]:
        """The dense vectors of each part."""
        if self._dense is None:
            vectors = [
                part.forward.dense(own) for part, own in zip(self.parts, self._rows, strict=True)
            ]
            self.nbytes += sum(each.nbytes for each in vectors)
            self._dense = [DenseShard(each, quantize=False) for each in vectors]
        return self._dense

    def lexical(self) -> list[Postings]:
        """The impacts of each part, which has the columns of the whole."""
        if self._lexical is None:
            impacts = [
                csr_matrix(part.forward.impacts[own])
                for part, own in zip(self.parts, self._rows, strict=True)
            ]
            # Held by document and by term, with the places of each.
            self.nbytes += sum(10 * each.nnz + 8 * each.shape[1] for each in impacts)
            self._lexical = [Postings(each) for each in impacts]
        return self._lexical


class FewEngine(Engine):
    """Searches a copy of a few documents; the answers have their numbers in the snapshot."""

    def __init__(self, few: Few, legs: Mapping[str, Leg], pool: ThreadPoolExecutor) -> None:
        super().__init__(few.numbering, legs, pool)
        self._documents = few.documents

    def _batch(self, queries: Mapping[str, Any], count: int, request: Request) -> list[Answer]:
        answers = super()._batch(queries, count, request)
        for answer in answers:
            answer.documents = self._documents[answer.documents]
        return answers

    def candidates(self, queries: Mapping[str, Any], request: Request) -> Candidates:
        found = super().candidates(queries, request)
        found.documents = self._documents[found.documents]
        return found


class Selections:
    """The selections of a snapshot, made once; the most recently used ones are kept."""

    def __init__(
        self, numbering: Numbering, parts: Parts, passages: PassageMap | None = None
    ) -> None:
        self._numbering, self._parts, self._passages = numbering, parts, passages
        self._kept: OrderedDict[Any, Selection] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, filter: str | None, among: frozenset[str] | None) -> Selection:
        """The documents that match the filter and have one of the ids; None: all."""
        key = filter, among
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        made = self._made(filter, among)
        with self._lock:
            self._kept[key] = made
            while len(self._kept) > 1 and (len(self._kept) > _KEPT or self._size() > _BYTES):
                self._kept.popitem(last=False)
        return made

    def _size(self) -> int:
        return sum(selection.nbytes for selection in self._kept.values())

    def _made(self, filter: str | None, among: frozenset[str] | None) -> Selection:
        masks: list[np.ndarray] | None = None
        unknown, unread = 0, {}
        if among is not None:
            numbers, unknown = self._numbers(among)
            everything = np.zeros(int(self._numbering.offsets[-1]), bool)
            everything[numbers] = True
            masks = np.split(everything, self._numbering.offsets[1:-1])
        if filter is not None:
            kinds = kinds_in(self._parts)
            node = resolved(parse_filter(filter), kinds)
            own = _masks(node, self._parts)
            unread = self._unread(node, kinds)
            masks = own if masks is None else [a & b for a, b in zip(masks, own, strict=True)]
        assert masks is not None
        numbering = self._numbering.within(masks)
        return Selection(numbering, unknown, unread, self._count(numbering))

    def _numbers(self, among: frozenset[str]) -> tuple[np.ndarray, int]:
        """The numbers of documents, or of their passages, and how many ids are not known."""
        if self._passages is not None:
            rows = [self._passages.rows(name) for name in among]
            none = np.zeros(0, np.int64)
            return np.concatenate([none, *rows]), sum(not len(own) for own in rows)
        found = [self._numbering.number(name) for name in among]
        numbers = np.array([each for each in found if each is not None], np.int64)
        return numbers, len(found) - len(numbers)

    def _unread(self, node: Node, kinds: Mapping[str, set[str]]) -> dict[str, int]:
        """For each field of a filter, how many documents have values there that it passes over."""
        found: dict[str, int] = {}
        for test in leaves(node):
            if unread := unread_kinds(test, kinds[test.field]):
                others = partial(of_kinds, test.field, unread)
                masks = [part.matching(others) for part in self._parts]
                count = self._count(self._numbering.within(masks))
                if count:
                    found[test.field] = max(count, found.get(test.field, 0))
        return found

    def _count(self, numbering: Numbering) -> int:
        """How many documents are left."""
        if self._passages is None:
            return numbering.searchable
        return self._passages.count_of(numbering.numbers())


def kinds_in(parts: Parts) -> dict[str, set[str]]:
    """The fields of all documents, with the kinds of their values."""
    found: dict[str, set[str]] = {}
    for part in parts:
        for segment in part.kinds():
            for name, kinds in segment.items():
                found.setdefault(name, set()).update(kinds)
    return found


def masks_of(filter: str, parts: Parts) -> list[np.ndarray]:
    """For each part, the documents that match a filter, bool [rows], deleted ones among them.

    Raises InputError for text that is no filter, for a field that no document has, and for a test
    that no value of its field allows.
    """
    return _masks(resolved(parse_filter(filter), kinds_in(parts)), parts)


def _masks(node: Node, parts: Parts) -> list[np.ndarray]:
    """``masks_of`` a filter that is resolved."""
    test: Callable[[Any], np.ndarray] = partial(matching, node)
    return [part.matching(test) for part in parts]
