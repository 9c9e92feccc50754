"""Ranks the first documents of a run again, by the scores of query and text together."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.fusing.fusion import TIES
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Query, Ranking, Run

#: Documents of each topic that are scored.
DEPTH = 100
#: Pairs that are scored together: enough for batches of pairs of like length.
_PAIRS = 2048
_BELOW = "the last score of those ranked again, less 1, less 2 …, in the order of the first run"


class PairScorer(Protocol):
    """Scores a text for a query, as a cross-encoder does."""

    def score_pairs(self, pairs: Sequence[tuple[str, str]]) -> np.ndarray:
        """The score of each pair of query and text, float64 [n]; larger is better."""
        ...

    def describe(self) -> dict[str, Any]:
        """What scores, for the metadata of a run."""
        ...


def rerank(
    run: Run,
    queries: Iterable[Query],
    documents: Iterable[Document],
    scorer: PairScorer,
    depth: int = DEPTH,
    *,
    tag: str | None = None,
    source: object = "the run",
    progress: Progress = silent,
) -> Run:
    """The run with the first ``depth`` documents of each topic in the order of the scorer's scores.

    Nogueira and Cho, Passage Re-ranking with BERT, 2019. A text is a document's title and text.
    Equal scores are ordered as in every run that is read or fused, see ``Ranking``. Those below the
    depth keep their order, below all that were ranked again. queries: those of all
    topics of the run; others are not used. documents: read once; only the texts that are scored are
    held. source: what the run is called in errors.

    Raises InputError for topics without a query and for documents that are not given, before
    anything is scored; DupMAEError for scores that are not finite.
    """
    if not isinstance(depth, int | np.integer) or isinstance(depth, bool) or depth < 1:
        raise InputError(f"depth is {depth!r}; it must be a whole number of at least 1")
    asked = {query.id: query.text for query in queries}
    _refuse(source, "no query for", "topic", [topic for topic in run.topics if topic not in asked])
    wanted = {name: "" for ranking in run.topics.values() for name in ranking.ids[:depth]}
    missing = set(wanted)
    with progress("reading texts", None) as advance:
        for document in documents:
            if document.id in missing:
                wanted[document.id] = document.contents
                missing.discard(document.id)
                advance(1)
    lacking = [name for name in wanted if name in missing]
    _refuse(source, "the corpus lacks", "document", lacking)
    made = Run(tag=tag or f"{run.tag}-reranked")
    total = sum(len(ranking.ids[:depth]) for ranking in run.topics.values())
    with progress("ranking again", total) as advance:
        for topics in _grouped(run, depth):
            pairs = [(asked[t], wanted[name]) for t in topics for name in run[t].ids[:depth]]
            scores = np.asarray(scorer.score_pairs(pairs), np.float64)
            with np.errstate(over="ignore"):
                finite = np.isfinite(scores.astype(np.float32)).all()
            if scores.shape != (len(pairs),) or not finite:
                raise DupMAEError("the scores are not one number for each pair, in float32's range")
            start = 0
            for topic in topics:
                count = len(run[topic].ids[:depth])
                made.topics[topic] = _merged(run[topic], scores[start : start + count])
                start += count
            advance(len(pairs))
    made.metadata = {
        "reranked": {
            "by": scorer.describe(),
            "depth": int(depth),
            "pairs": total,
            "ties": TIES,
            "below": _BELOW,
        },
        "first": {"tag": run.tag} | run.metadata,
    }
    return made


def _grouped(run: Run, depth: int) -> Iterator[list[str]]:
    """The topics, so many at a time that their pairs fill batches."""
    topics: list[str] = []
    pairs = 0
    for topic, ranking in run.topics.items():
        topics.append(topic)
        pairs += len(ranking.ids[:depth])
        if pairs >= _PAIRS:
            yield topics
            topics, pairs = [], 0
    if topics:
        yield topics


def _merged(ranking: Ranking, scores: np.ndarray) -> Ranking:
    """A ranking whose first documents have these scores, float64; see ``rerank``."""
    count = len(scores)
    # As float32, in which runs are compared and written: so ties are ties there too.
    rounded = scores.astype(np.float32).astype(np.float64)
    first = Ranking.as_trec_eval(ranking.ids[:count], rounded)
    rest = ranking.ids[count:]
    if not rest:
        return first
    below = first.scores[-1] - np.arange(1, len(rest) + 1)
    return Ranking([*first.ids, *rest], np.concatenate([first.scores, below]))


def _refuse(source: object, what: str, kind: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
        raise InputError.at(
            source,
            None,
            f"{what} {counted(len(names), kind)}: {names[0][:80]!r}{more}",
            f"give the {'queries' if kind == 'topic' else 'corpus'} that it was made of",
        )
