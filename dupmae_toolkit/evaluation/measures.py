"""Measures through ir_measures, with the values that trec_eval gives."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dupmae_toolkit.collection.qrels import MAX_GRADE, Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Run

#: What is reported where nobody asks for something else: the usual four of BEIR.
DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "AP@1000")
_MAX_CUTOFF = 1_000_000
_SMALL = 100
_EXAMPLES = "write them as ir_measures does: nDCG@10, R@100, RR@10, AP@1000, P(rel=2)@5"


@dataclass(frozen=True, slots=True)
class Scores:
    """What a run achieves.

    ``means`` maps a measure to its mean over all ``judged`` topics, as ``trec_eval -c`` does it: a
    topic that the run lacks counts as 0. (The counts NumQ, NumRel and NumRet are sums.)
    ``per_topic`` maps a measure to the value of each judged topic. ``returned`` is how many judged
    topics have hits in the run, ``unjudged`` how many of the run's topics have no judgements and
    play no part.
    """

    means: dict[str, float]
    per_topic: dict[str, dict[str, float]]
    judged: int
    returned: int
    unjudged: int


def evaluate(qrels: Qrels, run: Run, measures: Sequence[str] = DEFAULT_MEASURES) -> Scores:
    """Measure one run. ``measures`` are names of ir_measures or of trec_eval.

    The order of each ``Ranking`` is what is measured, its scores are not looked at; so a run in
    memory scores as its file does. To measure somebody else's file as trec_eval does, read it with
    ``read_run(path, ties="trec_eval")``. Raises InputError for measures that are not known, for
    empty qrels, and for a run without a single judged topic.
    """
    parsed = parse_measures(measures)
    _check(qrels, run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _calculate(parsed, qrels, run)


def mean_ndcg(qrels: Qrels, run: Run) -> dict[str, float]:
    """nDCG@10 alone, for those who measure often."""
    return evaluate(qrels, run, ["nDCG@10"]).means


def split_measures(text: str) -> list[str]:
    """Names out of one string: ``"nDCG@10, P(rel=2)@5"``. Brackets hold together what they hold."""
    return re.findall(r"(?:\([^)]*\)?|[^\s,(])+", text)


def parse_measures(measures: Sequence[str]) -> list[Any]:
    """ir_measures' objects, each once, in the given order. Raises InputError for what is none."""
    parsed: dict[str, Any] = {}
    for name in measures:
        for measure in _parse(name):
            parsed.setdefault(str(measure), measure)
    if not parsed:
        raise InputError(f"no measure named; {_EXAMPLES}")
    return list(parsed.values())


def _parse(name: str) -> list[Any]:
    import ir_measures

    # Both parsers raise what their parts happen to raise: SyntaxError, NameError, AssertionError …
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                found = [ir_measures.parse_measure(name)]
            except (NameError, ValueError, SyntaxError):
                found = ir_measures.parse_trec_measure(name)
        supported = all(_pipeline().supports(measure) for measure in found)
    except Exception as error:
        raise InputError(f"measure {name!r} is not known; {_EXAMPLES}") from error
    if not supported:
        raise InputError(f"measure {name!r} needs a program that is not used here; {_EXAMPLES}")
    for measure in found:
        _check_parameters(name, measure)
    return found


def _check_parameters(name: str, measure: Any) -> None:
    """trec_eval's code ends the whole process over some parameters; they must not reach it."""
    bounds = {"cutoff": (1, _MAX_CUTOFF), "rel": (1, MAX_GRADE)}
    for key, value in measure.params.items():
        low, high = bounds.get(key, (-math.inf, math.inf))
        if key in bounds and not (isinstance(value, int) and low <= value <= high):
            raise InputError(f"measure {name!r}: {key} is a number from {low} to {high:,}")
        if key == "gains" and not all(
            isinstance(grade, int) and abs(grade) <= MAX_GRADE
            for pair in value.items()
            for grade in pair
        ):
            raise InputError(f"measure {name!r}: gains are whole numbers up to {MAX_GRADE:,}")


@lru_cache(maxsize=1)
def _pipeline() -> Any:
    """The providers that need nothing but Python and trec_eval's own code.

    Without ir_measures' Accuracy, which has no value for a topic that lacks relevant documents in
    its ranking, or others, and divides by zero there.
    """
    import ir_measures as ir

    return ir.providers.FallbackProvider([ir.pytrec_eval, ir.judged, ir.msmarco])


def _check(qrels: Qrels, run: Run) -> None:
    if not qrels:
        raise InputError("the qrels are empty; there is nothing to measure against")
    if any(len(ranking) for ranking in run.topics.values()) and not any(
        topic in qrels for topic in run.topics
    ):
        raise InputError(
            f"none of the run's {len(run):,} topics is judged (the run has "
            f"{next(iter(run))!r}, the qrels {next(iter(qrels))!r}); they belong to different sets"
        )


def _safe(qrels: Qrels) -> Qrels:
    """Qrels without negative grades, which trec_eval takes for unjudged.

    pytrec_eval writes outside its memory for them. A topic that has no others keeps its place
    through a document that no run holds.
    """
    return {
        topic: {name: grade for name, grade in judged.items() if grade >= 0} or {"": 0}
        for topic, judged in qrels.items()
    }


def _calculate(measures: list[Any], qrels: Qrels, run: Run) -> Scores:
    judged = {
        topic: ranking for topic, ranking in run.topics.items() if topic in qrels and len(ranking)
    }
    for topic, ranking in judged.items():
        if len(set(ranking.ids)) != len(ranking.ids):
            raise InputError(f"topic {topic}: a document comes twice in its ranking")
    values: dict[Any, dict[str, float]] = {measure: {} for measure in measures}
    # A measure's hash is that of its name, which it puts together each time that it is asked.
    known = {id(measure): own for measure, own in values.items()}
    safe = _safe(qrels)
    # Whole numbers that fall with the rank: no ties for anybody to break, and exact as float32.
    longest = max(map(len, judged.values()), default=0)
    falling = list(map(float, range(longest, 0, -1)))
    for depth, group in _by_depth(measures):
        ranked = {
            topic: dict(zip(ranking.ids[:depth], falling, strict=False))
            for topic, ranking in judged.items()
        }
        for metric in _pipeline().evaluator(group, safe).iter_calc(ranked):
            own = known.get(id(metric.measure))
            own = values[metric.measure] if own is None else own
            own[metric.query_id] = float(metric.value)
    means, per_topic = {}, {}
    for measure in measures:
        for topic in qrels.keys() - judged.keys():
            values[measure][topic] = _without_hits(measure, qrels[topic])
        total = measure.aggregator()
        per_topic[str(measure)] = {topic: values[measure][topic] for topic in qrels}
        for value in per_topic[str(measure)].values():
            total.add(value)
        means[str(measure)] = float(total.result())
    unjudged = sum(topic not in qrels for topic in run.topics)
    return Scores(means, per_topic, len(qrels), len(judged), unjudged)


def _by_depth(measures: list[Any]) -> list[tuple[int | None, list[Any]]]:
    """Measures by how much of a ranking they are given: those with a small cutoff, and the others.

    A measure with a cutoff looks at nothing below it, but some of what computes them sorts all that
    it is given, a document at a time. With ``judged_only`` the cutoff counts judged documents,
    which may stand anywhere; such measures are computed apart, for in their company
    ir_measures would let NumRet count judged documents only.
    """
    apart = [m for m in measures if m.params.get("judged_only")]
    rest = [m for m in measures if m not in apart]
    small = [m for m in rest if m.params.get("cutoff", _SMALL + 1) <= _SMALL]
    depth = max((m.params["cutoff"] for m in small), default=0)
    groups = [(depth, small), (None, [m for m in rest if m not in small]), (None, apart)]
    return [(length, group) for length, group in groups if group]


def _without_hits(measure: Any, judged: dict[str, int]) -> float:
    """What a judged topic counts that the run lacks: nothing, but it counts as a topic."""
    if measure.NAME == "NumQ":
        return 1.0
    if measure.NAME == "NumRel":
        return float(sum(grade >= 1 for grade in judged.values()))
    return float(measure.DEFAULT)
