"""Which candidates may be hard negatives: filters by rank, judgement, score, teacher and text.

A document near a query may answer it although nobody judged it. Training with such a false negative
does harm, so documents that look like answers are left out: by their score compared with the
positive's, by another model's scores, or by their text. ``MiningOptions`` says what each filter
does; ``report.REASONS`` names the reasons that are counted.

The margins are those of NV-Retriever (Moreira et al., 2024): ``margin`` is its TopK-MarginPos,
``margin_ratio`` its TopK-PercPos, given as the share that is subtracted from the positive's score.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.topics import Topic
from dupmae_toolkit.records import Document, is_blank

PICKS = ("random", "top")

#: Another model's scores of a topic's documents by id, empty where it has none.
TeacherScores = Callable[[str], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class MiningOptions:
    """Which candidates become negatives, and how many.

    negatives: the most per query. from_rank, to_rank: the first and the last rank considered,
        counted from 1; None is the list's end. Positives in the list keep their ranks.
    pick: ``random`` draws uniformly from the candidates that pass the filters; the draw depends
        only on ``seed`` and the query's id, not on other queries. ``top`` takes the first.
    margin, margin_ratio: a candidate that scores more than p − margin, or p − ratio · |p|, counts
        as a false negative; p is the best score of a positive. A query without a scored positive
        cannot be judged this way, and gets no negatives.
    same_text: leave out documents with the text of a positive, of the query, or of a negative
        already taken; case and white space do not count. same_title: leave out documents with the
        title of a positive, or with the query as title.
    drop_self: leave out the document whose id is the query's.
    teacher_margin: like ``margin``, by the teacher's scores. A candidate without such a score
        stays, and so do all candidates if no positive has one.
    texts_only: write no titles (for use when titles are the queries), and leave out documents
        that have only a title.
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


def check_margins(margin: float | None, ratio: float | None, teacher: float = 0.0) -> None:
    """Raise InputError for margins that are not finite, and for a ratio outside [0, 1]."""
    for name, value in (("margin", margin), ("teacher margin", teacher)):
        if value is not None and not math.isfinite(value):
            raise InputError(f"{name} {value}: give a finite number")
    if ratio is not None and not 0 <= ratio <= 1:
        raise InputError(f"margin ratio {ratio}: give a share between 0 and 1, such as 0.05")


def highest_score(positive: float, margin: float | None, ratio: float | None) -> float:
    """The highest score allowed for a negative, given a positive's; infinite without margins."""
    by_margin = math.inf if margin is None else positive - margin
    by_ratio = math.inf if ratio is None else positive - ratio * abs(positive)
    return min(by_margin, by_ratio)


class NegativeFilters:
    """The filters of one topic. Each returns the reason to leave a candidate out, or None.

    positives: the topic's positives that have a document, each with its score in the search, None
    if unknown. teacher: the teacher's scores of the topic's documents by id.
    """

    def __init__(
        self,
        topic: Topic,
        positives: Sequence[tuple[Document, float | None]],
        options: MiningOptions,
        teacher: Mapping[str, float],
    ) -> None:
        self._topic, self._options, self._teacher = topic, options, teacher
        #: The best score of a positive; None if none has a score.
        self.best = max((score for _, score in positives if score is not None), default=None)
        has_margin = options.margin is not None or options.margin_ratio is not None
        #: Whether there is a margin, but no positive's score to apply it to.
        self.cannot_judge = has_margin and self.best is None
        self._highest = (
            math.inf
            if self.best is None
            else highest_score(self.best, options.margin, options.margin_ratio)
        )
        by_teacher = [teacher[document.id] for document, _ in positives if document.id in teacher]
        #: Whether the teacher has scores for the topic, but for no positive.
        self.unknown_to_teacher = bool(teacher) and not by_teacher
        self._highest_by_teacher = (
            max(by_teacher) - options.teacher_margin if by_teacher else math.inf
        )
        query = _plain(topic.query.text)
        self._texts = {text_key(document) for document, _ in positives} | {query}
        self._titles = ({_plain(document.title) for document, _ in positives} | {query}) - {""}

    def before_text(self, name: str, rank: int, score: float) -> str | None:
        """Filter by what is known without the text: id, rank and scores."""
        options = self._options
        if rank < options.from_rank or rank > (options.to_rank or rank):
            return "rank"
        if name in self._topic.answers:
            return "positive"
        if options.drop_self and name == self._topic.query.id:
            return "self"
        if self.cannot_judge or score > self._highest:
            return "margin"
        if self._teacher.get(name, -math.inf) > self._highest_by_teacher:
            return "teacher"
        return None

    def by_text(self, document: Document, taken: Container[str]) -> str | None:
        """Filter by text and title. taken: ``text_key`` of the topic's negatives so far."""
        options, key = self._options, text_key(document)
        if options.texts_only and is_blank(document.text):
            return "blank"
        if options.same_text and key in self._texts:
            return "same_text"
        if options.same_title and _plain(document.title) in self._titles:
            return "same_title"
        if options.same_text and key in taken:
            return "duplicate"
        return None


def text_key(document: Document) -> str:
    """A key that is the same for documents whose texts differ only in case and white space."""
    return _plain(document.text) or _plain(document.title)


def _plain(text: str) -> str:
    """Case-folded, with each run of white space as one space."""
    return " ".join(text.casefold().split())
