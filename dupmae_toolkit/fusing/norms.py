"""Norms: the scores of one list for one topic, made comparable with those of other lists.

| norm | score x becomes | lies in |
|---|---|---|
| none | x | anywhere |
| min-max | (x − min) / (max − min) | 0 to 1 |
| theoretical | (x − low) / (max − low), where low is the lowest x that can occur | 0 to 1 |
| z-score | (x − mean) / standard deviation | around 0 |
| rank | 1 − (rank − 1) / length of the list | above 0 to 1 |
| sum | (x − min) / Σ (x − min) | 0 to 1; all of them sum to 1 |
| dbsf | (x − (mean − 3 s)) / (6 s), with the sample standard deviation s | around 0.5 |

Sources: min-max, Lee, Analyses of multiple evidence combination, SIGIR 1997; sum and z-score
(zero mean, unit variance), Montague and Aslam, Relevance score normalization for metasearch, CIKM
2001; rank, Renda and Straccia, Web metasearch: rank vs. score based rank aggregation methods, SAC
2003; theoretical min-max, Bruch, Gai and Ingber, An analysis of fusion functions for hybrid
retrieval, TOIS 42, 2023; dbsf, Mazzeschi, Distribution-based score fusion, 2023, as Qdrant has it.

>>> import numpy as np
>>> scores = np.array([8.0, 5.0, 2.0])
>>> for norm in ("min-max", "z-score", "rank", "sum", "dbsf"):
...     print(f"{norm:8}", *normalise(scores, norm).round(3).tolist())
min-max  1.0 0.5 0.0
z-score  1.225 0.0 -1.225
rank     1.0 0.667 0.333
sum      0.667 0.333 0.0
dbsf     0.667 0.5 0.333
>>> normalise(scores, "theoretical", low=0.0).tolist()
[1.0, 0.625, 0.25]
"""

from __future__ import annotations

import numpy as np

#: The value of each score of a list whose scores are all equal.
_EQUAL = {"min-max": 1.0, "z-score": 0.0, "dbsf": 0.5}


def normalise(
    scores: np.ndarray, norm: str, ranks: np.ndarray | None = None, low: float = 0.0
) -> np.ndarray:
    """The normalised scores of one list, float64 [n].

    scores: finite floats [n]. ranks: int [n], from 1, for ``rank``; None: the scores are in the
    order of their ranks. low: for ``theoretical``; no score may be below it. If all scores are
    equal, or there is only one, they become 1 with min-max, 0 with z-score, 0.5 with dbsf and 1 / n
    with sum; with theoretical 1, or 0 if they equal ``low``.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if norm == "none" or not len(scores):
        return scores
    if norm == "rank":
        places = np.arange(1, len(scores) + 1) if ranks is None else ranks
        return 1 - (places - 1) / len(scores)
    # Scaling by a power of two is exact, and protects sums and squares from over- and underflow.
    largest = np.abs(scores).max()
    exponent = np.frexp(max(largest, abs(low)) if norm == "theoretical" else largest)[1]
    scores = np.ldexp(scores, -exponent)
    least, most = scores.min(), scores.max()
    if norm == "theoretical":
        bottom = np.ldexp(low, -exponent)
        return (scores - bottom) / (most - bottom) if most > bottom else np.zeros(len(scores))
    if least == most:
        return np.full(len(scores), _EQUAL.get(norm, 1 / len(scores)))
    if norm == "min-max":
        return (scores - least) / (most - least)
    if norm == "sum":
        lifted = scores - least
        return lifted / lifted.sum()
    centred = scores - scores.mean()
    if norm == "z-score":
        return centred / np.sqrt(np.mean(centred**2))
    return 0.5 + centred / (6 * np.sqrt(np.sum(centred**2) / (len(scores) - 1)))
