"""Which part of a hybrid score, searching alone, ranks a topic best."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dupmae_toolkit.evaluation.measures import Scores
from dupmae_toolkit.search.answers import PARTS

#: The label of the run of all parts.
HYBRID = "hybrid"
#: Values that differ by less count as equal.
_ROUNDING = 1e-12


@dataclass(frozen=True, slots=True)
class Wins:
    """The topics that each part alone ranks better than the other parts, by part.

    tied: topics that two or more parts rank best, with a value above 0. none: topics in which all
    parts have 0. better, worse: topics that the hybrid ranks better than the best part, or worse;
    empty without a hybrid. values: from topic to the value of each label, hybrid included.
    """

    topics: dict[str, list[str]]
    tied: list[str]
    none: list[str]
    better: list[str]
    worse: list[str]
    values: dict[str, dict[str, float]]


def wins_of(scores: Mapping[str, Scores], measure: str) -> Wins | None:
    """The topics that each part wins; None if fewer than two parts have a run.

    scores: by label; the runs of parts are those with a part's name.
    """
    parts = [part for part in PARTS if part in scores]
    if len(parts) < 2:
        return None
    columns = [*parts, *([HYBRID] if HYBRID in scores else [])]
    by_label = {label: scores[label].per_topic[measure] for label in columns}
    found = Wins({part: [] for part in parts}, [], [], [], [], {})
    for topic in by_label[parts[0]]:
        values = {label: of[topic] for label, of in by_label.items()}
        found.values[topic] = values
        best = max(values[part] for part in parts)
        winners = [part for part in parts if best - values[part] <= _ROUNDING]
        if best <= _ROUNDING:
            found.none.append(topic)
        elif len(winners) > 1:
            found.tied.append(topic)
        else:
            found.topics[winners[0]].append(topic)
        if HYBRID in values and abs(values[HYBRID] - best) > _ROUNDING:
            (found.better if values[HYBRID] > best else found.worse).append(topic)
    for part, topics in found.topics.items():
        topics.sort(key=lambda topic: (-_lead(found.values[topic], part, parts), topic))
    return found


def _lead(values: Mapping[str, float], part: str, parts: list[str]) -> float:
    """How far a part is ahead of the next one."""
    return values[part] - max(values[other] for other in parts if other != part)
