"""Queries with their positives and negatives, and drawing a few of these for a batch."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from dupmae_toolkit.errors import InputError


class Pair(NamedTuple):
    """A query and a text that answers it.

    scales: of the teachers, as its source sets them; see ``DataSource``.
    """

    query: str
    document: str
    scales: tuple[float, ...] = ()


class ScoredText(NamedTuple):
    """A text, title included, and a teacher's score for it and the query, if known."""

    text: str
    score: float | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """A query, the positives to draw from, and negatives, the hardest first.

    place: file and line, for error messages. others: more answers to the query, which are not drawn
    from this group.
    """

    query: str
    positives: Sequence[ScoredText]
    negatives: Sequence[ScoredText] = ()
    place: str = ""
    others: Sequence[ScoredText] = ()


class Drawn(NamedTuple):
    """What was drawn from a group for a batch.

    documents: the positive, then the negatives. scores: a teacher's for each document, NaN where
    it has none. answers: all texts known to answer the query. place: see Group.
    """

    query: str
    documents: list[str]
    scores: list[float]
    answers: frozenset[str]
    place: str = ""


class Draw(NamedTuple):
    """A group that is not read yet, and the seed for drawing from it.

    So a resumed stream can skip its first batches without reading their groups, and still draws the
    same as an uninterrupted one. scales: as of a pair.
    """

    read: Callable[[], Group]
    seed: int
    scales: tuple[float, ...] = ()

    def drawn(self, negatives: int, depth: int = 0) -> Drawn:
        """Draw one positive, and ``negatives`` of the first ``depth`` negatives (0: of all).

        Negatives are drawn without replacement, fewer if the group has fewer. One with the text of
        a known answer is skipped, and equal ones count once. Raises InputError for a group without
        a positive.
        """
        group, rng = self.read(), random.Random(self.seed)
        if not group.positives:
            raise InputError(f"{group.place}: no positive for the query; remove it")
        answers = frozenset(answer.text for answer in (*group.positives, *group.others))
        positive = rng.choice(group.positives)
        pool: dict[str, ScoredText] = {}
        for negative in group.negatives[: depth or None]:
            if negative.text not in answers:
                pool.setdefault(negative.text, negative)
        chosen = rng.sample(list(pool.values()), min(negatives, len(pool)))
        documents = [positive, *chosen]
        return Drawn(
            group.query,
            [document.text for document in documents],
            [math.nan if document.score is None else document.score for document in documents],
            answers,
            group.place,
        )


def document_of(item: Pair | Draw) -> str:
    """The document of a pair, or the positive that is drawn from a group."""
    return item.document if isinstance(item, Pair) else item.drawn(0).documents[0]
