"""Candidates for mining: from an index that is searched, or from a run that somebody made."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dupmae_toolkit.mining.negatives import Candidates
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Ranking, Run
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.hybrid_index import HybridIndex


class IndexCandidates:
    """The search of an index; positives get the scores that it gives them, listed or not."""

    def __init__(self, index: HybridIndex, request: Request) -> None:
        self._index, self._request = index, request

    def __call__(self, topics: Sequence[Topic]) -> list[Candidates]:
        vectors = self._index.vectors([topic.query for topic in topics])
        run = self._index.run(vectors, self._request)
        positives = [topic.positives for topic in topics]
        scores = self._index.scores(vectors, positives, self._request)
        return [
            Candidates(run[topic.query.id], own) for topic, own in zip(topics, scores, strict=True)
        ]


class RunCandidates:
    """The lists of a run, cut at ``depth``; a positive that it does not list has no score."""

    def __init__(self, run: Run, depth: int | None = None) -> None:
        self._run, self._depth = run, depth

    def __call__(self, topics: Sequence[Topic]) -> list[Candidates]:
        return [self._candidates(topic) for topic in topics]

    def _candidates(self, topic: Topic) -> Candidates:
        ranking = self._run.topics.get(topic.query.id)
        if ranking is None:
            return Candidates(Ranking([], np.empty(0)))
        scores = dict(zip(ranking.ids, map(float, ranking.scores), strict=True))
        known = {name: scores[name] for name in topic.positives if name in scores}
        cut = Ranking(ranking.ids[: self._depth], ranking.scores[: self._depth])
        return Candidates(cut, known)


def run_scores(run: Run, topic: str) -> dict[str, float]:
    """What a run gives to the documents that it lists for a topic."""
    ranking = run.topics.get(topic)
    if ranking is None:
        return {}
    return dict(zip(ranking.ids, map(float, ranking.scores), strict=True))
