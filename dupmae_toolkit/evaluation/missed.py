"""The relevant documents that a run lacks, whatever the measures say."""

from __future__ import annotations

from typing import NamedTuple

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.records import Run


class Missed(NamedTuple):
    """Counts of pairs of a topic and a document with a grade above 0.

    relevant: all of them. missed: those that the run does not hold for this topic, at any rank.
    ids: if topics of the run have relevant documents, but it holds none of them: such an id, and
    one of the run, which may be ids of different kinds.
    """

    relevant: int
    missed: int
    ids: tuple[str, str] | None


def missed_by(qrels: Qrels, run: Run) -> Missed:
    """Count the relevant documents that a run lacks. Topics without judgements do not count."""
    relevant = found = 0
    example: tuple[str, str] | None = None
    for topic, judged in qrels.items():
        wanted = {name for name, grade in judged.items() if grade > 0}
        relevant += len(wanted)
        ids = run.topics[topic].ids if topic in run.topics else []
        found += len(wanted.intersection(ids))
        if wanted and ids and example is None:
            example = min(wanted), ids[0]
    return Missed(relevant, relevant - found, None if found else example)
