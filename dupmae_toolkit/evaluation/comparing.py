"""Comparing runs with a baseline, from the runs themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation import significance
from dupmae_toolkit.evaluation.measures import DEFAULT_MEASURES, evaluate
from dupmae_toolkit.evaluation.significance import Comparison
from dupmae_toolkit.runs import Run, given_runs


def compare(
    qrels: Qrels,
    baseline: Run,
    runs: Mapping[str, Run] | Sequence[Run],
    measures: Sequence[str] = DEFAULT_MEASURES,
) -> list[Comparison]:
    """Measure runs and test their differences from a baseline, topic by topic.

    runs: a mapping of names to runs, or a list; then the names are the tags. Returns a row for each
    run and measure, as `dupmae compare` prints: means, differences with their 95% bootstrap
    intervals, p-values of three tests before and after Holm's correction over the runs, and effect
    sizes. Raises InputError as ``evaluate`` does, and for two runs with the same name.
    """
    listed = given_runs(runs)
    given_runs([baseline])
    named = runs if isinstance(runs, Mapping) else {run.tag: run for run in listed}
    if len(named) < len(runs):
        raise InputError(
            "two runs have the same tag; give a mapping of names to runs, or another tag"
        )
    if not named:
        raise InputError("no runs to compare with the baseline")
    found = [(name, evaluate(qrels, run, measures)) for name, run in named.items()]
    return significance.compare(evaluate(qrels, baseline, measures), found)
