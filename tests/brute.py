"""Every document's scores from the texts and vectors, by the definitions of the parts alone."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import numpy as np

from dupmae_toolkit.analysis import words
from dupmae_toolkit.collection.passages import cut
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.records import Document

MODES = ("dense", "lexical", "bm25", "hybrid")


class BruteForce:
    """Scores documents one by one. ``manifest``: scale, BM25's settings, weights."""

    def __init__(self, documents: Sequence[Document], encoder, manifest: Manifest) -> None:
        self.documents, self.encoder, self.manifest = documents, encoder, manifest
        vectors = encoder.encode_documents([d.contents for d in documents])
        impacts = vectors.lexical.toarray().astype(np.float64)
        self.most = manifest.max_impact
        rounded = np.clip(np.rint(impacts * manifest.scale), 1, self.most)
        self.impacts = np.where(impacts > 0, rounded, 0)
        self.dense = vectors.dense.astype(np.float64)
        self.counts = [Counter(words(d.contents)) for d in documents]
        self.with_word = Counter(word for counts in self.counts for word in counts)

    def idf(self, frequency: float) -> float:
        return math.log(1 + (len(self.documents) - frequency + 0.5) / (frequency + 0.5))

    def factors(self) -> np.ndarray:
        scoring = self.manifest.scoring
        with_token = (self.impacts > 0).sum(axis=0)
        idf = np.array([self.idf(frequency) for frequency in with_token])
        mean = float(idf @ with_token) / with_token.sum() if with_token.any() else 1.0
        return (idf / mean) ** scoring.idf_power

    def impact(self, counts: Counter, word: str) -> float:
        bm25 = self.manifest.bm25
        length = counts.total() / bm25.mean_length
        tf = counts[word]
        share = tf / (tf + bm25.k1 * (1 - bm25.b + bm25.b * length))
        return min(max(np.rint(float(np.float32(share)) * self.most), 1), self.most)

    def bm25(self, text: str) -> np.ndarray:
        scores = np.zeros(len(self.documents))
        for word, times in Counter(words(text)).items():
            if word in self.with_word:
                weight = round_weights(
                    np.array([times * self.idf(self.with_word[word])]), self.most
                )
                for row, counts in enumerate(self.counts):
                    if word in counts:
                        scores[row] += float(weight[0]) * self.impact(counts, word)
        return scores / self.most

    def parts(self, text: str, plain: bool = False) -> dict[str, np.ndarray]:
        query = self.encoder.encode_queries([text])
        weights = query.lexical.toarray()[0].astype(np.float64)
        if not plain:
            weights = weights * self.factors()
        weights = round_weights(weights, self.most).astype(np.float64)
        found = {
            # Row by row, so that the same vectors have the same scores to the last bit.
            "dense": (self.dense * query.dense[0].astype(np.float64)).sum(axis=1),
            "lexical": self.impacts @ weights / self.manifest.scale,
        }
        if not plain and self.manifest.bm25 is not None:
            found["bm25"] = self.bm25(text)
        return found

    def ranked(
        self, text: str, mode: str, k: int, weights: Sequence[float] | None = None, plain=False
    ) -> list[tuple[str, float]]:
        """Ids and scores of the best ``k``; weights: by default those of the manifest."""
        parts = self.parts(text, plain)
        if weights is None:
            info = self.manifest.encoder
            plain_weights = (info.dense_weight, info.lexical_weight)
            weights = plain_weights if plain else self.manifest.scoring.weights
        if mode == "hybrid":
            scores = sum(w * part for w, part in zip(weights, parts.values(), strict=False))
        else:
            scores = parts[mode]
        scores = np.asarray(scores).astype(np.float32)
        order = sorted(range(len(self.documents)), key=lambda i: (-scores[i], self.documents[i].id))
        return [
            (self.documents[i].id, float(scores[i]))
            for i in order
            if mode not in ("lexical", "bm25") or scores[i] > 0
        ][:k]


class BruteForcePassages(BruteForce):
    """Scores the passages of documents one by one, and documents by these."""

    def __init__(self, documents: Sequence[Document], encoder, manifest: Manifest) -> None:
        rows, self.owners = [], []
        for document in documents:
            spans = cut(document.text, encoder.token_offsets(document.text), manifest.passages)
            for number, (start, end) in enumerate(spans):
                name = f"{document.id}#{number:05d}"
                rows.append(Document(name, document.title, document.text[start:end]))
                self.owners.append(document.id)
        super().__init__(rows, encoder, manifest)

    def ranked(
        self, text: str, mode: str, k: int, aggregate: str = "max"
    ) -> list[tuple[str, float]]:
        """Ids and scores of the best ``k`` documents, by their best passage or their best three."""
        of: dict[str, list[float]] = {}
        owners = {row.id: owner for row, owner in zip(self.documents, self.owners, strict=True)}
        for row, score in super().ranked(text, mode, len(self.documents)):  # best first
            of.setdefault(owners[row], []).append(score)
        most = 1 if aggregate == "max" else 3
        scores = {name: float(np.float32(sum(own[:most]))) for name, own in of.items()}
        return sorted(scores.items(), key=lambda pair: (-pair[1], pair[0]))[:k]
