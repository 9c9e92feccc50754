"""The demonstration's questions and their judgements, which ship with the package.

The questions are phrased as people ask them; half of them avoid the words of the documentation. A
grade of 2 means that the docstring answers the question, 1 that it is useful beside an answer. All
grades were given by reading docstrings of Python 3.11. These were pooled from word searches with
several wordings, from BM25, and from a general sentence encoder. A docstring outside the pool is
unjudged and counts as not relevant.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit.collection.opening import read_qrels, read_queries
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query

QUERIES_FILE = Path(__file__).with_name("queries.jsonl")
QRELS_FILE = Path(__file__).with_name("qrels.tsv")


@dataclass(frozen=True, slots=True)
class Questions:
    """Questions with their judgements.

    ``missing``: judged ids that the running Python does not document. ``dropped``: questions that
    were left out because none of their judged ids is documented.
    """

    queries: list[Query]
    qrels: Qrels
    missing: list[str]
    dropped: list[str]

    @property
    def judgements(self) -> int:
        return sum(len(judged) for judged in self.qrels.values())


def load_questions(known: Container[str], limit: int | None = None) -> Questions:
    """The questions with a judged document among ``known``, at most ``limit`` of them.

    A limit picks evenly from the whole list, which is ordered by subject. Raises InputError for a
    limit below 1, and if none of the judged documents is known.
    """
    if limit is not None and limit < 1:
        raise InputError(f"{limit} questions: ask for at least one")
    judged = read_qrels(QRELS_FILE)
    missing = {name for grades in judged.values() for name in grades if name not in known}
    qrels = {
        topic: {name: grade for name, grade in grades.items() if name not in missing}
        for topic, grades in judged.items()
    }
    queries = read_queries(QUERIES_FILE)
    kept = [query for query in queries if qrels[query.id]]
    if not kept:
        raise InputError(
            "this Python documents nothing that was judged; use one whose standard library has "
            "docstrings"
        )
    dropped = [query.text for query in queries if not qrels[query.id]]
    if limit is not None and limit < len(kept):
        kept = [kept[number * len(kept) // limit] for number in range(limit)]
    found = Qrels({query.id: qrels[query.id] for query in kept})
    return Questions(kept, found, sorted(missing), dropped)
