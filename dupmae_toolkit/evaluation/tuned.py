"""Tuned weights, measured on topics held out: `dupmae tune` and ``dupmae_toolkit.tune``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.bootstrap import Interval, interval
from dupmae_toolkit.fusing.fuse import check_scores
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.runs import Run, given_runs

#: The norms that are tried.
NORMS = ("none", "min-max", "z-score")


@dataclass(frozen=True, slots=True)
class Tuned:
    """The weights of a sum of runs that are best for the topics given.

    ``weights`` and ``norm`` are those of ``fusion``, which ``fuse`` takes. ``held_out``: the mean
    of the measure, and its 95% bootstrap interval, if each topic is ranked with what was tuned
    on the topics of the other ``folds``. ``training_figure``: the mean on the topics tuned on,
    which tends to be too high. ``plateau``, with two runs: the range in which the second one's
    share of the weights is as good; the middle was taken.
    """

    weights: tuple[float, ...]
    norm: str
    measure: str
    held_out: Interval
    training_figure: float
    plateau: tuple[float, float] | None
    folds: int

    @property
    def fusion(self) -> Fusion:
        return Fusion("linear", self.weights, self.norm)


def tune(
    qrels: Qrels,
    runs: Mapping[str, Run] | Sequence[Run],
    measure: str = "nDCG@10",
    norm: str | None = None,
    folds: int = 5,
    seed: int = 1,
) -> Tuned:
    """The weights with which the sum of two or more runs has the highest mean of a measure.

    measure: nDCG@k, R@k or P@k. norm: one of ``NORMS``; None: the best. seed: deals the topics to
    the folds. See ``tuning.tune`` for what is proven. Raises InputError for fewer than two runs,
    for another measure or norm, for more folds than topics, for runs without a judged topic, and
    for scores that are infinite.
    """
    listed = given_runs(runs)
    if len(listed) < 2:
        raise InputError("one run given; tuning takes two or more")
    if norm is not None and norm not in NORMS:
        raise InputError(f"norm {norm!r} cannot be tuned; choose one of {', '.join(NORMS)}")
    if not any(topic in qrels for run in listed for topic in run.topics):
        raise InputError("none of the runs' topics is judged; they belong to different sets")
    for run in listed:
        for topic, ranking in run.topics.items():
            check_scores(run, topic, ranking)
    norms = NORMS if norm is None else (norm,)
    by_norm = {each: tuning.topics_of(qrels, listed, measure, each) for each in norms}
    held_out = interval(list(tuning.cross_validate(by_norm, folds, seed).values()))
    chosen, weights, optimum = tuning.tune_norm(by_norm)
    return Tuned(
        tuple(weights),
        chosen,
        measure,
        held_out,
        optimum.value,
        (optimum.low, optimum.high) if len(listed) == 2 else None,
        folds,
    )
