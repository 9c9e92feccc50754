"""Chooses hard negatives from candidate lists: documents near a query that do not answer it.

The lists come from a search that is passed in as a function; this module knows neither indexes nor
files. ``negative_filters`` decides which candidates are left out, and why.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.candidates import Candidates, Fetch, Search
from dupmae_toolkit.mining.examples import Example, Passage, short
from dupmae_toolkit.mining.negative_filters import (
    MiningOptions,
    NegativeFilters,
    TeacherScores,
    text_key,
)
from dupmae_toolkit.mining.report import MiningReport
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Document

#: Topics that are searched together.
BATCH = 256


def mine(
    topics: Iterable[Topic],
    search: Search,
    fetch: Fetch,
    options: MiningOptions | None = None,
    report: MiningReport | None = None,
    teacher: TeacherScores | None = None,
) -> Iterator[Example]:
    """The examples of topics, in their order, streamed; ``report`` is filled along the way.

    Texts are fetched only for as many candidates as are needed, so the filters by text count only
    the candidates that they saw. Raises InputError if a candidate has no document.
    """
    options = options or MiningOptions()
    report = report if report is not None else MiningReport()
    waiting = iter(topics)
    while batch := list(itertools.islice(waiting, BATCH)):
        report.queries += len(batch)
        wanted = [topic for topic in batch if topic.positives]
        report.without_positives += len(batch) - len(wanted)
        documents = dict(fetch({name for topic in wanted for name in topic.positives}))
        found = []
        for topic in wanted:
            missing = sum(name not in documents for name in topic.positives)
            report.positives_not_found += missing
            if missing < len(topic.positives):
                found.append(topic)
            else:
                report.without_positives += 1
        lists = search(found) if found else []
        choices = [
            _Choice(topic, listed, documents, options, report, teacher)
            for topic, listed in zip(found, lists, strict=True)
        ]
        _choose(choices, fetch)
        for choice in choices:
            example = choice.example()
            if example is not None:
                yield example


def _choose(choices: Sequence[_Choice], fetch: Fetch) -> None:
    """Fill all choices, with one fetch for all of them in each round."""
    unfilled = [choice for choice in choices if choice.wants()]
    while unfilled:
        wanted = [choice.next_ids() for choice in unfilled]
        documents = fetch({name for names in wanted for name in names})
        for choice, names in zip(unfilled, wanted, strict=True):
            for name in names:
                if name not in documents:
                    raise InputError(
                        f"topic {choice.topic.query.id} lists document {name!r}, which is not "
                        "among the documents; name the corpus that was searched"
                    )
                choice.offer(documents[name])
        unfilled = [choice for choice in unfilled if choice.wants()]


class _Choice:
    """The negatives of one topic: the candidates that are left, and those that were taken."""

    def __init__(
        self,
        topic: Topic,
        listed: Candidates,
        documents: Mapping[str, Document],
        options: MiningOptions,
        report: MiningReport,
        teacher: TeacherScores | None,
    ) -> None:
        self.topic, self._options, self._report = topic, options, report
        ranking = listed.ranking
        self._score = dict(zip(ranking.ids, map(float, ranking.scores), strict=True))
        self._rank = {name: rank for rank, name in enumerate(ranking.ids, 1)}
        scores = {**listed.positives}
        scores |= {name: self._score[name] for name in topic.positives if name in self._score}
        self._positives = [
            (documents[name], scores.get(name)) for name in topic.positives if name in documents
        ]
        for document, _ in self._positives:
            report.positive_rank(self._rank.get(document.id))
        teacher_scores = teacher(topic.query.id) if teacher else {}
        self._filters = NegativeFilters(topic, self._positives, options, teacher_scores)
        report.positives_without_score += self._filters.cannot_judge
        report.unknown_to_teacher += self._filters.unknown_to_teacher
        report.candidates += len(ranking)
        self._taken: list[Document] = []
        self._taken_texts: set[str] = set()
        self._queue = [
            name for name, rank in self._rank.items() if self._may_be_fetched(name, rank)
        ]
        if options.pick == "random":
            random.Random(f"{options.seed} {topic.query.id}").shuffle(self._queue)

    def _may_be_fetched(self, name: str, rank: int) -> bool:
        reason = self._filters.before_text(name, rank, self._score[name])
        if reason is not None:
            self._report.drop(reason)
        return reason is None

    def wants(self) -> bool:
        """Whether there is room, and something left to fill it."""
        return bool(self._queue) and len(self._taken) < self._options.negatives

    def next_ids(self) -> list[str]:
        """The next candidates, as many as there is room for."""
        room = self._options.negatives - len(self._taken)
        names, self._queue = self._queue[:room], self._queue[room:]
        return names

    def offer(self, document: Document) -> None:
        """Take a candidate unless the filters by text leave it out."""
        reason = self._filters.by_text(document, self._taken_texts)
        if reason is not None:
            self._report.drop(reason)
            return
        self._taken.append(document)
        self._taken_texts.add(text_key(document))

    def example(self) -> Example | None:
        """The finished example; None if it has no negatives, unless ``keep_bare``."""
        report, options = self._report, self._options
        report.not_needed += len(self._queue)
        if not self._taken:
            report.without_negatives += 1
            if not options.keep_bare:
                return None
        elif len(self._taken) < options.negatives:
            report.with_fewer += 1
        negatives = sorted(self._taken, key=lambda document: self._rank[document.id])
        for document in negatives:
            report.negative(self._rank[document.id], self._score[document.id], self._filters.best)
        report.written += 1
        report.positives += len(self._positives)
        return Example(
            self.topic.query.id,
            self.topic.query.text,
            [self._passage(document, score) for document, score in self._positives],
            [
                self._passage(document, self._score[document.id], self._rank[document.id])
                for document in negatives
            ],
        )

    def _passage(self, document: Document, score: float | None, rank: int | None = None) -> Passage:
        title = "" if self._options.texts_only else document.title
        value = None if score is None else short(score)
        return Passage(document.id, title, document.text, value, rank)
