"""Measures of novelty and diversity, with judgements by subtopic; the values are ndeval's."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from typing import Any

from dupmae_toolkit.collection.subtopics import Subtopics
from dupmae_toolkit.errors import InputError

#: ir_measures' names of these measures.
DIVERSITY = (
    *("alpha_DCG", "alpha_nDCG", "ERR_IA", "nERR_IA", "NRBP", "nNRBP"),
    *("AP_IA", "P_IA", "StRecall"),
)
#: ndeval's alpha in ERR_IA and nERR_IA, which have no such parameter.
_ALPHA = 0.5

Discount = Callable[[int], float]


def is_diversity(measure: Any) -> bool:
    """Whether a measure of ir_measures needs judgements by subtopic."""
    return measure.NAME in DIVERSITY


def check_cutoff(measure: Any) -> None:
    """Raise InputError for a measure that stops at a rank, but names none."""
    if "cutoff" in measure.SUPPORTED_PARAMS and "cutoff" not in measure.params:
        raise InputError(f"measure {str(measure)!r}: name a cutoff, as in {measure}@10")


def diversity(measure: Any, ids: Sequence[str], judged: Mapping[str, Mapping[str, int]]) -> float:
    """The value of a measure for one topic, from 0 to 1; 0 without any relevant document.

    ids: the ranking, best first. judged: from document to subtopic to grade. A document is relevant
    to a subtopic if its grade is at least the measure's ``rel`` (by default 1). Subtopics without
    relevant documents do not count.

    alpha_DCG, ERR_IA and NRBP are sums over ranks of a discount times the gain: each subtopic of a
    document gives (1 - alpha)^(the number of documents above with this subtopic). They are divided
    by the sum for a ranking in which all documents have all subtopics; the measures with an n
    before the name, by the sum for the best ranking of the judged documents. To find that ranking
    is NP-hard, so it is made greedily. Clarke and others, "Novelty and diversity in information
    retrieval evaluation" (SIGIR 2008) and "A comparative analysis of cascade measures" (WSDM 2011).
    AP_IA and P_IA are means over subtopics; StRecall is the share of the subtopics that are found.
    """
    if measure.params.get("judged_only"):
        ids = [document for document in ids if document in judged]
    about = {
        document: topics
        for document, grades in judged.items()
        if (topics := {topic for topic, grade in grades.items() if grade >= measure["rel"]})
    }
    subtopics = set().union(*about.values())
    if not subtopics:
        return 0.0
    depth = measure.params.get("cutoff", max(len(ids), len(about)))
    none: Set[str] = frozenset()
    found = [about.get(document, none) for document in ids[:depth]]
    if measure.NAME == "StRecall":
        return len(set().union(*found)) / len(subtopics)
    if measure.NAME == "P_IA":
        return sum(map(len, found)) / depth / len(subtopics)
    if measure.NAME == "AP_IA":
        return _mean_of_average_precision(found, about.values())
    alpha: float = _ALPHA
    discount: Discount = _reciprocal
    if "alpha" in measure.SUPPORTED_PARAMS:
        alpha, discount = measure["alpha"], _logarithmic
    if "beta" in measure.SUPPORTED_PARAMS:
        discount = _geometric(measure["beta"])
    if measure.NAME in ("alpha_nDCG", "nERR_IA", "nNRBP"):
        best = _greedy(about, alpha, depth)
    elif measure.NAME == "NRBP":
        # The sum of an infinite geometric series.
        best_of_all = len(subtopics) / (1 - (1 - alpha) * measure["beta"])
        return _gained(found, alpha, discount) / best_of_all
    else:
        best = [subtopics] * depth
    return _gained(found, alpha, discount) / _gained(best, alpha, discount)


def _logarithmic(place: int) -> float:
    return 1 / math.log2(place + 2)


def _reciprocal(place: int) -> float:
    return 1 / (place + 1)


def _geometric(beta: float) -> Discount:
    return lambda place: beta**place


def _gained(ranking: Iterable[Set[str]], alpha: float, discount: Discount) -> float:
    """ranking: the subtopics of each document."""
    seen: dict[str, int] = {}
    total = 0.0
    for place, topics in enumerate(ranking):
        # Sets have no order; fsum gives the same sum in any order.
        total += math.fsum((1 - alpha) ** seen.get(topic, 0) for topic in topics) * discount(place)
        for topic in topics:
            seen[topic] = seen.get(topic, 0) + 1
    return total


def _greedy(about: Mapping[str, Set[str]], alpha: float, depth: int) -> list[Set[str]]:
    """The best ranking, made greedily: the document that gains most is next; ties: the last id.

    Documents with the same subtopics gain the same. Gains only fall while documents are taken, so a
    gain that is computed anew, and is still above all others' former gains, is the largest.
    """
    seen = dict.fromkeys(set().union(*about.values()), 0)
    alike: dict[frozenset[str], list[int]] = {}
    names = sorted(about, reverse=True)
    for place in range(len(names) - 1, -1, -1):
        alike.setdefault(frozenset(about[names[place]]), []).append(place)

    def loss(topics: Set[str]) -> float:
        return -math.fsum((1 - alpha) ** seen[topic] for topic in topics)

    # Of equal losses, a heap gives the smallest place: that of the last id.
    heap = [(loss(topics), places[-1]) for topics, places in alike.items()]
    heapq.heapify(heap)
    best: list[Set[str]] = []
    while heap and len(best) < depth:
        former, place = heap[0]
        topics = frozenset(about[names[place]])
        now = loss(topics)
        if now > former:
            heapq.heapreplace(heap, (now, place))
            continue
        heapq.heappop(heap)
        best.append(topics)
        for topic in topics:
            seen[topic] += 1
        alike[topics].pop()
        if alike[topics]:
            heapq.heappush(heap, (loss(topics), alike[topics][-1]))
    return best


def _mean_of_average_precision(found: Sequence[Set[str]], about: Iterable[Set[str]]) -> float:
    relevant: dict[str, int] = {}
    for topics in about:
        for topic in topics:
            relevant[topic] = relevant.get(topic, 0) + 1
    hits = dict.fromkeys(relevant, 0)
    totals = dict.fromkeys(relevant, 0.0)
    for rank, topics in enumerate(found, 1):
        for topic in topics:
            hits[topic] += 1
            totals[topic] += hits[topic] / rank
    return math.fsum(totals[topic] / relevant[topic] for topic in relevant) / len(relevant)


def merged(subtopics: Subtopics) -> dict[str, dict[str, int]]:
    """Judgements by document: each document has its highest grade for any subtopic."""
    return {
        topic: {document: max(grades.values()) for document, grades in judged.items()}
        for topic, judged in subtopics.items()
    }
