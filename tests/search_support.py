"""Segments in memory, and brute force over all documents, for tests of the search."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from scipy.sparse import csr_matrix, random, vstack

from dupmae_toolkit.search.arithmetic import inner_products, largest_norm, rounding, scan
from dupmae_toolkit.search.dense import DenseLeg
from dupmae_toolkit.search.engine import Engine
from dupmae_toolkit.search.lexical import LexicalLeg, Postings, Terms
from dupmae_toolkit.search.numbering import Numbering


class MemoryDense:
    """Exhaustive search whose float32 scores are as wrong as the bound on rounding allows.

    rough: how much more wrong those of ``all_scores`` are, and say that they are.
    """

    stored = True

    def __init__(
        self,
        vectors: np.ndarray,
        exhaustive: bool = True,
        noise: float = 0.0,
        rough: float = 0.0,
    ) -> None:
        self.vectors = vectors
        self.size = len(vectors)
        self.exhaustive = exhaustive
        self.noise = noise
        self.rough = rough
        self._dice = np.random.default_rng(3)

    def search(self, queries, k, live=None):
        found = self.scan(queries, k, live)
        if self.exhaustive:
            return found
        # Misses every other document, as an approximate index may.
        return [(rows[::2], scores[::2]) for rows, scores in found]

    def scan(self, queries, k, live=None):
        if not self.noise:
            return scan(self.vectors, queries, k, live)
        found = []
        for query in queries:
            scores = inner_products(self.vectors, query)
            reach = np.linalg.norm(query.astype(np.float64)) * self.largest_norm()
            error = self.noise * rounding(self.vectors.shape[1], reach)
            scores = (scores + self._dice.uniform(-error, error, self.size)).astype(np.float32)
            rows = np.argsort(-scores, kind="stable")
            rows = rows[:k] if live is None else rows[live[rows]][:k]
            found.append((rows.astype(np.int32), scores[rows]))
        return found

    def all_scores(self, queries, rough=True):
        scores = np.empty((len(queries), self.size), np.float32)
        for own, (rows, values) in zip(scores, self.scan(queries, self.size), strict=True):
            own[rows] = values
        if rough and self.rough:
            return scores + self._dice.choice([-self.rough, self.rough], scores.shape), self.rough
        return scores, 0.0

    def largest_norm(self):
        return largest_norm(self.vectors)

    def score(self, query, rows):
        return inner_products(self.vectors[rows], query)


class MemoryLexical:
    """What Lucene does: matching documents by float32 score, then by number."""

    stored = True
    in_memory = False

    def __init__(self, impacts: csr_matrix) -> None:
        self.impacts = impacts.astype(np.float64)
        self.size = impacts.shape[0]

    def search(self, queries, k, live=None):
        found = []
        for row in range(queries.shape[0]):
            terms = Terms.of(queries, row)
            scores = self.score(terms, np.arange(self.size)).astype(np.float32)
            rows = np.argsort(-scores, kind="stable")[:k]
            rows = rows[scores[rows] > 0]
            found.append((rows.astype(np.int32), scores[rows]))
        return found

    def score(self, query, rows):
        weights = np.zeros(self.impacts.shape[1])
        weights[query.terms] = query.weights
        return self.impacts[rows] @ weights


class MemoryPostings(MemoryLexical):
    """The engine that holds postings, which knows the scores exactly."""

    in_memory = True

    def __init__(self, impacts: csr_matrix) -> None:
        super().__init__(impacts)
        self.postings = Postings(impacts.astype(np.uint8))

    def search(self, queries, k, live=None):
        return self.postings.search(queries, k, live)

    def all_scores(self, queries):
        return self.postings.all_scores(queries)


class Collection:
    """Random documents in segments, some of them the same, and an engine over them."""

    def __init__(
        self,
        sizes: tuple[int, ...] = (300,),
        seed: int = 0,
        exhaustive: bool = True,
        noise: float = 0.0,
        deleted: tuple[str, ...] = (),
        scale: float = 51.3,
        lexical: type[MemoryLexical] = MemoryLexical,
        rough: float = 0.0,
    ) -> None:
        dice = np.random.default_rng(seed)
        total = sum(sizes)
        names = [f"d{number}" for number in dice.permutation(total)]
        self.dense = dice.normal(size=(total, 12)).astype(np.float32)
        self.dense[dice.random(total) < 0.2] = self.dense[0]
        impacts = random(total, 60, 0.1, format="csr", random_state=seed)
        impacts.data = np.ceil(impacts.data * 12)
        copies = np.where(dice.random(total) < 0.3, 5, np.arange(total))
        self.impacts = csr_matrix(impacts[copies])
        starts = np.concatenate([[0], np.cumsum(sizes)])
        parts = [slice(a, b) for a, b in pairwise(starts)]
        order = [sorted(range(p.start, p.stop), key=names.__getitem__) for p in parts]
        self.ids = [names[i] for part in order for i in part]
        self.dense = np.concatenate([self.dense[part] for part in order])
        self.impacts = vstack([self.impacts[part] for part in order], format="csr")
        self.scale = scale
        self.deleted = set(deleted)
        self.dense_shards = [MemoryDense(self.dense[p], exhaustive, noise, rough) for p in parts]
        self.lexical_shards = [lexical(self.impacts[p]) for p in parts]
        dead = [
            np.array([i for i, name in enumerate(self.ids[p]) if name in self.deleted], np.int64)
            for p in parts
        ]
        self.numbering = Numbering([self.ids[p] for p in parts], dead)
        legs = {
            "dense": DenseLeg(self.numbering, self.dense_shards),
            "lexical": LexicalLeg(self.numbering, self.lexical_shards, scale),
        }
        self.engine = Engine(self.numbering, legs)

    def search(self, dense, lexical, request):
        """The engine's answers; what the mode does not use may be None."""
        queries = {"dense": dense, "lexical": lexical}
        return self.engine.search(
            {part: own for part, own in queries.items() if own is not None}, request
        )

    def queries(self, count: int = 20, seed: int = 1) -> tuple[np.ndarray, csr_matrix]:
        """Queries; some are documents, one has no terms."""
        dice = np.random.default_rng(seed)
        dense = dice.normal(size=(count, 12)).astype(np.float32)
        dense[::3] = self.dense[dice.integers(0, len(self.dense), len(dense[::3]))]
        lexical = random(count, 60, 0.1, format="csr", random_state=seed, dtype=np.float32)
        lexical.data = np.ceil(lexical.data * 64).astype(np.float32) / 32
        lexical = lexical.tolil()
        lexical[count // 2] = 0
        return dense, csr_matrix(lexical)

    def parts(self, dense: np.ndarray, lexical: csr_matrix) -> tuple[np.ndarray, np.ndarray]:
        """Every document's dense and lexical score, float64 [n], each."""
        products = self.dense.astype(np.float64) @ dense.astype(np.float64)
        overlaps = self.impacts.astype(np.float64) @ lexical.toarray()[0].astype(np.float64)
        return products, overlaps / self.scale

    def best(self, scores: np.ndarray, k: int) -> list[tuple[str, float]]:
        """Brute force: the first ``k`` of all documents that are not deleted."""
        final = scores.astype(np.float32)
        order = sorted(range(len(final)), key=lambda i: (-final[i], self.ids[i]))
        kept = [i for i in order if self.ids[i] not in self.deleted]
        return [(self.ids[i], float(final[i])) for i in kept[:k]]
