"""Tuned weights, measured on topics held out: `dupmae tune` and ``dupmae_toolkit.tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.bootstrap import Interval, interval
from dupmae_toolkit.evaluation.missed import why_none_is_judged
from dupmae_toolkit.fusing.fuse import check_scores
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.runs import Run, given_runs

#: The norms that are tried.
NORMS = ("none", "min-max", "z-score")
#: The values of rrf's k that are tried.
RRF_KS = (1.0, 2.0, 5.0, 10.0, 20.0, 40.0, 60.0, 100.0, 200.0, 500.0)


@dataclass(frozen=True, slots=True)
class Tuned:
    """The weights of a sum of runs that are best for the topics given.

    ``fuse`` takes ``fusion``, whose ``weights`` and ``norm`` are shown beside it. ``held_out``: the
    mean of the measure, and its 95% bootstrap interval, where each topic is ranked with what was
    tuned on the topics of the other ``folds``. ``training_figure``: the mean on the topics tuned
    on, which tends to be too high. ``plateau``, with two runs: the range in which the second one's
    share of the weights is as good; the middle was taken, in as few digits as give the same mean.
    ``starts``: from how many places three or more weights were moved. ``topics``: their candidates.
    """

    fusion: Fusion
    measure: str
    held_out: Interval
    training_figure: float
    plateau: tuple[float, float] | None
    folds: int
    starts: int
    topics: dict[str, tuning.Topic] = field(repr=False)

    @property
    def weights(self) -> tuple[float, ...]:
        return self.fusion.weights or ()

    @property
    def norm(self) -> str:
        return self.fusion.normalisation


def settings(
    method: str = "linear", norm: str | None = None, rrf_ks: Sequence[float] = RRF_KS
) -> list[Fusion]:
    """The fusions that are tried: norms of ``linear``, or values of ``rrf``'s k.

    norm: None: all of ``NORMS``. Raises InputError for another method or norm, and for a bad k.
    """
    if method == "rrf":
        if norm is not None:
            raise InputError("fusion rrf normalises nothing; leave out the norm")
        if not rrf_ks:
            raise InputError("no k of rrf to choose from")
        return [Fusion("rrf", rrf_k=each) for each in dict.fromkeys(rrf_ks)]
    if method != "linear":
        raise InputError(f"fusion {method!r} cannot be tuned; choose linear or rrf")
    if norm is not None and norm not in NORMS:
        raise InputError(f"norm {norm!r} cannot be tuned; choose one of {', '.join(NORMS)}")
    return [Fusion("linear", norm=each) for each in (NORMS if norm is None else (norm,))]


def tune(
    qrels: Qrels,
    runs: Mapping[str, Run] | Sequence[Run],
    measure: str = "nDCG@10",
    norm: str | None = None,
    folds: int = 5,
    seed: int = 1,
    fusion: str = "linear",
    rrf_ks: Sequence[float] = RRF_KS,
    progress: Progress = silent,
) -> Tuned:
    """The weights with which the sum of two or more runs has the highest mean of a measure.

    measure: see ``rank_measures``. fusion: ``linear`` or ``rrf``. norm: for linear, one of
    ``NORMS``; None: the best. rrf_ks: of these, the best is taken; each with its exact weights.
    seed: deals the topics to the folds. progress: is told of each fold, and of all topics at the
    end. See ``tuning.tune`` for what is proven. Raises InputError
    for fewer than two runs, for another measure, fusion or norm, for more folds than topics, for
    runs without a judged topic, and for scores that are infinite.
    """
    listed = given_runs(runs)
    if len(listed) < 2:
        raise InputError("one run given; tuning takes two or more")
    tried = settings(fusion, norm, rrf_ks)
    if not any(topic in qrels for run in listed for topic in run.topics):
        why = why_none_is_judged(qrels, listed)
        raise InputError(f"none of the runs' topics is judged; {why}")
    for run in listed:
        for topic, ranking in run.topics.items():
            check_scores(run, topic, ranking)
    by_setting = {each: tuning.topics_of(qrels, listed, measure, each) for each in tried}
    with progress("tuning", folds + 1) as advance:
        values = tuning.cross_validate(by_setting, folds, seed, advance=advance)
        chosen, weights, optimum = tuning.tune_setting(by_setting)
        advance(1)
    held_out = interval(list(values.values()))
    topics = by_setting[chosen]
    starts = len(tuning.starts(list(topics.values()))) if len(listed) > 2 else 1
    short = tuning.rounded(list(topics.values()), weights)
    return Tuned(
        replace(chosen, weights=short),
        measure,
        held_out,
        optimum.value,
        (optimum.low, optimum.high) if len(listed) == 2 else None,
        folds,
        starts,
        topics,
    )
