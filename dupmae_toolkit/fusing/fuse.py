"""Several runs fused into one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import chain

import numpy as np

from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.runs import Ranking, Run, falling_order, given_runs


def fuse(
    runs: Sequence[Run] | Mapping[str, Run],
    fusion: Fusion | str = "rrf",
    k: int = 1000,
    tag: str | None = None,
) -> Run:
    """Several runs as one, at most ``k`` documents a topic; topics in the order they first appear.

    fusion: a ``Fusion``, or the name of its method. tag: None: the name of the method. Ranks are
    the positions in each run's lists. The fused scores are float32. Equal ones are ordered by
    document id, descending, as in trec_eval; scores that differ, but are too small for float32 to
    tell apart, are ordered by their values. Raises InputError for fewer than two runs, for wrong
    settings, and for scores that are infinite or too large.
    """
    if isinstance(fusion, str):
        fusion = Fusion(fusion)
    if k < 1:
        raise InputError(f"k is {k}; it must be at least 1")
    runs = given_runs(runs)
    if len(runs) < 2:
        raise InputError(f"{counted(len(runs), 'run')} given; fusing takes two or more")
    described = fusion.describe(len(runs), completed=False)
    lowest = fusion.lowest_for(len(runs))
    topics = dict.fromkeys(topic for run in runs for topic in run.topics)
    nothing = Ranking([], np.empty(0))
    fused = Run(tag=tag or fusion.method)
    for topic in topics:
        lists = [run.topics.get(topic, nothing) for run in runs]
        for run, ranking, low in zip(runs, lists, lowest, strict=True):
            check_scores(run, topic, ranking)
            if fusion.low is not None and len(ranking) and ranking.scores.min() < low:
                raise InputError(
                    f"run {run.tag}, topic {topic}: score {ranking.scores.min():g} is below {low:g}"
                    ", the lowest that it can be (--low, low=…)"
                )
        fused.topics[topic] = _fuse_rankings(lists, fusion, k)
    fused.metadata = {"fusion": described, "k": k, "fused": [run.tag for run in runs]}
    return fused


def check_scores(run: Run, topic: str, ranking: Ranking) -> None:
    """Raise InputError for a score that is infinite, or becomes infinite as float32."""
    if not (np.abs(ranking.scores) <= np.finfo(np.float32).max).all():
        raise InputError(
            f"run {run.tag}, topic {topic}: a score is not a number that float32 can hold"
        )


def _fuse_rankings(lists: Sequence[Ranking], fusion: Fusion, k: int) -> Ranking:
    ids = list(dict.fromkeys(chain.from_iterable(ranking.ids for ranking in lists)))
    column = dict(zip(ids, range(len(ids)), strict=True))
    scores = np.zeros((len(lists), len(ids)))
    ranks = np.zeros((len(lists), len(ids)), dtype=np.int64)
    for row, ranking in enumerate(lists):
        count = len(ranking.ids)
        if ids[:count] == ranking.ids:  # always true of the first list
            columns = np.arange(count)
        else:
            columns = np.fromiter(map(column.__getitem__, ranking.ids), np.int64, count)
        scores[row, columns] = ranking.scores
        ranks[row, columns] = np.arange(1, count + 1)
        if np.count_nonzero(ranks[row]) < count:
            raise InputError("a run ranks a document twice in one topic; remove one")
    exact = fusion.fuse(scores, ranks)
    with np.errstate(over="ignore", under="ignore"):
        final = exact.astype(np.float32)
    if not np.isfinite(final).all():
        raise InputError("the fused scores are too large for float32; use norm min-max")
    compared = final
    if (np.abs(exact[exact != 0]) < np.finfo(np.float32).tiny).any():
        # Too small for float32, as rbc's are far down a long list: rounded as float32, but without
        # its limits.
        mantissa, exponent = np.frexp(exact)
        compared = np.ldexp(np.rint(np.ldexp(mantissa, 24)), exponent - 24)
    order = falling_order(ids, compared, ids_ascend=False)[:k]
    return Ranking(list(map(ids.__getitem__, order.tolist())), final[order])
