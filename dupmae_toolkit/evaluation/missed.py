"""The documents that a run or a corpus lacks, whatever the measures say."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from dupmae_toolkit.collection.qrels import why_unjudged
from dupmae_toolkit.errors import counted
from dupmae_toolkit.records import Run

_Qrels = Mapping[str, Mapping[str, float]]


class Missed(NamedTuple):
    """Counts of pairs of a topic and a document with a grade above 0.

    relevant: all of them. missed: those that the run does not hold for this topic, at any rank.
    ids: if topics of the run have relevant documents, but the run holds none of them: the id of
    one, and an id of the run, which may be ids of different kinds.
    """

    relevant: int
    missed: int
    ids: tuple[str, str] | None


def why_none_is_judged(qrels: _Qrels, runs: Sequence[Run]) -> str:
    """Why no topic of the runs is judged, as the end of a message; see ``why_unjudged``."""
    topics = [topic for run in runs for topic in run.topics]
    documents = [name for run in runs for ranking in run.topics.values() for name in ranking.ids]
    return why_unjudged(qrels, topics, documents)


def missed_by(qrels: _Qrels, run: Run) -> Missed:
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


class Unknown(NamedTuple):
    """Counts of judged documents. judged: all. unknown: those that are not in the corpus.

    example: the unknown one whose id comes first; "" if there are none.
    """

    judged: int
    unknown: int
    example: str

    def about(self) -> dict[str, Any]:
        """As it stands in metadata."""
        return {"judged_documents": self.judged, "judged_not_in_corpus": self.unknown}

    def said(self, where: str) -> str:
        """A line about it, "" if the corpus has all. where: "corpus" or "index"."""
        if not self.unknown:
            return ""
        line = f"{self.unknown:,} of {counted(self.judged, 'judged document')}"
        line += f" {'is' if self.unknown == 1 else 'are'} not in the {where}, {self.example!r}"
        return line + (" first; are the ids of one kind?" if self.unknown > 1 else "")


def unknown_in(qrels: _Qrels, has: Callable[[str], bool]) -> Unknown:
    """Count the judged documents that an index lacks. has: whether it has one, by its id."""
    judged = _documents(qrels)
    return _unknown(len(judged), {document for document in judged if not has(document)})


def unknown_among(qrels: _Qrels, ids: Iterable[str]) -> Unknown:
    """Count the judged documents that are not among the ids of a corpus, which are read once."""
    lacking = _documents(qrels)
    judged = len(lacking)
    lacking.difference_update(ids)
    return _unknown(judged, lacking)


def _documents(qrels: _Qrels) -> set[str]:
    return {document for judged in qrels.values() for document in judged}


def _unknown(judged: int, lacking: set[str]) -> Unknown:
    return Unknown(judged, len(lacking), min(lacking, default=""))
