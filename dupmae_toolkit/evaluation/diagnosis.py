"""What each part of a hybrid score finds that the others miss, on the topics of one collection.

For development topics: what is learnt here decides what to train, and topics that were looked at
can no longer test it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import topic_traits as traits
from dupmae_toolkit.evaluation.bootstrap import LEVEL, SAMPLES, SEED, Interval, interval
from dupmae_toolkit.evaluation.part_rankings import (
    DEPTH,
    MEASURE,
    RATIOS,
    SUM,
    Rankings,
    check_weights,
    judged_queries,
    rank_by_parts,
    without,
)
from dupmae_toolkit.evaluation.topic_groups import Answers, first_answer, groups_of, texts_of
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations, Run
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.queries import Queries

#: An answer is found if it is among so many documents.
FOUND = 10


@dataclass(frozen=True, slots=True)
class Removal:
    """What leaving a part out of the sum costs.

    without: the mean without it, the other weights as they are. cost: the sum's mean minus that.
    won, lost: topics on which the sum is better with the part than without it, and worse. refitted:
    the cost if the ratio of the others' weights is multiplied by ``ratio``, the best of ``RATIOS``
    on these same topics; None if it was not asked for.
    """

    without: float
    cost: Interval
    won: int
    lost: int
    tied: int
    refitted: Interval | None = None
    ratio: float | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """Answers that these parts alone have among their first ``FOUND``, and no other part has.

    kept: how many of them are among the first ``FOUND`` of the sum.
    """

    parts: tuple[str, ...]
    answers: int
    kept: int


@dataclass(frozen=True, slots=True)
class GroupReport:
    """The topics of one group: how many, the mean of each ranking, and what each part's removal
    costs."""

    by: str
    name: str
    topics: int
    means: dict[str, float]
    costs: dict[str, Interval]


@dataclass(frozen=True, slots=True)
class Example:
    """A topic with a part and without it.

    ranks: of the topic's answer, in the sum, without the part, and in each part alone; None:
    beyond ``DEPTH``. has: the terms of the query, see ``topic_traits.TERMS``.
    """

    topic: str
    query: str
    answer: str
    title: str
    value: float
    without: float
    ranks: dict[str, int | None]
    has: list[str]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """The parts of one index on one set of topics.

    means: of the sum and of each part alone. examples: for each part, topics ``won`` and ``lost``,
    those with the largest differences first. left_out: how many queries, topics and answers could
    not be used, by the reason. truncated: queries that were cut at ``query_max_length`` tokens;
    room: how many the encoder can read. None: not known.
    """

    index: str
    documents: int
    topics: int
    weights: dict[str, float]
    idf_power: float
    means: dict[str, Interval]
    removals: dict[str, Removal]
    found: list[Found]
    groups: list[GroupReport]
    examples: dict[str, dict[str, list[Example]]]
    left_out: dict[str, int] = field(default_factory=dict)
    truncated: int = 0
    query_max_length: int | None = None
    room: int | None = None

    def to_dict(self) -> dict[str, Any]:
        bootstrap = {"level": LEVEL, "samples": SAMPLES, "seed": SEED}
        return {"measure": MEASURE, "interval": bootstrap, **asdict(self)}


def diagnose(
    index: HybridIndex,
    queries: Queries,
    qrels: Qrels,
    *,
    weights: tuple[float, ...] | None = None,
    idf_power: float | None = None,
    refit: bool = False,
    examples: int = 3,
    drop_self: bool = False,
    sample: int | None = None,
    seed: int = 1,
    progress: Progress = silent,
) -> Diagnosis:
    """Compare the sum of all parts with the sums that lack one, and with each part alone.

    queries: topics, or encoded queries with their texts; those without judgements are left out.
    weights, idf_power: by default those of the index. refit: also refit the other parts' weights
    when one is left out, which takes ``len(RATIOS)`` more searches for each part. examples: how
    many topics to show that each part wins, and that it loses. drop_self: leave out of each ranking
    the document that has the topic's own id. sample, seed: draw so many of the judged topics.
    Raises InputError if no query is judged, and for weights that leave nothing without one part.
    """
    request = index.request(DEPTH + 1, SUM, Fusion("sum", weights), exact=True, idf_power=idf_power)
    parts, power = request.parts, request.idf_power
    chosen = request.fusion.weights_for(len(parts))
    check_weights(parts, chosen)
    judged, left_out = judged_queries(queries, qrels, sample, seed)
    vectors = index.vectors(judged)
    if vectors.texts is None:
        raise InputError("the queries have vectors but no texts; give Representations.texts")
    wanted = Qrels({topic: qrels[topic] for topic in vectors.ids})
    ranked = rank_by_parts(
        index, vectors, wanted, request, refit=refit, drop_self=drop_self, progress=progress
    )
    answering = {
        topic: [name for name, grade in grades.items() if grade > 0]
        for topic, grades in wanted.items()
    }
    known = index.get({name for names in answering.values() for name in names})
    left_out["answers that the index lacks"] = sum(
        name not in known for names in answering.values() for name in names
    )
    left_out["topics without an answer"] = sum(not names for names in answering.values())
    answers = {topic: first_answer(grades, known) for topic, grades in wanted.items()}
    groups = groups_of(index, vectors, answers, power)
    return Diagnosis(
        index=str(index.path),
        documents=len(index),
        topics=len(wanted),
        weights=dict(zip(parts, chosen, strict=True)),
        idf_power=power,
        means={name: interval(ranked.values[name]) for name in (SUM, *parts)},
        removals={part: _removal(part, ranked.values) for part in parts},
        found=_found(parts, ranked.runs, answering),
        groups=_reports(groups, ranked.values, parts),
        examples={
            part: _examples(part, parts, vectors, ranked, answers, groups, examples)
            for part in parts
        },
        left_out={reason: count for reason, count in left_out.items() if count},
        truncated=vectors.truncated,
        query_max_length=vectors.max_length,
        room=vectors.room,
    )


def _removal(part: str, values: dict[str, np.ndarray]) -> Removal:
    total, lacking = values[SUM], values[without(part)]
    refitted, ratio = None, None
    tried = {each: values[name] for each in RATIOS if (name := without(part, each)) in values}
    if tried:
        # Of equal means, the ratio that changes the weights least.
        ratio = max(tried, key=lambda each: (tried[each].mean(), -abs(np.log(each))))
        refitted = interval(total - tried[ratio])
    return Removal(
        without=float(lacking.mean()),
        cost=interval(total - lacking),
        won=int((total > lacking).sum()),
        lost=int((total < lacking).sum()),
        tied=int((total == lacking).sum()),
        refitted=refitted,
        ratio=ratio,
    )


def _found(
    parts: tuple[str, ...], runs: dict[str, Run], answering: dict[str, list[str]]
) -> list[Found]:
    """For each set of parts, the largest first: the answers that exactly these find."""
    sizes = range(len(parts), -1, -1)
    counts = {some: [0, 0] for size in sizes for some in combinations(parts, size)}
    for topic, names in answering.items():
        tops = {each: set(runs[each][topic].ids[:FOUND]) for each in (SUM, *parts)}
        for name in names:
            count = counts[tuple(part for part in parts if name in tops[part])]
            count[0] += 1
            count[1] += name in tops[SUM]
    return [Found(some, answers, kept) for some, (answers, kept) in counts.items()]


def _reports(
    groups: Sequence[list[traits.Group]], values: dict[str, np.ndarray], parts: tuple[str, ...]
) -> list[GroupReport]:
    reports = []
    for group in traits.ORDER:
        rows = [row for row, mine in enumerate(groups) if group in mine]
        if not rows:
            continue
        means = {name: float(values[name][rows].mean()) for name in (SUM, *parts)}
        costs = {part: interval(values[SUM][rows] - values[without(part)][rows]) for part in parts}
        reports.append(GroupReport(group.by, group.name, len(rows), means, costs))
    return reports


def _examples(
    part: str,
    parts: tuple[str, ...],
    vectors: Representations,
    ranked: Rankings,
    answers: Answers,
    groups: Sequence[list[traits.Group]],
    most: int,
) -> dict[str, list[Example]]:
    """The topics that a part wins by most, and those that it loses by most."""
    texts, names = texts_of(vectors), (SUM, without(part), *parts)
    total, lacking = ranked.values[SUM], ranked.values[without(part)]

    def example(row: int) -> Example:
        topic = vectors.ids[row]
        answer = answers[topic]
        ranks = {name: _rank(ranked.runs[name].topics[topic].ids, answer) for name in names}
        return Example(
            topic=topic,
            query=texts[row],
            answer=answer.id if answer else "",
            title=answer.title if answer else "",
            value=float(total[row]),
            without=float(lacking[row]),
            ranks=ranks,
            has=[group.name for group in groups[row] if group.by == traits.TERMS],
        )

    order = np.argsort(lacking - total, kind="stable")  # the largest gains first
    won = [row for row in order.tolist() if total[row] > lacking[row]]
    lost = [row for row in order[::-1].tolist() if total[row] < lacking[row]]
    return {"won": list(map(example, won[:most])), "lost": list(map(example, lost[:most]))}


def _rank(ids: Sequence[str], answer: Any) -> int | None:
    found = [place for place, name in enumerate(ids[:DEPTH], 1) if answer and name == answer.id]
    return found[0] if found else None
