"""Hard negatives out of candidate lists: who is near the query and yet no answer to it.

A list comes from a search that is handed over as a function, or from a run; this file knows neither
indexes nor files. What looks like an answer that nobody judged, a false negative, is left out: by
its text, by its score beside the positive's, or by another model's scores.

The margins are those of NV-Retriever (Moreira et al., 2024): ``margin`` is its TopK-MarginPos,
``margin_ratio`` its TopK-PercPos, written as the share that is taken off the positive's score.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.examples import Example, Passage, short
from dupmae_toolkit.mining.report import MiningReport
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Document, Ranking

PICKS = ("random", "top")
#: Topics that are searched together.
BATCH = 256


@dataclass(slots=True)
class Candidates:
    """What a search lists for a topic: ranks from 1, and the scores of positives where known."""

    ranking: Ranking
    positives: dict[str, float] = field(default_factory=dict)


#: The candidates of each of some topics.
Search = Callable[[Sequence[Topic]], Sequence[Candidates]]
#: Documents by id; ids that are not there are left out.
Fetch = Callable[[Iterable[str]], Mapping[str, Document]]
#: Another model's scores of a topic's documents by id, empty where it has none.
TeacherScores = Callable[[str], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Which candidates become negatives.

    negatives: how many of each query, at most. from_rank, to_rank: the ranks looked at, from 1 and
        inclusive; None is the list's end. Positives in the list keep their ranks.
    pick: ``random`` draws evenly from what passes the filters, as ``seed`` and the query's id say,
        whatever other queries there are; ``top`` takes the first.
    margin, margin_ratio: a candidate that scores more than p − margin, or p − ratio · |p|, is taken
        for a false negative; p is the best score of a positive. A query none of whose positives has
        a score cannot be judged so, and gets no negatives.
    same_text: leave out what has the text of a positive, of the query, or of a negative that is
        taken already; case and white space do not count. same_title: leave out what has the title
        of a positive, or the query as its title.
    drop_self: leave out the document whose id is the query's.
    teacher_margin: the same as ``margin``, by the teacher's scores; a candidate that the teacher
        does not know stays, and so do all where it knows no positive.
    texts_only: write no titles (where they are the queries), and nothing that has a title alone.
    keep_bare: keep queries without negatives.
    """

    negatives: int = 15
    from_rank: int = 1
    to_rank: int | None = None
    pick: str = "random"
    seed: int = 1
    margin: float | None = None
    margin_ratio: float | None = None
    same_text: bool = True
    same_title: bool = False
    drop_self: bool = False
    teacher_margin: float = 0.0
    texts_only: bool = False
    keep_bare: bool = False

    def __post_init__(self) -> None:
        if self.negatives < 1:
            raise InputError(f"{self.negatives} negatives asked for; ask for at least 1")
        if self.from_rank < 1:
            raise InputError(f"from rank {self.from_rank}: ranks count from 1")
        if self.to_rank is not None and self.to_rank < self.from_rank:
            raise InputError(
                f"ranks {self.from_rank} to {self.to_rank}: the last is before the first"
            )
        if self.pick not in PICKS:
            raise InputError(f"pick {self.pick!r}: choose one of {', '.join(PICKS)}")
        check_margins(self.margin, self.margin_ratio, self.teacher_margin)

    def ceiling(self, positive: float | None) -> float | None:
        """The largest score that a negative may have; None where a margin cannot be judged."""
        return ceiling(positive, self.margin, self.margin_ratio)


def check_margins(margin: float | None, ratio: float | None, teacher: float = 0.0) -> None:
    """Raise InputError for margins that are no finite numbers, and for a ratio outside [0, 1]."""
    for name, value in (("margin", margin), ("teacher margin", teacher)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} {value}: give a finite number")
    if ratio is not None and not 0 <= ratio <= 1:
        raise InputError(f"margin ratio {ratio}: give a share between 0 and 1, such as 0.05")


def ceiling(positive: float | None, margin: float | None, ratio: float | None) -> float | None:
    """The largest score of a negative beside a positive's score; infinite without margins."""
    if margin is None and ratio is None:
        return math.inf
    if positive is None:
        return None
    by_margin = math.inf if margin is None else positive - margin
    by_ratio = math.inf if ratio is None else positive - ratio * abs(positive)
    return min(by_margin, by_ratio)


def mine(
    topics: Iterable[Topic],
    search: Search,
    fetch: Fetch,
    options: MiningOptions | None = None,
    report: MiningReport | None = None,
    teacher: TeacherScores | None = None,
) -> Iterator[Example]:
    """The examples of topics, in their order, streamed; ``report`` is filled as they come.

    Texts are fetched only of as many candidates as are needed, so the filters by text count the
    candidates that they saw. Raises InputError where a candidate has no document.
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
        searches = [
            _Choice(topic, listed, documents, options, report, teacher)
            for topic, listed in zip(found, lists, strict=True)
        ]
        _choose(searches, fetch)
        for choice in searches:
            example = choice.example()
            if example is not None:
                yield example


def _choose(choices: Sequence[_Choice], fetch: Fetch) -> None:
    """Fill all choices, with one fetch for all of them in each round."""
    open_ones = [choice for choice in choices if choice.wants()]
    while open_ones:
        asked = [choice.next_ids() for choice in open_ones]
        documents = fetch({name for names in asked for name in names})
        for choice, names in zip(open_ones, asked, strict=True):
            for name in names:
                if name not in documents:
                    raise InputError(
                        f"topic {choice.topic.query.id} lists document {name!r}, which is not "
                        "among the documents; name the corpus that was searched"
                    )
                choice.offer(documents[name])
        open_ones = [choice for choice in open_ones if choice.wants()]


class _Choice:
    """One topic: what is left of its candidates, and what was taken."""

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
        known = [score for _, score in self._positives if score is not None]
        self._best = max(known, default=None)
        for document, _ in self._positives:
            report.positive_rank(self._rank.get(document.id))
        self._texts = {_text_key(document) for document, _ in self._positives}
        self._texts.add(_plain(topic.query.text))
        self._titles = {_plain(document.title) for document, _ in self._positives}
        self._titles.add(_plain(topic.query.text))
        self._titles.discard("")
        self._taken: list[Document] = []
        self._taken_texts: set[str] = set()
        report.candidates += len(ranking)
        self._queue = self._by_score(teacher(topic.query.id) if teacher else {})
        if options.pick == "random":
            random.Random(f"{options.seed} {topic.query.id}").shuffle(self._queue)

    def _by_score(self, teacher: Mapping[str, float]) -> list[str]:
        """The ids that pass the filters that need no text, in the order of their ranks."""
        options, drop = self._options, self._report.drop
        limit = options.ceiling(self._best)
        if limit is None:
            self._report.positives_without_score += 1
        taught = [teacher[d.id] for d, _ in self._positives if d.id in teacher]
        if teacher and not taught:
            self._report.unknown_to_teacher += 1
        highest = max(taught) - options.teacher_margin if taught else math.inf
        kept = []
        for name, rank in self._rank.items():
            if rank < options.from_rank or rank > (options.to_rank or rank):
                drop("rank")
            elif name in self.topic.answers:
                drop("positive")
            elif options.drop_self and name == self.topic.query.id:
                drop("self")
            elif limit is None or self._score[name] > limit:
                drop("margin")
            elif teacher.get(name, -math.inf) > highest:
                drop("teacher")
            else:
                kept.append(name)
        return kept

    def wants(self) -> bool:
        """Whether there is room, and something left to fill it."""
        return bool(self._queue) and len(self._taken) < self._options.negatives

    def next_ids(self) -> list[str]:
        """As many candidates as there is room for."""
        room = self._options.negatives - len(self._taken)
        names, self._queue = self._queue[:room], self._queue[room:]
        return names

    def offer(self, document: Document) -> None:
        """Take a candidate unless its text speaks against it."""
        options, drop = self._options, self._report.drop
        key = _text_key(document)
        if options.texts_only and not document.text.strip():
            drop("blank")
        elif options.same_text and key in self._texts:
            drop("same_text")
        elif options.same_title and _plain(document.title) in self._titles:
            drop("same_title")
        elif options.same_text and key in self._taken_texts:
            drop("duplicate")
        else:
            self._taken.append(document)
            self._taken_texts.add(key)

    def example(self) -> Example | None:
        """The finished example; None where it has no negatives and is not to be kept so."""
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
            report.negative(self._rank[document.id], self._score[document.id], self._best)
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

    def _passage(self, document: Document, score: Any, rank: int | None = None) -> Passage:
        title = "" if self._options.texts_only else document.title
        value = None if score is None else short(score)
        return Passage(document.id, title, document.text, value, rank)


def _plain(text: str) -> str:
    """Without case, and with one space for any white space."""
    return " ".join(text.casefold().split())


def _text_key(document: Document) -> str:
    return _plain(document.text) or _plain(document.title)
