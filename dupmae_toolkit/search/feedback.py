"""Feedback: the first documents that a query finds make a second query.

A query and documents are mappings from terms to weights of at least 0. The mixtures are of the
vectors before document frequencies; these weigh the terms of the second query as of any other. So
that a part keeps its share of a hybrid score, the terms' mixture has the size of the query: the sum
of its weights in RM3, its Euclidean length in Rocchio's formula.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, get_args

import numpy as np

from dupmae_toolkit.errors import InputError

FeedbackMethod = Literal["rm3", "rocchio", "average"]
FEEDBACK_METHODS: tuple[str, ...] = get_args(FeedbackMethod)
#: The share of the query where none is given.
WEIGHT = 0.5

_Key = TypeVar("_Key", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Feedback:
    """How the first documents change a query.

    method: ``rm3`` (terms by ``rm3``, dense vectors by Rocchio's formula), ``rocchio`` (both by
    Rocchio's), ``average`` (Rocchio's, where the query counts as one more document). documents: how
    many of the first are read. terms: how many of their terms, those of the largest weight, enter
    the mixture; tokens and words apart. weight: the share of the query, from 0 to 1; None: one
    half, and for ``average`` 1 / (documents found + 1), where no other is taken.

    Raises InputError for settings that make no sense.
    """

    method: str = "rm3"
    documents: int = 10
    terms: int = 10
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.method not in FEEDBACK_METHODS:
            raise InputError(
                f"there is no feedback {self.method!r}; choose one of {', '.join(FEEDBACK_METHODS)}"
            )
        for name, number in (("documents", self.documents), ("terms", self.terms)):
            whole = isinstance(number, int | np.integer) and not isinstance(number, bool)
            if not whole or number < 1:
                raise InputError(
                    f"feedback of {number!r} {name}; it must be a whole number of at least 1"
                )
            object.__setattr__(self, name, int(number))
        if self.method == "average":
            if self.weight is not None:
                raise InputError(
                    "feedback average counts the query as one more document; leave out its weight, "
                    "or choose rocchio"
                )
            return
        weight = WEIGHT if self.weight is None else self.weight
        real = isinstance(weight, int | float | np.number) and not isinstance(weight, bool)
        if not real or not 0 <= weight <= 1:
            raise InputError(f"feedback's weight is {weight!r}; it must be a number from 0 to 1")
        object.__setattr__(self, "weight", float(weight))

    def share(self, found: int) -> float:
        """The weight of the query beside so many documents."""
        return 1 / (found + 1) if self.weight is None else self.weight

    def to_dict(self) -> dict[str, Any]:
        """The settings, for a run's metadata; a weight of None depends on the documents found."""
        return {name: getattr(self, name) for name in self.__slots__}

    def dense(self, query: np.ndarray, documents: np.ndarray) -> np.ndarray:
        """Rocchio's dense vector, float32 [d], of a query [d] and n documents [n, d].

        α · query + (1 − α) · mean of the documents; the query itself where there are none. With
        α = 1 / (n + 1), it is the mean of them all. Li, Mourad, Zhuang, Koopman and Zuccon, ACM
        TOIS 41(3), 2023, section 3.2; Pyserini's vector PRF.
        """
        if not len(documents):
            return np.asarray(query, np.float32)
        weight = self.share(len(documents))
        mean = np.asarray(documents, np.float64).mean(axis=0)
        mixed = weight * np.asarray(query, np.float64) + (1 - weight) * mean
        return np.asarray(mixed, np.float32)

    def mixed(
        self,
        query: Mapping[_Key, float],
        documents: Sequence[Mapping[_Key, float]],
        scores: Sequence[float],
    ) -> dict[_Key, float]:
        """The terms of the second query and their weights, those of the query first.

        scores: of the documents in the first ranking. A query or documents without terms change
        nothing. Terms of equal weight are taken in their order.
        """
        weight = self.share(len(documents))
        mix = rm3 if self.method == "rm3" else rocchio
        return mix(query, documents, scores, self.terms, weight)


def rm3(
    query: Mapping[_Key, float],
    documents: Sequence[Mapping[_Key, float]],
    scores: Sequence[float],
    terms: int,
    weight: float,
) -> dict[_Key, float]:
    """The relevance model, interpolated with the query (RM3), times the sum of the query's weights.

    P(t | R) ∝ Σ over documents of P(t | D) · P(Q | D), where P(t | D) is the term's share of the
    sum of the document's weights, and the score stands for the likelihood P(Q | D), as Anserini has
    it; scores below 0 count as 0, and if none is above 0, all documents count the same. The
    ``terms`` largest are scaled to a sum of 1. Then P'(t) = weight · P(t | Q) + (1 − weight) ·
    P(t | R). Abdul-Jaleel et al., UMass at TREC 2004; Lavrenko and Croft, SIGIR 2001.
    """
    likelihoods = [max(float(score), 0.0) for score in scores]
    if not any(likelihoods):
        likelihoods = [1.0] * len(documents)
    model: dict[_Key, float] = {}
    for document, likelihood in zip(documents, likelihoods, strict=True):
        size = sum(document.values())
        for term, own in document.items():
            model[term] = model.get(term, 0.0) + likelihood * own / size
    return _interpolated(query, _largest(model, terms), weight, sum)


def rocchio(
    query: Mapping[_Key, float],
    documents: Sequence[Mapping[_Key, float]],
    scores: Sequence[float],
    terms: int,
    weight: float,
) -> dict[_Key, float]:
    """Rocchio's query without negative examples, times the query's Euclidean length.

    weight · q / ‖q‖ + (1 − weight) · m / ‖m‖, where m has the ``terms`` largest of the mean of the
    documents, each scaled to length 1; as Anserini has it. Rocchio, The SMART Retrieval System,
    1971, chapter 14. scores: not used.
    """
    mean: dict[_Key, float] = {}
    for document in documents:
        length = _length(document.values())
        for term, own in document.items():
            mean[term] = mean.get(term, 0.0) + own / length / len(documents)
    return _interpolated(query, _largest(mean, terms), weight, _length)


def _interpolated(
    query: Mapping[_Key, float], model: Mapping[_Key, float], weight: float, size: Any
) -> dict[_Key, float]:
    """weight · query + (1 − weight) · model, where the model is scaled to the query's size."""
    own, others = size(query.values()), size(model.values())
    if not own or not others:
        return dict(query)
    mixed = {term: weight * value for term, value in query.items()}
    for term, value in model.items():
        mixed[term] = mixed.get(term, 0.0) + (1 - weight) * own * (value / others)
    return mixed


def _largest(weights: Mapping[_Key, float], count: int) -> dict[_Key, float]:
    found: list[Any] = sorted(weights.items(), key=lambda item: (-item[1], item[0]))
    return dict(found[:count])


def _length(values: Any) -> float:
    return math.hypot(*values)
