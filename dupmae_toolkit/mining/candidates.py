"""Candidates for mining: from a search of an index, or from an existing run."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Document, Ranking, Run
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.hybrid_index import HybridIndex


@dataclass(slots=True)
class Candidates:
    """What a search lists for a topic: ranks from 1, and the scores of positives where known."""

    ranking: Ranking
    positives: dict[str, float] = field(default_factory=dict)


#: Gives the candidates of each topic.
Search = Callable[[Sequence[Topic]], Sequence[Candidates]]
#: Gives documents by id; unknown ids are left out.
Fetch = Callable[[Iterable[str]], Mapping[str, Document]]


class IndexCandidates:
    """Searches an index; positives get their scores from it, listed or not."""

    def __init__(self, index: HybridIndex, request: Request) -> None:
        self._index, self._request = index, request

    def __call__(self, topics: Sequence[Topic]) -> list[Candidates]:
        vectors = self._index.vectors([topic.query for topic in topics], self._request.parts)
        run = self._index.run(vectors, self._request)
        positives = [topic.positives for topic in topics]
        scores = self._index.scores(vectors, positives, self._request)
        return [
            Candidates(run[topic.query.id], known)
            for topic, known in zip(topics, scores, strict=True)
        ]


class RunCandidates:
    """The rankings of a run, cut at ``depth``; a positive that it does not list has no score."""

    def __init__(self, run: Run, depth: int | None = None) -> None:
        self._run, self._depth = run, depth

    def __call__(self, topics: Sequence[Topic]) -> list[Candidates]:
        return [self._candidates(topic) for topic in topics]

    def _candidates(self, topic: Topic) -> Candidates:
        scores = run_scores(self._run, topic.query.id)
        known = {name: scores[name] for name in topic.positives if name in scores}
        ranking = self._run.topics.get(topic.query.id, Ranking([], np.empty(0)))
        cut = Ranking(ranking.ids[: self._depth], ranking.scores[: self._depth])
        return Candidates(cut, known)


def run_scores(run: Run, topic: str) -> dict[str, float]:
    """The scores that a run gives to the documents that it lists for a topic."""
    ranking = run.topics.get(topic)
    if ranking is None:
        return {}
    return dict(zip(ranking.ids, map(float, ranking.scores), strict=True))
