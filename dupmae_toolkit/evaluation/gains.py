"""Measures of gains, which may be fractions: nDCG, RBP and ERR, computed from their definitions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dupmae_toolkit.collection.grades import MAX_GRADE
from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.errors import InputError

#: Measures that are defined for grades such as 0.5. The others compare grades with a level, which
#: trec_eval reads as an integer.
_FRACTIONS = ("nDCG", "RBP", "ERR", "Compat", "Judged", "NumQ", "NumRet")
#: The highest grade of gdeval, the program of TREC's Web track. ERR's probabilities depend on it.
HIGHEST_OF_ERR = 4
#: Gains of 2^grade - 1 stay far below the largest float.
HIGHEST_EXPONENT = 100


class Graded(NamedTuple):
    """Judgements whose whole grades are integers.

    fraction: topic, document and grade of the first grade that is not whole; None if all are.
    """

    qrels: RealQrels
    fraction: tuple[str, str, float] | None


def graded(qrels: Mapping[str, Mapping[str, Any]]) -> Graded:
    """Check judgements whose grades may be other numbers than int: 1.0, 0.5, or those of numpy.

    Raises InputError for a grade that is no number from -10,000 to 10,000.
    """
    if all(
        type(grade) is int and abs(grade) <= MAX_GRADE
        for judged in qrels.values()
        for grade in judged.values()
    ):
        return Graded(dict(qrels), None)  # type: ignore[arg-type]
    fraction: tuple[str, str, float] | None = None
    found: RealQrels = {}
    for topic, judged in qrels.items():
        found[topic] = {}
        for document, grade in judged.items():
            try:
                number = float(grade)
            except (TypeError, ValueError, OverflowError):
                number = math.nan
            if not abs(number) <= MAX_GRADE:
                raise InputError(
                    f"topic {topic} judges {document} {str(grade)[:40]!r}, which is no number from "
                    f"{-MAX_GRADE:,} to {MAX_GRADE:,}"
                )
            whole = number.is_integer()
            found[topic][document] = int(number) if whole else number
            if not whole and fraction is None:
                fraction = topic, document, number
    return Graded(found, fraction)


def takes_fractions(measure: Any) -> bool:
    """Whether a measure of ir_measures takes grades that are fractions."""
    return measure.NAME in _FRACTIONS and "rel" not in measure.params


def check_grades(measures: Sequence[Any], judgements: Graded) -> None:
    """Raise InputError if a measure cannot take these grades; the message names both."""
    if judgements.fraction is not None:
        refusing = [str(measure) for measure in measures if not takes_fractions(measure)]
        if refusing:
            topic, document, grade = judgements.fraction
            verb = "needs" if len(refusing) == 1 else "need"
            raise InputError(
                f"topic {topic} judges {document} {grade:g}, but {', '.join(refusing)} {verb} "
                "whole grades; round them, or choose only measures that take fractions: nDCG@10, "
                "ERR@10, RBP, Compat"
            )
    for measure in measures:
        highest, remedy = _limit(measure)
        if highest is None:
            continue
        for topic, judged in judgements.qrels.items():
            top = max(judged, key=judged.__getitem__, default=None)
            if top is not None and judged[top] > highest:
                raise InputError(
                    f"topic {topic} judges {top} {judged[top]:g}, but {measure} takes grades up to "
                    f"{highest}{remedy}"
                )


def _limit(measure: Any) -> tuple[int | None, str]:
    if measure.NAME == "ERR":
        return HIGHEST_OF_ERR, ", as in TREC's gdeval"
    if measure.NAME == "RBP" and "rel" not in measure.params:
        return 1, "; name the lowest relevant one, as in RBP(rel=1)"
    if measure.NAME == "nDCG" and measure["dcg"] == "exp-log2":
        return HIGHEST_EXPONENT, ""
    return None, ""


def computed_here(measure: Any, fractions: bool = False) -> bool:
    """Whether ``gain_measure`` computes a measure. fractions: whether grades are fractions.

    trec_eval computes nDCG where grades and gains are whole.
    """
    if measure.NAME in ("RBP", "ERR"):
        return True
    if measure.NAME in ("NumQ", "NumRet"):
        return fractions and "rel" not in measure.params
    if measure.NAME != "nDCG":
        return False
    gains = measure.params.get("gains", {}).values()
    return fractions or measure["dcg"] != "log2" or not all(type(gain) is int for gain in gains)


def gain_measure(measure: Any, ids: Sequence[str], judged: Mapping[str, float]) -> float:
    """The value of a measure for one topic, from 0 to 1 (NumQ and NumRet are counts).

    ids: the ranking, best first. judged: the grades; negative ones count as unjudged, as in
    trec_eval: they gain nothing, whatever ``gains`` says of grade 0. nDCG: Järvelin and Kekäläinen
    (2002), with logarithms to the base 2; the gains are the grades, those that ``gains`` gives for
    grades, or 2^gain - 1 with ``dcg='exp-log2'``. RBP: (1 - p) · Σ gain · p^(rank - 1), Moffat
    and Zobel (2008). ERR: Σ 1/rank · the probability that a user stops at this rank, which is
    (2^grade - 1) / 2^4 for a user who gets there, Chapelle and others (2009).
    """
    if measure.NAME == "NumQ":
        return 1.0
    if measure.NAME == "NumRet":
        return float(len(ids))
    grades = {document: grade for document, grade in judged.items() if grade >= 0}
    if measure.params.get("judged_only"):
        ids = [document for document in ids if document in grades]
    found = [grades.get(document) for document in ids[: measure.params.get("cutoff")]]
    if measure.NAME == "RBP":
        least = measure.params.get("rel")
        return _rank_biased([grade or 0 for grade in found], measure["p"], least)
    if measure.NAME == "ERR":
        return _expected_reciprocal_rank([grade or 0 for grade in found])
    gains = measure.params.get("gains", {})
    exponential = measure["dcg"] == "exp-log2"

    def gain(grade: float | None) -> float:
        if grade is None:
            return 0.0
        mapped = gains.get(grade, grade)
        return 2.0**mapped - 1 if exponential else mapped

    best = sorted(map(gain, grades.values()), reverse=True)
    ideal = _discounted(best[: measure.params.get("cutoff")])
    return _discounted(map(gain, found)) / ideal if ideal > 0 else 0.0


def _discounted(gains: Iterable[float]) -> float:
    return math.fsum(gain / math.log2(place + 2) for place, gain in enumerate(gains))


def _rank_biased(grades: Sequence[float], persistence: float, least: int | None) -> float:
    """least: the lowest relevant grade, at least 1; None: grades are gains from 0 to 1."""
    gains = grades if least is None else [float(grade >= least) for grade in grades]
    return (1 - persistence) * math.fsum(
        gain * persistence**place for place, gain in enumerate(gains)
    )


def _expected_reciprocal_rank(grades: Sequence[float]) -> float:
    total, coming = 0.0, 1.0
    for place, grade in enumerate(grades):
        stops = (2.0**grade - 1) / 2**HIGHEST_OF_ERR
        total += coming * stops / (place + 1)
        coming *= 1 - stops
    return total
