"""Topics to mine for: queries, each with the documents that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dupmae_toolkit.collection.beir import BeirDataset
from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Query, is_blank


@dataclass(frozen=True, slots=True)
class Topic:
    """A query and its positives' ids, the best grade first.

    answers: every document with a grade above 0; none of them is a negative.
    """

    query: Query
    positives: tuple[str, ...]
    answers: frozenset[str]


def judged_topics(
    queries: Sequence[Query], qrels: Qrels, *, grade: int = 1, source: str = "qrels"
) -> list[Topic]:
    """The queries that have judgements, in their order.

    grade: documents of at least this grade are positives. Those of a lower grade above 0 are
    neither positives nor negatives. A topic may have no positives. Raises InputError if no query is
    judged at all.
    """
    if grade < 1:
        raise InputError(f"positives have a grade of at least 1, not {grade}")
    topics = []
    for query in queries:
        judged = qrels.get(query.id)
        if judged is None:
            continue
        answers = sorted(judged.items(), key=lambda item: (-item[1], item[0]))
        positives = tuple(name for name, given in answers if given >= grade)
        known = frozenset(name for name, given in answers if given > 0)
        topics.append(Topic(query, positives, known))
    if not topics:
        raise InputError.at(
            source, None, f"not one of the {len(queries):,} queries is judged in it"
        )
    return topics


def split_topics(dataset: BeirDataset, split: str, *, grade: int = 1) -> list[Topic]:
    """The topics of a BEIR data set's split; see ``judged_topics``."""
    queries, qrels = dataset.queries(split), dataset.qrels(split)
    return judged_topics(queries, qrels, grade=grade, source=dataset.source)


class TitleTopics:
    """The titles of a corpus as queries, each with its own document as the positive.

    Iterating streams; documents without title or text are left out.
    """

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus

    def __iter__(self) -> Iterator[Topic]:
        empty = True
        for document in self.corpus:
            if not is_blank(document.title) and not is_blank(document.text):
                empty = False
                yield Topic(
                    Query(document.id, document.title.strip()),
                    (document.id,),
                    frozenset([document.id]),
                )
        if empty:
            raise InputError.at(self.corpus.source, None, "no document with both title and text")


class TextsOnly(Corpus):
    """A corpus without its titles, which serve as queries; for the index that is searched."""

    def __init__(self, corpus: Corpus) -> None:
        self.corpus = corpus
        self.name, self.source = corpus.name, corpus.source

    def numbered(self) -> Iterator[tuple[int, Document]]:
        for number, document in self.corpus.numbered():
            if not is_blank(document.text):
                yield number, Document(document.id, "", document.text)

    def where(self, number: int) -> tuple[str, int | None]:
        return self.corpus.where(number)
