"""Retrieval measures, computed by ir_measures, with the same values as trec_eval."""

from __future__ import annotations

import contextlib
import difflib
import math
import re
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from dupmae_toolkit.collection.qrels import MAX_GRADE, Qrels
from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.records import Run

#: The four usual measures of BEIR.
DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "AP@1000")
#: What people call some measures, in lower case.
_OTHER_NAMES = {"hit": "Success", "hits": "Success", "hitrate": "Success", "prec": "P", "rec": "R"}
_MAX_CUTOFF = 1_000_000
_SMALL = 100
_SMOOTHING = 0.00001  # INFAP_EPSILON of trec_eval
_EXAMPLES = "write them as ir_measures does: nDCG@10, R@100, RR@10, AP@1000, P(rel=2)@5"


@dataclass(frozen=True, slots=True)
class Scores:
    """The measures of a run.

    ``means`` maps a measure to its mean over all ``judged`` topics, as ``trec_eval -c`` does: a
    topic that the run lacks counts as 0. (The counts NumQ, NumRel and NumRet are sums.)
    ``per_topic`` maps a measure to the value of each judged topic. ``returned`` is the number of
    judged topics with hits in the run; ``unjudged``, the number of the run's topics that have no
    judgements and are ignored.
    """

    means: dict[str, float]
    per_topic: dict[str, dict[str, float]]
    judged: int
    returned: int
    unjudged: int


def evaluate(qrels: Qrels, run: Run, measures: Sequence[str] = DEFAULT_MEASURES) -> Scores:
    """Measure one run. ``measures`` are names of ir_measures or of trec_eval.

    Only the order of each ``Ranking`` counts, not its scores, so a run in memory gets the same
    values as its file. To measure a file of another program as trec_eval does, read it with
    ``read_run(path, ties="trec_eval")``. Raises InputError for unknown measures, for empty qrels,
    and for a run without any judged topic.
    """
    parsed = parse_measures(measures)
    _check(qrels, run)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _calculate(parsed, qrels, run)


def mean_ndcg(qrels: Qrels, run: Run) -> dict[str, float]:
    """Only nDCG@10, for frequent measurements such as in training."""
    return evaluate(qrels, run, ["nDCG@10"]).means


def split_measures(text: str) -> list[str]:
    """Split names in one string, ``"nDCG@10, P(rel=2)@5"``, but not inside parentheses."""
    return re.findall(r"(?:\([^)]*\)?|[^\s,(])+", text)


def parse_measures(measures: Sequence[str]) -> list[Any]:
    """ir_measures' objects, without duplicates, in order. Raises InputError for unknown names."""
    parsed: dict[str, Any] = {}
    for name in measures:
        for measure in _parse(name):
            parsed.setdefault(str(measure), measure)
    if not parsed:
        raise InputError(f"no measure named; {_EXAMPLES}")
    return list(parsed.values())


def _parse(name: str) -> list[Any]:
    import ir_measures

    # Both parsers can raise almost any exception: SyntaxError, NameError, AssertionError …
    try:
        # For trec_eval's groups of measures it prints, on stdout, those that it leaves out.
        with warnings.catch_warnings(), contextlib.redirect_stdout(sys.stderr):
            warnings.simplefilter("ignore", DeprecationWarning)
            try:
                found = [ir_measures.parse_measure(name)]
            except (NameError, ValueError, SyntaxError):
                found = ir_measures.parse_trec_measure(name)
        supported = all(_pipeline().supports(measure) for measure in found)
    except Exception as error:
        raise InputError(f"measure {name!r} is not known; {_suggestion(name)}") from error
    if not supported:
        raise InputError(f"measure {name!r} needs a program that is not supported; {_EXAMPLES}")
    for measure in found:
        _check_parameters(name, measure)
    return found


def _suggestion(name: str) -> str:
    """What an unknown name may have meant, or how measures are written."""
    import ir_measures

    head = re.match(r"[^\W\d]+", name)
    if head is None:
        return _EXAMPLES
    known = {each.casefold(): each for each in ir_measures.measures.registry} | _OTHER_NAMES
    given = head[0].casefold().strip("_")
    for close in [given] if given in known else difflib.get_close_matches(given, known):
        number = re.search(r"\d+$", name)
        rest = name[head.end() :]
        for tail in (rest, f"@{number[0]}" if number else ""):
            meant = known[close] + tail
            with contextlib.suppress(Exception), warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                measure = ir_measures.parse_measure(meant)
                if _pipeline().supports(measure):
                    return f"did you mean {measure}?"
    return _EXAMPLES


def _check_parameters(name: str, measure: Any) -> None:
    """Refuse parameters on which trec_eval's code would end the whole process."""
    bounds = {"cutoff": (1, _MAX_CUTOFF), "rel": (1, MAX_GRADE)}
    for key, value in measure.params.items():
        low, high = bounds.get(key, (-math.inf, math.inf))
        if key in bounds and not (isinstance(value, int) and low <= value <= high):
            raise InputError(
                f"measure {name!r}: {key} must be a whole number from {low} to {high:,}"
            )
        if key == "gains" and not all(
            isinstance(grade, int) and abs(grade) <= MAX_GRADE
            for pair in value.items()
            for grade in pair
        ):
            raise InputError(f"measure {name!r}: gains must be whole numbers up to {MAX_GRADE:,}")


@lru_cache(maxsize=1)
def _pipeline() -> Any:
    """The providers that need only Python and trec_eval's own code.

    Excludes ir_measures' Accuracy, which divides by zero for a topic whose ranking has no relevant
    documents, or only such.
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
            f"none of the run's {counted(len(run), 'topic')} is judged (the run has "
            f"{next(iter(run))!r}, the qrels {next(iter(qrels))!r}); they belong to different sets"
        )


def _safe(qrels: Qrels) -> dict[str, dict[str, int]]:
    """Qrels without negative grades, which trec_eval treats as unjudged.

    For these, pytrec_eval writes outside its memory. A topic with only negative grades gets a
    document that no run contains, so that the topic still counts. To infAP such a document is not
    the same as one without a line in the qrels: ``_inferred_ap`` gets the qrels as they are.
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
            raise InputError(f"topic {topic}: a document occurs twice in its ranking")
    values: dict[Any, dict[str, float]] = {measure: {} for measure in measures}
    # Look up by id(): hashing a measure builds its name each time, which is slow.
    by_identity = {id(measure): by_topic for measure, by_topic in values.items()}
    safe = _safe(qrels)
    # Scores are falling whole numbers: there are no ties to break, and they are exact in float32.
    longest = max(map(len, judged.values()), default=0)
    falling = list(map(float, range(longest, 0, -1)))
    for depth, group in _by_depth(measures):
        ranked = {
            topic: dict(zip(ranking.ids[:depth], falling, strict=False))
            for topic, ranking in judged.items()
        }
        for metric in _pipeline().evaluator(group, safe).iter_calc(ranked):
            by_topic = by_identity.get(id(metric.measure))
            by_topic = values[metric.measure] if by_topic is None else by_topic
            by_topic[metric.query_id] = float(metric.value)
    means, per_topic = {}, {}
    for measure in measures:
        if measure.NAME == "infAP":
            for topic, ranking in judged.items():
                if min(qrels[topic].values(), default=0) < 0:
                    values[measure][topic] = _inferred_ap(ranking.ids, qrels[topic], measure["rel"])
        for topic in qrels.keys() - judged.keys():
            values[measure][topic] = _without_hits(measure, qrels[topic])
        total = measure.aggregator()
        per_topic[str(measure)] = {topic: values[measure][topic] for topic in qrels}
        for value in per_topic[str(measure)].values():
            total.add(value)
        means[str(measure)] = float(total.result())
    unjudged = sum(topic not in qrels for topic in run.topics)
    return Scores(means, per_topic, len(qrels), len(judged), unjudged)


def _inferred_ap(ids: Sequence[str], judged: dict[str, int], least: int) -> float:
    """Inferred average precision (Yilmaz and Aslam, CIKM 2006), with trec_eval's smoothing.

    A negative grade means that a document was in the pool, but not in the sample that was judged.
    Among the documents above a relevant one, the share in the pool is known; of these, the share of
    relevant ones is estimated from those that were judged. least: the lowest grade of a relevant
    document.
    """
    total, relevant, irrelevant, sampled_out = 0.0, 0, 0, 0
    for above, name in enumerate(ids):
        grade = judged.get(name)
        if grade is None:
            continue
        if grade < 0:
            sampled_out += 1
        elif grade < least:
            irrelevant += 1
        else:
            pooled = relevant + irrelevant + sampled_out
            share = (relevant + _SMOOTHING) / (relevant + irrelevant + 2 * _SMOOTHING)
            total += (1 + pooled * share) / (above + 1)
            relevant += 1
    wanted = sum(grade >= least for grade in judged.values())
    return total / wanted if wanted else 0.0


def _by_depth(measures: list[Any]) -> list[tuple[int | None, list[Any]]]:
    """Groups of measures, with the number of hits that each group needs; None for all.

    A measure with a cutoff ignores hits below it, but some providers sort all the hits they get,
    which is slow; so measures with small cutoffs get only the hits they need. With ``judged_only``
    the cutoff counts judged documents, which can be at any rank. These measures have their own
    group: in a shared one, ir_measures would make NumRet count only judged documents.
    """
    apart = [m for m in measures if m.params.get("judged_only")]
    rest = [m for m in measures if m not in apart]
    small = [m for m in rest if m.params.get("cutoff", _SMALL + 1) <= _SMALL]
    depth = max((m.params["cutoff"] for m in small), default=0)
    groups = [(depth, small), (None, [m for m in rest if m not in small]), (None, apart)]
    return [(length, group) for length, group in groups if group]


def _without_hits(measure: Any, judged: dict[str, int]) -> float:
    """A measure's value for a judged topic without hits in the run."""
    if measure.NAME == "NumQ":
        return 1.0
    if measure.NAME == "NumRel":
        return float(sum(grade >= 1 for grade in judged.values()))
    return float(measure.DEFAULT)
