"""Many topics of the tuner side by side: one pass over arrays ranks all of them.

Thousands of topics with a few candidates each are usual, and a loop over them would spend its time
between numpy's calls.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from dupmae_toolkit.evaluation.rank_measures import COUNTED, EACH, FIRST
from dupmae_toolkit.evaluation.tuning_topics import Topic, weigh

#: About as many pairs of a relevant document and a candidate are followed together.
_PAIRS = 1 << 19
#: Weights are scaled down by two to this power, so that three bits of their keys are free.
SCALE = 512
_BEYOND, _RELEVANT, _AFTER = np.uint64(4), np.uint64(2), np.uint64(1)


class TopicSet:
    """Topics of one measure; N candidates and R relevant documents in all.

    scores: float64 [parts, N], topic after topic.
    """

    def __init__(self, topics: Sequence[Topic]) -> None:
        """Raises ValueError for topics of different measures or numbers of parts."""
        if len({(topic.kind, topic.single, len(topic.scores)) for topic in topics}) > 1:
            raise ValueError("topics of different measures or parts")
        self._count = len(topics)
        self._kind = topics[0].kind if topics else EACH
        self._single = bool(topics) and topics[0].single
        empty = np.empty((0, 0))
        self.scores = np.concatenate([t.scores for t in topics], axis=1) if topics else empty
        self._sizes = np.array([t.scores.shape[1] for t in topics], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(self._sizes)])
        relevant = np.array([len(t.relevant) for t in topics], np.int64)
        #: Of each candidate and of each relevant document, its topic.
        self._topic = np.repeat(np.arange(self._count), self._sizes)
        self._of = np.repeat(np.arange(self._count), relevant)
        self._gains = _joined([t.gains for t in topics], np.float64)
        self._relevant = _joined([t.relevant for t in topics], np.int64) + self._starts[self._of]
        self._is_relevant = np.zeros(self.scores.shape[1], dtype=bool)
        self._is_relevant[self._relevant] = True
        #: The shares by rank of each topic, one after another, each with a 0 for lower ranks.
        self._by_rank = _joined([np.append(t.by_rank, 0.0) for t in topics], np.float64)
        self._cutoffs = np.array([len(t.by_rank) for t in topics], np.int64)
        self._firsts = np.concatenate([[0], np.cumsum(self._cutoffs + 1)])

    @classmethod
    def of(cls, topics: Sequence[Topic] | TopicSet) -> TopicSet:
        return topics if isinstance(topics, TopicSet) else cls(topics)

    def __len__(self) -> int:
        """How many topics there are, those without relevant documents too."""
        return self._count

    def values(self, weights: Sequence[float] | np.ndarray) -> np.ndarray:
        """The measure of each topic under Σ weight × score, float64 [topics]."""
        return self.values_by(weigh(self.scores, weights))

    def values_by(self, sums: np.ndarray) -> np.ndarray:
        """The measure of each topic if sums rank its candidates. sums: float64 [N]."""
        if self._single:
            sums = sums.astype(np.float32)
        ranks = _places(self._topic, -sums) - self._starts[self._topic]
        above = ranks[self._relevant]
        first_rows = np.searchsorted(self._of, self._of)
        before = _places(self._of, above) - first_rows
        worth = self._gains * self._shares(slice(None), above, before)
        return np.bincount(self._of, worth, minlength=self._count)

    def events(self, one: np.ndarray, other: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """What happens from w = 0 to 1 if (1 − w) · one + w · other ranks; both float64 [N].

        The sum of values at w = 0; then where a value changes, uint64 [events], and by how much,
        float64 [events]. A key is the bits of the scaled w, which order as w does, then one bit: 0
        if the change holds at w itself, where two scores are equal and ids decide; 1 if it holds
        only beyond. Keys are in no order.
        """
        start, keys, steps = 0.0, [], []
        for rows in self._blocks():
            value, found, changes = self._follow(rows, one, other)
            start += value
            keys.append(found)
            steps.append(changes)
        return start, _joined(keys, np.uint64), _joined(steps, np.float64)

    def _shares(
        self, rows: slice | np.ndarray, above: np.ndarray, relevant_above: np.ndarray
    ) -> np.ndarray:
        """What relevant documents add, as a share of their gains; see ``Topic.shares``."""
        topics = self._of[rows]
        places = self._firsts[topics] + np.minimum(above, self._cutoffs[topics])
        found: np.ndarray = self._by_rank[places]
        if self._kind == FIRST:
            return np.where(relevant_above == 0, found, 0.0)
        return found * (relevant_above + 1) if self._kind == COUNTED else found

    def _blocks(self) -> Iterator[slice]:
        """Relevant documents, so many that they have about ``_PAIRS`` pairs with candidates."""
        block = np.cumsum(self._sizes[self._of]) // _PAIRS
        edges = np.flatnonzero(np.diff(block, prepend=-1, append=-1))
        for low, high in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
            yield slice(low, high)

    def _follow(
        self, rows: slice, one: np.ndarray, other: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """``events`` of some of the relevant documents."""
        topics, relevant = self._of[rows], self._relevant[rows]
        sizes = self._sizes[topics]
        begins = np.concatenate([[0], np.cumsum(sizes)])
        row = np.repeat(np.arange(len(relevant)), sizes)
        candidate = np.arange(begins[-1]) + (self._starts[topics] - begins[:-1])[row]
        p = one[candidate] - one[relevant][row]  # by how much others lead at w = 0, [pairs]
        q = other[candidate] - other[relevant][row]
        first = candidate < relevant[row]  # by id
        before = np.where(p == 0, first, p > 0)
        after = np.where(q == 0, first, q > 0)
        above = np.add.reduceat(before, begins[:-1], dtype=np.int64)
        # Of a measure that asks for no relevant documents above, none is counted.
        counted = self._is_relevant[candidate] & (self._kind != EACH)
        relevant_above = np.add.reduceat(before & counted, begins[:-1], dtype=np.int64)
        # Where both are equal at w = 0, what follows is decided by the other; at w = 1, what
        # precedes by the one.
        moves = np.flatnonzero(before != after)
        p, q, row, first, after = p[moves], q[moves], row[moves], first[moves], after[moves]
        where = np.abs(p / (p - q))
        keys = np.ldexp(where, -SCALE).view(np.uint64) << np.uint64(3)
        keys |= (after != first).astype(np.uint64) * _BEYOND | after.astype(np.uint64)
        keys |= counted[moves].astype(np.uint64) * _RELEVANT
        order = np.lexsort((keys, row))
        keys, row = keys[order], row[order]
        changes = (keys & _AFTER).astype(np.int64) * 2 - 1
        all_of_block = np.arange(len(relevant)) + rows.start
        begin = self._shares(all_of_block, above, relevant_above)
        above = _running(above, row, changes)
        relevant_above = _running(relevant_above, row, np.where(keys & _RELEVANT != 0, changes, 0))
        worth = self._shares(row + rows.start, above, relevant_above)
        earlier = np.append(0.0, worth[:-1])
        heads = np.flatnonzero(np.diff(row, prepend=-1))
        earlier[heads] = begin[row[heads]]
        gains = self._gains[rows]
        steps = (worth - earlier) * gains[row]
        real = steps != 0
        return float(gains @ begin), keys[real] >> np.uint64(2), steps[real]


def _running(start: np.ndarray, row: np.ndarray, changes: np.ndarray) -> np.ndarray:
    """After each change, the value of its row; rows are in order. All int64; start: [rows]."""
    sums = np.cumsum(changes)
    heads = np.flatnonzero(np.diff(row, prepend=-1))
    so_far = np.append(0, sums)[heads]  # before each row's first change
    lengths = np.diff(np.append(heads, len(row)))
    return sums + np.repeat(start[row[heads]] - so_far, lengths)


def _places(group: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The place of each value if groups are sorted, and values within; equal ones as they stand."""
    order = np.lexsort((values, group))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order))
    return places


def _joined(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *arrays]).astype(dtype, copy=False)
