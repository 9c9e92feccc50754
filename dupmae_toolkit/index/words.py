"""The words of documents, and their impacts by BM25.

A word's impact in a document is the term-frequency part of BM25, as Lucene computes it, in
``max_impact``ths:

    tf / (tf + k1 · (1 − b + b · length / mean length))

(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, section 3; Lucene leaves out
the factor k1 + 1). The other part, the word's inverse document frequency, is in the query's weight.
So a document's words are further columns of its lexical vector, after the vocabulary's tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.index.impacts import QuantizationError, quantize
from dupmae_toolkit.index.pruning import Pruning

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: Anserini's settings for BM25.
K1, B = 0.9, 0.4

#: Counts the words of a text, by word; see ``analysis.count_words``.
Counter = Callable[[str], Mapping[str, int]]


@dataclass(frozen=True, slots=True)
class Bm25:
    """The settings of BM25 that an index was built with; ``mean_length`` in words."""

    mean_length: float
    k1: float = K1
    b: float = B

    def to_dict(self) -> dict[str, float]:
        return {"mean_length": self.mean_length, "k1": self.k1, "b": self.b}

    def saturation(self, counts: csr_matrix, lengths: np.ndarray) -> csr_matrix:
        """The term-frequency part of each word in each document, float32 in (0, 1).

        counts: CSR [n, W], how often each word is in each document. lengths: [n], in words.
        """
        from scipy.sparse import csr_matrix

        norms = self.k1 * (1 - self.b + self.b * lengths.astype(np.float64) / self.mean_length)
        tf = counts.data.astype(np.float64)
        parts = tf / (tf + np.repeat(norms, np.diff(counts.indptr)))
        # Not 0, however small the mean length: zeros would be dropped, and with them the word.
        parts = np.maximum(parts, np.finfo(np.float32).tiny)
        return csr_matrix(
            (parts.astype(np.float32), counts.indices, counts.indptr), shape=counts.shape
        )


@dataclass(slots=True)
class Words:
    """The words of n documents.

    words: W different ones, in the order of their code points. impacts: CSR [n, W], or counts
    until ``weighed`` is called; indices sorted. lengths: int32 [n], in words with repetitions.
    """

    words: list[str]
    impacts: csr_matrix
    lengths: np.ndarray

    def __len__(self) -> int:
        """The number of documents."""
        return len(self.lengths)

    @classmethod
    def counted(cls, texts: Iterable[str]) -> Words:
        """How often each word occurs in each text."""
        from scipy.sparse import csr_matrix

        from dupmae_toolkit.analysis import count_words

        columns: dict[str, int] = {}
        indices: list[int] = []
        counts: list[int] = []
        bounds, lengths = [0], []
        for text in texts:
            found = count_words(text)
            indices += [columns.setdefault(word, len(columns)) for word in found]
            counts += found.values()
            bounds.append(len(indices))
            lengths.append(sum(found.values()))
        matrix = csr_matrix(
            (np.array(counts, np.int32), np.array(indices, np.int64), np.array(bounds, np.int64)),
            shape=(len(lengths), len(columns)),
        )
        return cls._in_order(list(columns), matrix, np.array(lengths, np.int32))

    @classmethod
    def _in_order(cls, words: list[str], matrix: csr_matrix, lengths: np.ndarray) -> Words:
        """Columns named by ``words``, put in their order; those without an entry are left out."""
        used = np.flatnonzero(np.bincount(matrix.indices, minlength=len(words)))
        order = sorted(used.tolist(), key=words.__getitem__)
        places = np.zeros(len(words), np.int64)
        places[order] = np.arange(len(order))
        return cls(
            [words[column] for column in order],
            with_columns(matrix, places[matrix.indices], len(order)),
            lengths,
        )

    @classmethod
    def joined(cls, parts: Sequence[Words]) -> Words:
        """The documents of all parts, one part after the other."""
        from scipy.sparse import csr_matrix, vstack

        if len(parts) == 1:
            return parts[0]
        words, places = united([part.words for part in parts])
        moved = [
            with_columns(part.impacts, place[part.impacts.indices], len(words))
            for part, place in zip(parts, places, strict=True)
        ]
        lengths = np.concatenate([part.lengths for part in parts])
        return cls(words, csr_matrix(vstack(moved, format="csr")), lengths)

    def take(self, rows: np.ndarray | slice | list[int]) -> Words:
        """Some of the documents; words that none of them has are left out."""
        from scipy.sparse import csr_matrix

        return self._in_order(self.words, csr_matrix(self.impacts[rows]), self.lengths[rows])

    def weighed(self, bm25: Bm25, max_impact: int) -> tuple[Words, QuantizationError]:
        """The same documents with impacts in place of counts, and the error of rounding.

        The scale is ``max_impact``: the term-frequency part is less than 1 whatever the document.
        """
        parts = bm25.saturation(self.impacts, self.lengths)
        impacts, error = quantize(parts, float(max_impact), max_impact)
        return Words(self.words, impacts, self.lengths), error

    def pruned(self, pruning: Pruning) -> Words:
        """The same documents, of the same lengths, with the impacts that are kept."""
        return self._in_order(self.words, pruning.pruned(self.impacts), self.lengths)


def columns_of(words: Sequence[str], impacts: csr_matrix) -> dict[str, int]:
    """The column of each word in impacts [n, |V| + W], of which theirs are the last W."""
    first = impacts.shape[1] - len(words)
    return {word: column for column, word in enumerate(words, first)}


def united(vocabularies: Sequence[Sequence[str]]) -> tuple[list[str], list[np.ndarray]]:
    """All words of several lists, in order, and where each list's words are in it, int64."""
    words = sorted(set().union(*vocabularies))
    places = {word: place for place, word in enumerate(words)}
    return words, [
        np.fromiter(map(places.__getitem__, each), np.int64, len(each)) for each in vocabularies
    ]


def with_columns(matrix: csr_matrix, indices: np.ndarray, width: int) -> csr_matrix:
    """``matrix`` with other column numbers, sorted within each row."""
    from scipy.sparse import csr_matrix

    moved = csr_matrix((matrix.data, indices, matrix.indptr), shape=(matrix.shape[0], width))
    # Not in place: that would move the data of ``matrix`` too, which may be a mapped file.
    return moved if moved.has_sorted_indices else moved.sorted_indices()
