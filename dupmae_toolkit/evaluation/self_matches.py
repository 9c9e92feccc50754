"""Self-matches: documents that have the id of the topic for which they were found.

In ArguAna and Quora each topic is also a document; it answers itself best, but is judged not to be
an answer. In most other data sets equal ids mean nothing: topic 1 and document 1 are different
texts.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from dupmae_toolkit.records import Ranking, Run


class SelfMatches(NamedTuple):
    """Counts of topics.

    dropped: whether their self-matches were left out. found: topics that had one. leading: topics
    whose first hit it was. searched: topics with hits.
    """

    dropped: bool
    found: int
    leading: int
    searched: int

    def about(self) -> dict[str, Any]:
        """As it stands in metadata."""
        return {
            "self_matches": "removed" if self.dropped else "kept",
            "topics_with_self_match": self.found,
        }

    @property
    def suspicious(self) -> bool:
        """Whether self-matches were kept and lead most rankings, more than chance explains."""
        return not self.dropped and self.leading * 2 > self.searched


def self_matches(run: Run, *, dropped: bool = False) -> SelfMatches:
    """Count the self-matches of a run. dropped: whether the caller leaves them out afterwards."""
    rankings = [(topic, ranking.ids) for topic, ranking in run.topics.items() if ranking.ids]
    found = sum(topic in ids for topic, ids in rankings)
    leading = sum(topic == ids[0] for topic, ids in rankings)
    return SelfMatches(dropped, found, leading, len(rankings))


def without_self_matches(run: Run, k: int | None = None) -> Run:
    """The run without self-matches, and then with ``k`` hits per topic; None: all."""
    kept = Run(tag=run.tag, metadata=dict(run.metadata))
    for topic, ranking in run.topics.items():
        places = [place for place, name in enumerate(ranking.ids) if name != topic][:k]
        kept.topics[topic] = Ranking([ranking.ids[p] for p in places], ranking.scores[places])
    kept.metadata |= self_matches(run, dropped=True).about()
    if k is not None:
        kept.metadata["self_matches"] = "removed, then cut at k"
    return kept


def settled(run: Run, k: int, drop: bool) -> tuple[Run, SelfMatches]:
    """The run, with ``k`` hits per topic, without self-matches if ``drop``; and how many it had.

    If ``drop``, the run must have been made with ``k`` + 1 hits. Its metadata says what was done.
    """
    seen = self_matches(run, dropped=drop)
    if drop:
        run = without_self_matches(run, k)
    else:
        run.metadata |= seen.about()
    run.metadata["k"] = k
    return run, seen
