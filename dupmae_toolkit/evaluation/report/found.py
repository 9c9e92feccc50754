"""What a report keeps of a run: the whole rankings of several large runs do not fit in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.records import Run

#: The first hits of each topic that are kept, and shown.
HITS = 5


@dataclass(frozen=True, slots=True)
class Found:
    """One topic's ranking: the first ids; ranks and scores of these and of relevant documents."""

    first: list[str]
    ranks: dict[str, int]
    scores: dict[str, float]


@dataclass(frozen=True, slots=True)
class Kept:
    """The metadata of a run, and what it found for each judged topic that it has."""

    metadata: dict[str, Any]
    topics: Mapping[str, Found]

    def of(self, topic: str) -> Found:
        return self.topics.get(topic) or Found([], {}, {})


def kept(run: Run, qrels: RealQrels) -> Kept:
    """What a report keeps of a run."""
    topics = {}
    for topic, judged in qrels.items():
        if topic not in run.topics:
            continue
        ranking = run.topics[topic]
        first = ranking.ids[:HITS]
        wanted = {name for name, grade in judged.items() if grade > 0}.union(first)
        places = [place for place, name in enumerate(ranking.ids) if name in wanted]
        topics[topic] = Found(
            first,
            {ranking.ids[place]: place + 1 for place in places},
            {ranking.ids[place]: float(ranking.scores[place]) for place in places},
        )
    return Kept(run.metadata, topics)
