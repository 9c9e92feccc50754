"""Batches of texts that are near one another, so that negatives in the batch are hard ones.

A random document is told from the right one by its subject alone. In a batch drawn from one corner
of a corpus the details decide, and each text encoded serves as a hard negative for all others
(topic-aware sampling: Hofstätter et al., 2021; here by common words, which needs no model and no
clustering of the corpus).
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
    """Positions of ``texts`` in batches of ``size``; what is left when no more is full is omitted.

    A text is drawn, and the size - 1 nearest of those left join it, by the cosine of their words
    weighted with idf; then the next is drawn. The last batches get what no other wanted.
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
    """Words of three letters and more by (1 + log tf) · idf: float32 [n, words], of length one."""
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
