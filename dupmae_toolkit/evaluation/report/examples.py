"""Topics worth reading: the largest gains and losses, with the hits of each run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dupmae_toolkit.evaluation.report.found import HITS
from dupmae_toolkit.evaluation.report.wins import HYBRID

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.report.folder import Section
    from dupmae_toolkit.search.explanation import Explanation


@dataclass(slots=True)
class Example:
    """A topic and what each run finds for it.

    values: the main measure by label. change: how far ``subject``'s value is from the baseline's.
    hits: the first ids of each run. grades: of judged documents. relevant: the best judged
    documents, with their rank in each run that holds them. explained: explanations of the subject's
    first hit and best relevant document; empty without an index. titles: of the index's documents.
    """

    topic: str
    text: str
    subject: str
    change: float | None
    values: dict[str, float]
    hits: dict[str, list[str]]
    grades: Mapping[str, float]
    relevant: list[tuple[str, dict[str, int]]]
    explained: list[Explanation] = field(default_factory=list)
    titles: dict[str, str] = field(default_factory=dict)


def subject_of(section: Section) -> str:
    """The run that examples are about: the hybrid, else the best run except the baseline."""
    measured = section.measured
    others = [label for label in measured.scores if label != measured.baseline]
    if not others:
        return measured.baseline
    if HYBRID in others:
        return HYBRID
    return max(others, key=lambda label: measured.scores[label].means[measured.main])


def examples_of(section: Section, most: int) -> list[Example]:
    """Up to ``most`` topics with the largest gains over the baseline and as many with losses.

    If there is only one run: the topics with its highest and its lowest values.
    """
    measured = section.measured
    subject, measure = subject_of(section), measured.main
    by_label = {label: scores.per_topic[measure] for label, scores in measured.scores.items()}
    rows = [row for row in measured.rows if (row.run, row.measure) == (subject, measure)]
    if rows:
        change = rows[0].differences
        ranked = sorted(change, key=lambda topic: (-change[topic], topic))
        chosen = [topic for topic in ranked if change[topic] > 0][:most]
        chosen += [topic for topic in reversed(ranked) if change[topic] < 0][:most]
    else:
        change, own = {}, by_label[subject]
        ranked = sorted(own, key=lambda topic: (-own[topic], topic))
        chosen = list(dict.fromkeys(ranked[:most] + ranked[::-1][:most]))
    return [
        Example(
            topic=topic,
            text=section.texts.get(topic, ""),
            subject=subject,
            change=change.get(topic),
            values={label: of[topic] for label, of in by_label.items()},
            hits={label: section.runs[label].of(topic).first for label in measured.scores},
            grades=section.qrels[topic],
            relevant=_relevant(section, topic),
        )
        for topic in chosen
    ]


def _relevant(section: Section, topic: str) -> list[tuple[str, dict[str, int]]]:
    """The best judged documents, and their ranks by run."""
    judged = section.qrels[topic]
    relevant = [name for name, grade in judged.items() if grade > 0]
    best = sorted(relevant, key=lambda name: (-judged[name], name))[:HITS]
    by_label = {label: section.runs[label].of(topic).ranks for label in section.measured.scores}
    return [
        (name, {label: ranks[name] for label, ranks in by_label.items() if name in ranks})
        for name in best
    ]


def wanted(example: Example) -> list[str]:
    """The documents to explain: the subject's first hit, and the best relevant one it holds."""
    first = example.hits[example.subject][:1]
    held = [name for name, ranks in example.relevant if example.subject in ranks]
    return list(dict.fromkeys([*first, *held[:1]]))


def shown_ids(examples: Sequence[Example]) -> set[str]:
    """Every document that the examples name."""
    return {
        name
        for example in examples
        for name in [
            *(name for ids in example.hits.values() for name in ids),
            *(name for name, _ in example.relevant),
        ]
    }
