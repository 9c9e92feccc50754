"""Whether one run is better than another: tests, intervals and effect sizes over paired topics.

All take the differences of a measure, topic by topic, and none assumes more of them than it says.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.bootstrap import interval
from dupmae_toolkit.evaluation.measures import Scores

#: The tests in the order in which they are shown.
TESTS = ("t", "randomisation", "wilcoxon")
SEED, SAMPLES = 1, 10_000
#: The columns of a table of comparisons.
COLUMNS = (
    *("run", "measure", "mean", "difference", "low", "high"),
    *(*TESTS, "d", "gains", "losses"),
)
#: p-values below it are marked, see ``is_marked``.
LEVEL, MARK = 0.05, "†"
#: Up to so many topics that differ, every assignment of signs is tried: 2 ** 16 of them.
_EXACT = 16
#: How many signs are drawn at once.
_AT_ONCE = 2_000_000
#: Sums over counts of topics, which have no mean.
_COUNTS = ("NumQ", "NumRel", "NumRet")


@dataclass(frozen=True, slots=True)
class Comparison:
    """One run against the baseline in one measure.

    ``mean`` is the run's; ``difference`` is its mean minus the baseline's, and ``interval`` the 95%
    bootstrap interval of that (None with fewer than two topics). ``p`` and ``holm`` map a test to
    its two-sided p-value, as it is and after Holm's correction over the runs; None where a test
    is not defined. ``effect`` is Cohen's d of the differences, their mean over their standard
    deviation. ``differences`` maps each judged topic to its difference.
    """

    run: str
    measure: str
    mean: float
    difference: float
    interval: tuple[float, float] | None
    p: dict[str, float | None]
    holm: dict[str, float | None]
    effect: float | None
    differences: dict[str, float]

    @property
    def gains(self) -> int:
        """The number of topics in which the run is better."""
        return sum(value > 0 for value in self.differences.values())

    @property
    def losses(self) -> int:
        """The number of topics in which the run is worse."""
        return sum(value < 0 for value in self.differences.values())


def compare(baseline: Scores, runs: Sequence[tuple[str, Scores]]) -> list[Comparison]:
    """Compare runs with a baseline, measured with the same qrels and measures.

    Returns a row for each run and measure, runs in their order. A topic that a run lacks counts as
    0, as in ``evaluate``. Raises InputError for counts such as NumRet, which have no mean.
    """
    check_means(list(baseline.means))
    rows = [
        _compared(label, name, baseline.per_topic[name], scores.per_topic[name])
        for label, scores in runs
        for name in baseline.means
    ]
    correct(rows)
    return rows


def check_means(measures: Sequence[str]) -> None:
    """Raise InputError for a measure that is a count over topics, and so has no mean."""
    for name in measures:
        if name.split("@")[0].split("(")[0] in _COUNTS:
            raise InputError(f"measure {name!r} is a count over topics; leave it out of compare")


def correct(rows: Sequence[Comparison]) -> None:
    """Set ``holm`` of all rows by Holm's correction over those of the same measure."""
    for name in dict.fromkeys(row.measure for row in rows):
        family = [row for row in rows if row.measure == name]
        for test in TESTS:
            corrected = holm([row.p[test] for row in family])
            for row, value in zip(family, corrected, strict=True):
                row.holm[test] = value


def is_marked(row: Comparison) -> bool:
    """Whether tables mark a run: p < ``LEVEL`` by randomisation, after Holm's correction."""
    p = row.holm.get("randomisation")
    return p is not None and p < LEVEL


def entry_of(row: Comparison) -> dict[str, Any]:
    """A comparison as JSON has it."""
    return {
        "run": row.run,
        "measure": row.measure,
        "mean": row.mean,
        "difference": row.difference,
        "interval": row.interval and list(row.interval),
        "tests": {test: {"p": p, "holm": row.holm[test]} for test, p in row.p.items()},
        "effect_size": row.effect,
        "gains": row.gains,
        "losses": row.losses,
        "topics": len(row.differences),
    }


def row_of(row: Comparison) -> list[Any]:
    """A comparison as a row below ``COLUMNS``; None where there is no value."""
    low, high = row.interval or (None, None)
    numbers = [row.mean, row.difference, low, high, *row.holm.values(), row.effect]
    return [row.run, row.measure, *numbers, row.gains, row.losses]


def cell_text(name: str, cell: Any) -> str:
    """A cell of the column ``name`` for people: differences have a sign, None is empty."""
    if cell is None:
        return ""
    if not isinstance(cell, float):
        return str(cell)
    if name in TESTS and 0 < cell < 0.0001:
        return f"{cell:.0e}"
    return f"{cell:+.4f}" if name in ("difference", "low", "high") else f"{cell:.4f}"


def _compared(
    label: str, name: str, before: dict[str, float], after: dict[str, float]
) -> Comparison:
    by_topic = {topic: after[topic] - value for topic, value in before.items()}
    values = np.array(list(by_topic.values()))
    # Differences that are the same, or none, may differ by rounding; the tests tell ties apart.
    values = np.round(values, 12)
    spread = interval(values)
    bounds = None
    if spread.low is not None and spread.high is not None:
        bounds = (spread.low, spread.high)
    return Comparison(
        run=label,
        measure=name,
        mean=float(np.mean(list(after.values()))),
        difference=float(values.mean()),
        interval=bounds,
        p={
            "t": paired_t(values),
            "randomisation": randomisation(values),
            "wilcoxon": wilcoxon(values),
        },
        holm={},
        effect=effect_size(values),
        differences=dict(zip(by_topic, values.tolist(), strict=True)),
    )


def paired_t(differences: np.ndarray) -> float | None:
    """Student's paired t-test, two-sided, float64 [topics]. None where all differ by the same."""
    from scipy.stats import ttest_1samp

    if not differences.any():
        return 1.0
    if _has_no_spread(differences):
        return None
    return float(ttest_1samp(differences, 0.0).pvalue)


def randomisation(differences: np.ndarray, *, samples: int = SAMPLES, seed: int = SEED) -> float:
    """Fisher's randomisation test, two-sided (Smucker, Allan and Carterette, CIKM 2007).

    Under the null hypothesis the sign of each difference is chance. p is the share of assignments
    of signs with a mean as far from zero: of all, with few topics that differ; otherwise of
    ``samples`` random ones and the one observed, so that p is never 0.
    """
    values = np.abs(differences[differences != 0])
    if not len(values):
        return 1.0
    observed = abs(differences.sum())
    least = observed - 1e-12 * values.sum()  # equal sums may differ by rounding
    if len(values) <= _EXACT:
        codes = np.arange(2 ** len(values))[:, None]
        signs = (codes >> np.arange(len(values)) & 1) * 2.0 - 1
        return float(np.mean(np.abs(signs @ values) >= least))
    dice, as_far = np.random.default_rng(seed), 0
    step = max(1, _AT_ONCE // len(values))
    for start in range(0, samples, step):
        size = (min(step, samples - start), len(values))
        signs = dice.integers(0, 2, size, np.int8) * 2.0 - 1
        as_far += int(np.count_nonzero(np.abs(signs @ values) >= least))
    return (as_far + 1) / (samples + 1)


def wilcoxon(differences: np.ndarray) -> float:
    """Wilcoxon's signed-rank test, two-sided; topics without a difference are left out."""
    from scipy.stats import wilcoxon as signed_rank

    values = differences[differences != 0]
    if not len(values):
        return 1.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of small samples with ties
        return float(signed_rank(values).pvalue)


def effect_size(differences: np.ndarray) -> float | None:
    """Cohen's d of paired values (d_z): mean over standard deviation; None without a spread."""
    if not differences.any():
        return 0.0
    if _has_no_spread(differences):
        return None
    return float(differences.mean() / differences.std(ddof=1))


def _has_no_spread(differences: np.ndarray) -> bool:
    return len(differences) < 2 or math.isclose(
        float(differences.min()), float(differences.max()), rel_tol=1e-12
    )


def holm(values: Sequence[float | None]) -> list[float | None]:
    """Holm's step-down correction (Scandinavian Journal of Statistics 6, 1979).

    The smallest of n p-values is multiplied by n, the next by n - 1, and so on; none may become
    smaller than one before it, nor larger than 1. An undefined p-value counts as no test.
    """
    known = sorted((p, place) for place, p in enumerate(values) if p is not None)
    corrected: list[float | None] = [None] * len(values)
    largest = 0.0
    for done, (p, place) in enumerate(known):
        largest = max(largest, min(1.0, (len(known) - done) * p))
        corrected[place] = largest
    return corrected
