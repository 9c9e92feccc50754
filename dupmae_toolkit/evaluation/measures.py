"""Retrieval measures: trec_eval's values by way of ir_measures, and others, see ``gains``."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.collection.subtopics import Subtopics
from dupmae_toolkit.errors import InputError, counted, type_of
from dupmae_toolkit.evaluation.diversity import diversity, is_diversity
from dupmae_toolkit.evaluation.gains import check_grades, computed_here, gain_measure, graded
from dupmae_toolkit.evaluation.measure_names import parse_measures, providers, split_measures
from dupmae_toolkit.evaluation.missed import why_none_is_judged
from dupmae_toolkit.records import Run

#: The four usual measures of BEIR.
DEFAULT_MEASURES = ("nDCG@10", "R@100", "RR@10", "AP@1000")
_SMALL = 100
_SMOOTHING = 0.00001  # INFAP_EPSILON of trec_eval
#: Measures of cwl-eval, which reads a ranking to its end even if the measure has a cutoff.
_WHOLE = ("BPM", "SDCG", "NERR8", "NERR9")


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


def evaluate(
    qrels: Mapping[str, Mapping[str, float]],
    run: Run | Mapping[str, Mapping[str, float]],
    measures: str | Sequence[str] = DEFAULT_MEASURES,
) -> Scores:
    """Measure one run. ``measures`` are names of ir_measures or of trec_eval, or one of them.

    run: a Run, or scores by document by topic, as ``Run.from_dict`` takes them.

    Only the order of each ``Ranking`` counts, not the scores, so a run in memory gets the same
    values as its file, which ``read_run`` orders as trec_eval does. Grades that are fractions, such
    as 0.5, are for nDCG, ERR, RBP and Compat only. Raises InputError for unknown measures, for
    grades that a measure does not take, for empty qrels, and for a run without any judged topic.
    """
    parsed = parse_measures([measures] if isinstance(measures, str) else measures)
    if not isinstance(qrels, Mapping):
        reader = "read_qrels reads a file" if isinstance(qrels, str | Path) else "they come first"
        raise InputError(f"the judgements given: {type_of(qrels)}; {reader}")
    if not isinstance(run, Run):
        run = Run.from_dict(run)
    _check(qrels, run)
    judgements = graded(qrels)
    check_grades(parsed, judgements)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return _calculate(parsed, judgements.qrels, run, judgements.fraction is not None)


def evaluate_subtopics(subtopics: Subtopics, run: Run, measures: Sequence[str]) -> Scores:
    """Measure the diversity of a run: ``alpha_nDCG@10``, ``ERR_IA@10``, ``StRecall@10`` and others.

    subtopics: from topic to document to subtopic to grade. Means are over all topics in it. Raises
    InputError as ``evaluate`` does, and for a measure that needs no subtopics.
    """
    parsed = parse_measures(measures, subtopics=True)
    for measure in parsed:
        if not is_diversity(measure):
            raise InputError(f"measure {str(measure)!r} takes judgements without subtopics")
    _check(subtopics, run)
    judged = _judged(subtopics, run)
    per_topic = {
        str(measure): {
            topic: diversity(measure, judged[topic], subtopics[topic]) if topic in judged else 0.0
            for topic in subtopics
        }
        for measure in parsed
    }
    means = {name: sum(values.values()) / len(values) for name, values in per_topic.items()}
    unjudged = sum(topic not in subtopics for topic in run.topics)
    return Scores(means, per_topic, len(subtopics), len(judged), unjudged)


def mean_ndcg(qrels: Mapping[str, Mapping[str, float]], run: Run) -> dict[str, float]:
    """Only nDCG@10, for frequent measurements such as in training."""
    return evaluate(qrels, run, ["nDCG@10"]).means


def _check(qrels: Mapping[str, Any], run: Run) -> None:
    if not qrels:
        raise InputError("the qrels are empty; there is nothing to measure against")
    if any(len(ranking) for ranking in run.topics.values()) and not any(
        topic in qrels for topic in run.topics
    ):
        why = why_none_is_judged(qrels, [run])
        raise InputError(
            f"none of the run's {counted(len(run), 'topic')} is judged (the run has "
            f"{next(iter(run))!r}, the qrels {next(iter(qrels))!r}); {why}"
        )


def _safe(qrels: RealQrels) -> RealQrels:
    """Qrels without negative grades, which trec_eval treats as unjudged.

    For these, pytrec_eval writes outside its memory. A topic with only negative grades gets a
    document that no run contains, so that the topic still counts. To infAP such a document is not
    the same as one without a line in the qrels: ``_inferred_ap`` gets the qrels as they are.
    """
    return {
        topic: {name: grade for name, grade in judged.items() if grade >= 0} or {"": 0}
        for topic, judged in qrels.items()
    }


def _judged(qrels: Mapping[str, Any], run: Run) -> dict[str, list[str]]:
    """The rankings of the judged topics that have hits. InputError for a document found twice."""
    judged = {
        topic: ranking.ids
        for topic, ranking in run.topics.items()
        if topic in qrels and len(ranking)
    }
    for topic, ids in judged.items():
        if len(set(ids)) != len(ids):
            raise InputError(f"topic {topic}: a document occurs twice in its ranking")
    return judged


def _calculate(measures: list[Any], qrels: RealQrels, run: Run, fractions: bool) -> Scores:
    judged = _judged(qrels, run)
    values: dict[Any, dict[str, float]] = {measure: {} for measure in measures}
    own = [measure for measure in measures if computed_here(measure, fractions)]
    for measure in own:
        for topic, ids in judged.items():
            values[measure][topic] = gain_measure(measure, ids, qrels[topic])
    # Look up by id(): hashing a measure builds its name each time, which is slow.
    by_identity = {id(measure): by_topic for measure, by_topic in values.items()}
    safe = _safe(qrels)
    # Scores are falling whole numbers: there are no ties to break, and they are exact in float32.
    longest = max(map(len, judged.values()), default=0)
    falling = list(map(float, range(longest, 0, -1)))
    for depth, group in _by_depth([measure for measure in measures if measure not in own]):
        ranked = {
            topic: dict(zip(ids[:depth], falling, strict=False)) for topic, ids in judged.items()
        }
        for metric in providers().evaluator(group, safe).iter_calc(ranked):
            by_topic = by_identity.get(id(metric.measure))
            by_topic = values[metric.measure] if by_topic is None else by_topic
            by_topic[metric.query_id] = float(metric.value)
    means, per_topic = {}, {}
    for measure in measures:
        if measure.NAME == "infAP":
            for topic, ids in judged.items():
                if min(qrels[topic].values(), default=0) < 0:
                    values[measure][topic] = _inferred_ap(ids, qrels[topic], measure["rel"])
        for topic in qrels.keys() - judged.keys():
            values[measure][topic] = _without_hits(measure, qrels[topic])
        total = measure.aggregator()
        per_topic[str(measure)] = {topic: values[measure][topic] for topic in qrels}
        for value in per_topic[str(measure)].values():
            total.add(value)
        means[str(measure)] = float(total.result())
    unjudged = sum(topic not in qrels for topic in run.topics)
    return Scores(means, per_topic, len(qrels), len(judged), unjudged)


def _inferred_ap(ids: Sequence[str], judged: Mapping[str, float], least: int) -> float:
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
    cut = [m for m in rest if m.NAME not in _WHOLE]
    small = [m for m in cut if m.params.get("cutoff", _SMALL + 1) <= _SMALL]
    depth = max((m.params["cutoff"] for m in small), default=0)
    groups = [(depth, small), (None, [m for m in rest if m not in small]), (None, apart)]
    return [(length, group) for length, group in groups if group]


def _without_hits(measure: Any, judged: Mapping[str, float]) -> float:
    """A measure's value for a judged topic without hits in the run."""
    if measure.NAME == "NumQ":
        return 1.0
    if measure.NAME == "NumRel":
        return float(sum(grade >= 1 for grade in judged.values()))
    return float(measure.DEFAULT)


__all__ = [
    "DEFAULT_MEASURES",
    "Scores",
    "evaluate",
    "evaluate_subtopics",
    "mean_ndcg",
    "parse_measures",
    "split_measures",
]
