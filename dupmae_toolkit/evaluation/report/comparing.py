"""The plots of runs that are measured with the same judgements."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.evaluation import significance
from dupmae_toolkit.evaluation.bootstrap import interval
from dupmae_toolkit.evaluation.measures import Scores, evaluate
from dupmae_toolkit.evaluation.report import plots
from dupmae_toolkit.evaluation.report.svg import Drawing, stacked
from dupmae_toolkit.evaluation.significance import Comparison
from dupmae_toolkit.records import Run


@dataclass(frozen=True, slots=True)
class Measured:
    """The scores of runs by label, the baseline first, and their comparisons.

    curves: by label, mean precision over topics at the recalls of ``plots.RECALLS``. rows: of
    ``significance.compare``; none if there is only one run.
    """

    curves: Mapping[str, Sequence[float]]
    scores: Mapping[str, Scores]
    rows: Sequence[Comparison]

    @property
    def baseline(self) -> str:
        return next(iter(self.scores))

    @property
    def measures(self) -> list[str]:
        return list(next(iter(self.scores.values())).means)

    @property
    def main(self) -> str:
        """The measure of the plots and the topics: the first."""
        return self.measures[0]


def curve_of(run: Run, qrels: RealQrels) -> list[float]:
    """Interpolated precision of a run at the recalls of ``plots.RECALLS``: means over topics.

    Documents with a grade above 0 are relevant, also if the grade is a fraction.
    """
    relevant = {
        topic: {name: int(grade > 0) for name, grade in judged.items()}
        for topic, judged in qrels.items()
    }
    return list(evaluate(relevant, run, plots.CURVE).means.values())


def measured(curves: Mapping[str, Sequence[float]], scores: Mapping[str, Scores]) -> Measured:
    """Curves and scores of runs by the same labels, compared with the first."""
    baseline, *others = scores
    rows = significance.compare(scores[baseline], [(label, scores[label]) for label in others])
    return Measured(curves, scores, rows)


def mean_intervals(scores: Mapping[str, Scores], measure: str) -> list[plots.Spread]:
    """The mean of each run over topics, with its 95% bootstrap interval."""
    spreads = []
    for label, found in scores.items():
        values = interval(np.array(list(found.per_topic[measure].values())))
        spreads.append(plots.Spread(label, found.means[measure], values.low, values.high))
    return spreads


def drawings(compared: Measured, name: str = "plot") -> list[Drawing]:
    """The intervals, each run's differences by topic, and precision by recall.

    name: what the names of the drawings begin with; it must differ from those of other drawings on
    the page.
    """
    measure, baseline = compared.main, compared.baseline
    made = [
        plots.intervals(
            f"{name}-means",
            f"{measure} with 95% intervals",
            measure,
            mean_intervals(compared.scores, measure),
        )
    ]
    rows = [row for row in compared.rows if row.measure == measure]
    if rows:
        spreads = [
            plots.Spread(row.run, row.difference, *(row.interval or (None, None))) for row in rows
        ]
        title = f"Differences from {baseline} with 95% intervals"
        axis = f"difference of {measure}"
        made.append(plots.intervals(f"{name}-differences", title, axis, spreads, zero=True))
    made += [
        plots.differences(
            f"{name}-topics-{place}", f"{row.run} minus {baseline}", measure, row.differences
        )
        for place, row in enumerate(rows)
    ]
    made.append(plots.curves(f"{name}-curves", "Precision by recall", compared.curves))
    return made


def drawn(compared: Measured) -> str:
    """All drawings as one SVG file."""
    return stacked(drawings(compared), f"Runs compared with {compared.baseline}")
