"""Whether a weight of its own for each query would pay: predicted, and measured on topics held out.

The dense weight of a query is the fixed one times exp(x · β), where x are features of the query.
β is a ridge regression on the change, as a logarithm, that is best for each topic: the nearest to 0
of its optima, found exactly. How strongly β is drawn to 0 is chosen by values on inner folds, and
"not at all: fixed weights" is one of the choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.bootstrap import Interval, interval
from dupmae_toolkit.evaluation.line_search import EQUAL, curve
from dupmae_toolkit.evaluation.topic_sets import TopicSet
from dupmae_toolkit.evaluation.tuning_topics import Topic, weigh
from dupmae_toolkit.search.engine import Candidates
from dupmae_toolkit.search.frequencies import Frequencies

#: What is known of a query before its documents are ranked by the sum.
FEATURES = (
    "words (logarithm)",
    "mean idf",
    "largest idf",
    "share of unknown words",
    "overlap of the first ten by dense and by bm25 or lexical",
    "lead of the first by dense",
    "lead of the first by the other part",
)
_PENALTIES = (1.0, 10.0, 100.0, 1000.0, 10000.0)
#: The largest change of a weight, as a logarithm.
_MOST = 3.0
_FIRST, _LISTED = 10, 100
#: Inner folds, on which the penalty is chosen.
_INNER = 3


@dataclass(frozen=True, slots=True)
class PerQuery:
    """Means on topics held out: with fixed weights, with predicted ones, and their difference.

    predicting: in how many of the folds anything but fixed weights was chosen.
    """

    fixed: Interval
    predicted: Interval
    gain: Interval
    folds: int
    predicting: int


def features_of(text: str, found: Candidates, counted: Frequencies) -> np.ndarray:
    """The features of a query, float64 [features]; see ``FEATURES``.

    found: its candidates, of which the first part is dense. A lead is the distance between the
    first and the tenth score of a list, in standard deviations of its first hundred.
    """
    words = count_words(text)
    frequencies = counted.of_words(list(words)) if words else np.zeros(0)
    known = frequencies > 0
    idf = counted.idf(frequencies[known]) if known.any() else np.zeros(1)
    tops = [set(found.documents[(row > 0) & (row <= _FIRST)].tolist()) for row in found.ranks]
    shared = len(tops[0] & tops[-1]) / _FIRST
    return np.array(
        [
            np.log1p(sum(words.values())),
            idf.mean(),
            idf.max(),
            1 - known.mean() if len(known) else 1.0,
            shared,
            _lead(found, 0),
            _lead(found, -1),
        ]
    )


def _lead(found: Candidates, part: int) -> float:
    ranks = found.ranks[part]
    listed = np.sort(found.scores[part][(ranks > 0) & (ranks <= _LISTED)])[::-1]
    spread = float(listed.std()) if len(listed) > _FIRST else 0.0
    return float(listed[0] - listed[_FIRST - 1]) / spread if spread > 0 else 0.0


def predicted_gain(
    topics: Mapping[str, Topic],
    features: Mapping[str, np.ndarray],
    folds: int = 5,
    seed: int = 1,
    given: Sequence[Sequence[float]] = (),
) -> PerQuery:
    """The value of predicted weights on topics held out, beside that of fixed weights.

    topics: candidates of the chosen setting; the first part's weight is predicted. features: of
    each topic, float64 [features]. Fixed weights, β and its penalty are found on the other folds
    alone. given: see ``tuning.tune``.
    """
    fixed: dict[str, float] = {}
    values: dict[str, float] = {}
    predicting = 0
    for held in tuning.dealt(list(topics), folds, seed):
        (kept,) = tuning.without({None: topics}, held).values()
        weights = np.array(tuning.tune(list(kept.values()), given)[0])
        penalty = _penalty(kept, features, seed, given)
        predicting += penalty is not None
        predict = _fitted(kept, features, weights, [penalty])[penalty]
        for name in held:
            fixed[name] = topics[name].value(weights)
            values[name] = topics[name].value(changed(weights, predict(features[name])))
    with_fixed = np.array([fixed[name] for name in topics])
    with_own = np.array([values[name] for name in topics])
    return PerQuery(
        interval(with_fixed), interval(with_own), interval(with_own - with_fixed), folds, predicting
    )


def changed(weights: np.ndarray, change: float) -> np.ndarray:
    """The weights with the first one times exp(change)."""
    moved = weights.copy()
    moved[0] *= np.exp(np.clip(change, -_MOST, _MOST))
    return moved


def best_change(topic: Topic, weights: np.ndarray) -> float:
    """The logarithm of the factor of the first weight that is best for one topic.

    0 if no factor is better than 1; of several, the nearest to 0; within exp(±3).
    """
    rest = weights[1:].sum()
    if not len(topic.relevant) or weights[0] <= 0 or rest <= 0:
        return 0.0
    others = weigh(topic.scores[1:], weights[1:] / rest)
    found = curve(TopicSet([topic]), others, topic.scores[0])
    good = found.means >= found.means.max() - EQUAL
    with np.errstate(divide="ignore"):
        lows, highs = (
            np.clip(np.log(w / (1 - w)) - np.log(weights[0] / rest), -_MOST, _MOST)
            for w in (found.lows[good], found.highs[good])
        )
    if ((lows <= 0) & (highs >= 0)).any():
        return 0.0
    # A little inside, not at the very end, where another document draws level.
    ends = np.concatenate([lows + (highs - lows) * 0.1, highs - (highs - lows) * 0.1])
    return float(ends[np.argmin(abs(ends))])


class _Ridge:
    """A linear prediction of changes from features, without features of no spread."""

    def __init__(self, rows: np.ndarray, changes: np.ndarray, penalty: float | None) -> None:
        """penalty: None: always predict 0."""
        self._mean, spread = rows.mean(axis=0), rows.std(axis=0)
        self._scale = np.where(spread > 0, spread, np.inf)
        self._beta, self._start = np.zeros(rows.shape[1]), 0.0
        if penalty is not None:
            standard = (rows - self._mean) / self._scale
            squares = standard.T @ standard + penalty * np.eye(rows.shape[1])
            self._start = float(changes.sum() / (len(changes) + penalty))
            self._beta = np.linalg.solve(squares, standard.T @ (changes - self._start))

    def __call__(self, row: np.ndarray) -> float:
        return self._start + float((row - self._mean) / self._scale @ self._beta)


def _penalty(
    topics: Mapping[str, Topic],
    features: Mapping[str, np.ndarray],
    seed: int,
    given: Sequence[Sequence[float]],
) -> float | None:
    """The penalty whose predictions measure best on inner folds; None: fixed weights do.

    The fixed weights are tuned without the inner fold, too: on the topics that they were tuned on
    nothing would be better than they are.
    """
    if len(topics) < 2:
        return None
    totals = dict.fromkeys((None, *_PENALTIES), 0.0)
    for held in tuning.dealt(list(topics), min(_INNER, len(topics)), seed):
        (kept,) = tuning.without({None: topics}, held).values()
        weights = np.array(tuning.tune(list(kept.values()), given)[0])
        predictions = _fitted(kept, features, weights, list(totals))
        for name in held:
            for penalty, predict in predictions.items():
                moved = changed(weights, predict(features[name]))
                totals[penalty] += topics[name].value(moved)
    best: float | None = None
    for penalty, total in totals.items():
        if total > totals[best] + EQUAL * len(topics):
            best = penalty
    return best


def _fitted(
    topics: Mapping[str, Topic],
    features: Mapping[str, np.ndarray],
    weights: np.ndarray,
    penalties: Sequence[float | None],
) -> dict[float | None, _Ridge]:
    """What each penalty makes of the best changes of these topics."""
    changes = np.array([best_change(topic, weights) for topic in topics.values()])
    rows = np.stack([features[name] for name in topics])
    return {penalty: _Ridge(rows, changes, penalty) for penalty in penalties}
