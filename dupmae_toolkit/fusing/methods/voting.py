"""Elections: each list is a voter, each document a candidate.

borda: Aslam and Montague, Models for metasearch, SIGIR 2001. With c candidates, a list gives its
first c points, its second c − 1, and so on. The candidates that it lacks get equal shares of the
points that are left.

condorcet: Montague and Aslam, Condorcet fusion for improved retrieval, CIKM 2002. Of every
pair of candidates, the one that more lists rank higher wins; a list ranks what it holds above what
it lacks. Majorities can be circular, and with two lists most pairs are tied. So candidates are
ordered by their wins minus their defeats (Copeland, A reasonable social welfare function, 1951).
Where majorities have no circles and no ties, this gives the order of the majorities.

In the example c is 3. List b lacks z and x, which share 1 + 2 points. Both lists rank y above z;
x and z are decided by list a alone; x and y are tied:

>>> from dupmae_toolkit import Run, fuse
>>> a = Run.from_dict({"q": {"x": 4, "y": 3, "z": 2}})
>>> b = Run.from_dict({"q": {"y": 10}})
>>> fuse([a, b], "borda").to_dict()["q"]
{'y': 5.0, 'x': 4.5, 'z': 2.5}
>>> fuse([a, b], "condorcet").to_dict()["q"]
{'y': 1.0, 'x': 1.0, 'z': -2.0}
"""

from __future__ import annotations

import numpy as np

from dupmae_toolkit.fusing.method import Method, Parameters

#: How many comparisons are held in memory at once.
_AT_ONCE = 500_000
#: If votes differ by a smaller share of all votes, they are tied: sums of weights are rounded.
_TIED = 1e-12


def _points(ranks: np.ndarray, _: Parameters) -> np.ndarray:
    held = ranks > 0
    left = (len(ranks) - held.sum() + 1) / 2
    return np.where(held, len(ranks) + 1.0 - ranks, left)


def _places(ranks: np.ndarray, _: Parameters) -> np.ndarray:
    """The ranks; what a list lacks gets a common rank below all of them."""
    return np.where(ranks > 0, ranks, len(ranks) + 1).astype(np.float64)


def _wins_less_defeats(places: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Copeland's count, float64 [n]. Takes n² comparisons for each list."""
    count = places.shape[1]
    found = np.zeros(count)
    ordered = places.astype(np.int16 if count < 2**15 - 1 else np.int32)
    # Without weights, votes are counted in small integers, several times as fast.
    equal = len(weights) < 2**7 and (weights == weights[0]).all()
    kind = np.int8 if equal else np.float64
    least = 0 if equal else _TIED * weights.sum()
    step = max(1, _AT_ONCE // max(1, count))
    for start in range(0, count, step):
        some = ordered[:, start : start + step, None]
        votes = np.zeros((some.shape[1], count), kind)
        for all_places, own, weight in zip(ordered, some, weights, strict=True):
            lead = np.greater(all_places, own).view(np.int8)
            lead -= np.less(all_places, own).view(np.int8)
            votes += lead if equal else weight * lead
        wins = votes > least
        found[start : start + step] += wins.sum(axis=1)
        found -= wins.sum(axis=0)
    return found


METHODS = (
    Method(
        "borda",
        "Σ weight × points, c for the first of c candidates",
        "Aslam and Montague, SIGIR 2001",
        weighted=True,
        lacking="gets an even share of the points that are left",
        of_ranks=_points,
    ),
    Method(
        "condorcet",
        "pairs won minus pairs lost, by a majority of the lists",
        "Montague and Aslam, CIKM 2002; Copeland 1951",
        weighted=True,
        lacking="ranks below all that the list holds",
        of_ranks=_places,
        whole=_wins_less_defeats,
    ),
)
