"""What a search is asked (``Request``) and what it returns (``Answer``)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np

from dupmae_toolkit.errors import InputError, counted, type_of
from dupmae_toolkit.search.feedback import Feedback
from dupmae_toolkit.search.fusion import METHODS, NORMS, Fusion, not_searched

#: The parts of a score, in the order in which they are weighted and added up.
PARTS = ("dense", "lexical", "bm25")
#: The parts of the plain score, which the encoder was trained for.
PLAIN = PARTS[:2]
#: The part that needs no vectors, where it is searched alone.
WORDS = PARTS[2:]
Mode = Literal["hybrid", "dense", "lexical", "bm25"]
MODES: tuple[str, ...] = get_args(Mode)
#: What a document scores by its passages: what the best one does, or the three best together.
MAX, SUM3 = "max", "sum3"
AGGREGATES = (MAX, SUM3)
#: The default depth of a leg is four times k, but at least the first and at most the second number.
LEAST_DEPTH, MOST_DEPTH = 100, 1000


@dataclass(frozen=True, slots=True)
class Certificate:
    """Whether one query's ranking is proven to be the ranking of all documents.

    depths: for each part that was searched, the number of documents read from its leg.
    """

    certified: bool
    depths: dict[str, int]

    def to_dict(self) -> dict[str, Any]:
        depths = {f"{part}_depth": self.depths.get(part) for part in PARTS}
        return {"certified": self.certified} | depths


@dataclass(slots=True)
class Answer:
    """The ranking of one query: n documents by number, best first, and their scores, float32 [n].

    parts: the completed scores of each part, float32 [n], by the part's name. snapshot: the state
    of the index in which the documents have these numbers. offset: how many better documents were
    left out.
    """

    documents: np.ndarray
    scores: np.ndarray
    parts: dict[str, np.ndarray]
    certificate: Certificate
    snapshot: Any = None
    offset: int = 0


@dataclass(frozen=True, slots=True)
class Request:
    """What is wanted for each query.

    depth: how many documents each leg returns at first. parts: those that the score is made of;
    empty: that of the mode, or the plain ones. idf_power: see ``Frequencies.factors``; 0 leaves
    the weights of a query's tokens as they are. filter, among: a condition, and the ids, of the
    documents that are searched; None: all. offset: how many better documents to leave out; None if
    no pages are asked for, 0 for the first of them. aggregate: of an index of passages, one of
    ``AGGREGATES``. feedback: how the first documents change the query; None: they do not.
    query_terms: how many tokens, and how many words, of a query are searched, those of the largest
    weight after frequencies; None: all.
    """

    k: int = 10
    mode: str = "hybrid"
    fusion: Fusion = field(default_factory=Fusion)
    depth: int = 100
    exact: bool = False
    parts: tuple[str, ...] = ()
    idf_power: float = 0.0
    filter: str | None = None
    among: frozenset[str] | None = None
    offset: int | None = None
    aggregate: str = MAX
    feedback: Feedback | None = None
    query_terms: int | None = None
    #: Whether queries are revised before they are searched; see ``revising``.
    revises: bool = field(default=False, init=False)
    #: How many documents are ranked, those before the offset included.
    until: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InputError(f"there is no mode {self.mode!r}; choose one of {', '.join(MODES)}")
        check_k(self.k)
        object.__setattr__(self, "k", int(self.k))  # numpy's small integers overflow in sums
        check_idf_power(self.idf_power)
        if not self.parts:
            parts = PLAIN if self.mode == "hybrid" else (self.mode,)
            object.__setattr__(self, "parts", parts)
        object.__setattr__(self, "until", self.k + (self.offset or 0))
        if self.feedback is not None or self.query_terms is not None:
            self._check_revising()
        if self.depth < self.until:
            raise InputError(
                f"depth is {self.depth}; it must be at least k, which is {self.k}"
                + (f", and the offset, {self.offset}" if self.offset else "")
            )
        if self.mode != "hybrid":
            return
        self._check_fusion()
        if self.exact and not self.fusion.is_sum:
            raise InputError(
                f"fusion {self.fusion.method} with norm {self.fusion.normalisation} depends on "
                "which documents are found and cannot be certified exact; use sum, or linear or "
                "combsum with norm none"
            )

    def _check_revising(self) -> None:
        if self.feedback is not None and not isinstance(self.feedback, Feedback):
            raise InputError(f"feedback is {type_of(self.feedback)}; give a Feedback")
        most: Any = self.query_terms
        whole = isinstance(most, int | np.integer) and not isinstance(most, bool)
        if most is not None and not (whole and most >= 1):
            raise InputError(f"query terms {most!r}; it must be a whole number of at least 1")
        object.__setattr__(self, "revises", True)

    def _check_fusion(self) -> None:
        if self.fusion.method not in METHODS or self.fusion.norm not in (None, *NORMS):
            raise not_searched(self.fusion)
        weights, parts = self.fusion.weights, self.parts
        if weights is not None and len(weights) != len(parts):
            raise InputError(
                f"{counted(len(weights), 'weight')} for the {len(parts)} parts of the score; give "
                f"one each for {', '.join(parts)}"
            )


def page(answers: Sequence[Answer], offset: int) -> list[Answer]:
    """The same answers without their best ``offset`` documents."""
    return [
        replace(
            answer,
            documents=answer.documents[offset:],
            scores=answer.scores[offset:],
            parts={part: scores[offset:] for part, scores in answer.parts.items()},
            offset=offset,
        )
        for answer in answers
    ]


def default_depth(until: int) -> int:
    """How many documents each leg returns at first, where ``until`` are ranked."""
    return max(until, min(max(4 * until, LEAST_DEPTH), MOST_DEPTH))


def check_offset(offset: Any) -> None:
    """Raise InputError unless ``offset`` is a whole number of at least 0."""
    if not isinstance(offset, int | np.integer) or isinstance(offset, bool) or offset < 0:
        raise InputError(f"offset is {offset!r}; it must be a whole number of at least 0")


def check_k(k: Any) -> None:
    """Raise InputError unless ``k`` is a whole number of at least 1."""
    if not isinstance(k, int | np.integer) or isinstance(k, bool) or k < 1:
        raise InputError(f"k is {k!r}; it must be a whole number of at least 1")


def check_idf_power(power: Any) -> None:
    """Raise InputError unless ``power`` is a finite number of at least 0."""
    number = isinstance(power, int | float | np.number) and not isinstance(power, bool)
    if not number or not 0 <= power < math.inf:
        raise InputError(f"idf power {power!r}; it must be a finite number of at least 0")
