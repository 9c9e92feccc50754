"""Batches of similar texts, so that in-batch negatives are hard ones.

Against random documents, the right one stands out by its subject alone. In a batch of similar texts
only the details tell it apart, so every encoded text is a hard negative for all other queries.
(Topic-aware sampling: Hofstätter et al., 2021. Here texts are grouped by common words, without a
model or clustering.)
"""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence

import numpy as np
from scipy.sparse import csr_matrix

_WORD = re.compile(r"\w{3,}")


def near_batches(texts: Sequence[str], size: int, rng: random.Random) -> list[list[int]]:
    """Positions of ``texts`` in batches of ``size``; the rest that fills no batch is omitted.

    A random text starts a batch, and the size - 1 nearest of the remaining texts join it, by the
    cosine of their ``word_vectors``; then the next batch starts. The last batches formed get the
    leftovers, which are less similar. The order of the batches is random.
    """
    vectors = word_vectors(texts)
    left = np.ones(len(texts), dtype=bool)
    batches = []
    order = list(range(len(texts)))
    rng.shuffle(order)
    for seed in order:
        if not left[seed]:
            continue
        if left.sum() < size:
            break
        near = np.asarray((vectors @ vectors[seed].T).todense()).ravel()
        near[~left] = -1.0
        near[seed] = 2.0
        chosen = np.argsort(-near, kind="stable")[:size]
        left[chosen] = False
        batches.append([int(i) for i in chosen])
    rng.shuffle(batches)
    return batches


def word_vectors(texts: Sequence[str]) -> csr_matrix:
    """(1 + log tf) · idf of words of 3 or more characters: float32 [n, words], of length one."""
    counts = [Counter(_WORD.findall(text.lower())) for text in texts]
    frequency = Counter(word for row in counts for word in row)
    number = {word: i for i, word in enumerate(sorted(frequency))}
    idf = np.log(len(texts) / np.asarray([frequency[word] for word in number], dtype=np.float64))
    columns = [number[word] for row in counts for word in row]
    values = np.asarray([count for row in counts for count in row.values()], dtype=np.float64)
    values = (1 + np.log(values)) * idf[columns] if columns else values
    indptr = np.cumsum([0, *map(len, counts)])
    matrix = csr_matrix((values, columns, indptr), shape=(len(texts), len(number)))
    norms = np.sqrt(np.asarray(matrix.multiply(matrix).sum(axis=1)).ravel())
    matrix.data /= np.repeat(np.where(norms > 0, norms, 1.0), np.diff(indptr))
    return matrix.astype(np.float32)
