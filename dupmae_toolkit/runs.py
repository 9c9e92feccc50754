"""Runs: the ranked documents of many topics, and the order of equal scores."""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any

import numpy as np

from dupmae_toolkit import frames
from dupmae_toolkit.errors import InputError, type_of

_GIVEN = "the run given"


@dataclass(slots=True)
class Ranking:
    """The ranked list of one topic: ids and scores, best first.

    A search of an index orders equal scores by id, ascending. A run that is read or fused orders
    them by id, descending, as trec_eval does. Once a ranking is made, only the order of its list
    counts. offset: how many better documents come before it, on earlier pages.
    """

    ids: list[str]
    scores: np.ndarray  # float32 or float64 [n]
    offset: int = 0

    def __eq__(self, other: object) -> bool:
        """Whether ids, scores and offset are equal; the scores as numbers of any dtype."""
        if not isinstance(other, Ranking):
            return NotImplemented
        same = self.ids == other.ids and self.offset == other.offset
        return same and np.array_equal(self.scores, other.scores)

    def __len__(self) -> int:
        return len(self.ids)

    @classmethod
    def sorted(cls, ids: list[str], scores: np.ndarray) -> Ranking:
        """Order by score descending, then by id ascending (code points), as a search does."""
        scores = np.asarray(scores)
        order = falling_order(ids, scores)
        return cls([ids[i] for i in order.tolist()], scores[order])

    @classmethod
    def as_trec_eval(cls, ids: list[str], scores: np.ndarray) -> Ranking:
        """Order as trec_eval does: by score as float32, descending, then by id descending.

        scores: finite float64 [n]. They keep their precision. But if two scores that are equal as
        float32 would not fall in this order, all scores become float32.
        """
        scores = np.asarray(scores)
        with np.errstate(over="ignore"):
            compared = scores.astype(np.float32)
        order = falling_order(ids, compared, ids_ascend=False)
        falling = scores[order]
        if (falling[1:] > falling[:-1]).any():
            falling = compared[order]
        return cls([ids[i] for i in order.tolist()], falling)


@dataclass(slots=True)
class Run:
    """Rankings by topic id, in the order of the topics; a topic without hits has an empty ranking.

    ``metadata`` says how the run was made (mode, fusion, normalisation, the value of a missing
    score, how ties break, encoder, index); it is written beside the TREC file as JSON.
    """

    topics: dict[str, Ranking] = field(default_factory=dict)
    tag: str = "dupmae"
    metadata: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.topics)

    def __iter__(self) -> Iterator[str]:
        return iter(self.topics)

    def __getitem__(self, topic: str) -> Ranking:
        return self.topics[topic]

    @classmethod
    def from_dict(cls, scores: Mapping[Any, Mapping[Any, Any]], tag: str = "dupmae") -> Run:
        """The run with these scores: ``{topic: {document: score}}``, as in pytrec_eval and ranx.

        Documents are ordered as in ``Ranking.as_trec_eval``. Integer ids become strings.
        Raises InputError for other ids, and for scores that are not finite numbers.
        """
        run = cls(tag=tag)
        if not isinstance(scores, Mapping):
            raise InputError(f"{_GIVEN}: {type_of(scores)}; give {{topic: {{document: score}}}}")
        for topic, found in scores.items():
            if not isinstance(found, Mapping):
                raise InputError(
                    f"{_GIVEN}: topic {topic!r} has {type_of(found)}; give {{document: score}}"
                )
            run._add(topic, list(found), list(found.values()))
        return run

    def to_dict(self) -> dict[str, dict[str, float]]:
        """``{topic: {document: score}}``, best first, as pytrec_eval and ranx take it.

        Those tools sort again, and each orders equal scores in its own way.
        """
        return {
            topic: dict(zip(ranking.ids, ranking.scores.tolist(), strict=True))
            for topic, ranking in self.topics.items()
        }

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        topic: str | None = None,
        document: str | None = None,
        score: str | None = None,
        tag: str = "dupmae",
    ) -> Run:
        """The run in a table of pandas, polars or Arrow, with a row for each hit.

        topic, document, score: the names of the columns; None: the first with a usual name, such as
        ``query_id``, ``qid`` or ``q_id``; ``doc_id``, ``docno`` or ``docid``; ``score``. Other
        columns, such as ranks, are not read. Raises InputError as ``from_dict`` does, for a column
        that is missing, and for a document twice in a topic.
        """
        wanted = {
            "topic": (topic, frames.TOPICS),
            "document": (document, frames.DOCUMENTS),
            "score": (score, frames.SCORES),
        }
        rows: dict[Any, tuple[list[Any], list[Any]]] = {}
        for name, held, value in zip(*frames.table_columns(frame, _GIVEN, wanted), strict=True):
            try:
                ids, scores = rows.setdefault(name, ([], []))
            except TypeError:  # a list, which has no hash
                frames.id_of(name, _GIVEN, "topic")
                raise
            ids.append(held)
            scores.append(value)
        run = cls(tag=tag)
        for name, (ids, scores) in rows.items():
            run._add(name, ids, scores)
        return run

    def to_frame(self) -> Any:
        """A pandas data frame, by topic and rank: query_id, doc_id, score, rank (from 1).

        ir_measures takes it as it is. Topics without hits have no rows. Raises InputError if pandas
        is not installed.
        """
        rankings = self.topics.values()
        sizes = [len(ranking) for ranking in rankings]
        return frames.data_frame(
            {
                "query_id": list(
                    chain.from_iterable(
                        [topic] * size for topic, size in zip(self.topics, sizes, strict=True)
                    )
                ),
                "doc_id": list(chain.from_iterable(ranking.ids for ranking in rankings)),
                "score": np.concatenate([np.empty(0), *(ranking.scores for ranking in rankings)]),
                "rank": np.concatenate(
                    [
                        np.empty(0, np.int64),
                        *(ranking.offset + np.arange(1, len(ranking) + 1) for ranking in rankings),
                    ]
                ),
            }
        )

    def _add(self, topic: Any, ids: Sequence[Any], scores: Sequence[Any]) -> None:
        name = frames.id_of(topic, _GIVEN, "topic")
        place = f"{_GIVEN}: topic {name}"
        if name in self.topics:
            raise InputError(f"{place} is there twice, as a number and as a text")
        names = [frames.id_of(each, place, "document") for each in ids]
        if len(set(names)) < len(names):
            twice, _ = Counter(names).most_common(1)[0]
            raise InputError(f"{place} ranks {twice} a second time")
        values = frames.numbers_of(scores, place, "score")
        self.topics[name] = Ranking.as_trec_eval(names, values)


def given_runs(runs: Mapping[str, Run] | Sequence[Run]) -> list[Run]:
    """The runs of a list, or of a mapping of names; InputError for anything else."""
    if isinstance(runs, Run):
        raise InputError(
            "the runs given: a Run; give a list of runs, or a mapping of names to runs"
        )
    found: list[Any] = list(runs.values() if isinstance(runs, Mapping) else runs)
    for run in found:
        if not isinstance(run, Run):
            raise InputError(
                f"the runs given: {type_of(run)}; read_run reads a file, Run.from_dict a dict"
            )
    return found


def falling_order(ids: list[str], scores: np.ndarray, ids_ascend: bool = True) -> np.ndarray:
    """Positions by score descending, then by id ascending or descending (code points).

    scores: floats [n] without NaN. Only ids with equal scores are compared.
    """
    order = np.argsort(-scores, kind="stable")
    falling = scores[order]
    same = falling[1:] == falling[:-1]
    if not same.any():
        return order
    # Most ties are between two documents, as when ranks of two lists are fused: compare and swap
    # these, which is faster than sorting.
    in_pair = same.copy()
    in_pair[1:] &= ~same[:-1]
    in_pair[:-1] &= ~same[1:]
    firsts = np.flatnonzero(in_pair)
    pairs = order[firsts], order[firsts + 1]
    names = [map(ids.__getitem__, side.tolist()) for side in pairs]
    wrong = operator.gt if ids_ascend else operator.lt
    swapped = firsts[np.fromiter(map(wrong, *names), bool, len(firsts))]
    order[swapped], order[swapped + 1] = order[swapped + 1], order[swapped]
    more = np.flatnonzero(same & ~in_pair)
    if len(more):
        tied = np.zeros(len(ids), bool)
        tied[more] = tied[more + 1] = True
        # Redistribute larger groups of ties over the same positions: sort by id, then by score.
        listed = sorted(order[tied].tolist(), key=ids.__getitem__, reverse=not ids_ascend)
        by_id = np.array(listed)
        order[tied] = by_id[np.argsort(-scores[by_id], kind="stable")]
    return order
