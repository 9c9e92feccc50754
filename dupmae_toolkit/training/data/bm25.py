"""BM25 over the words of whole texts, with statistics of the training texts.

The words, and the formula, are those of an index (index/words.py, search/frequencies.py): a text of
``length`` words has

    Σ count in the query · idf · tf / (tf + k1 · (1 − b + b · length / mean length))

over the words of the query.

(Robertson and Zaragoza, The Probabilistic Relevance Framework, 2009, section 3; as in Lucene,
without the factor k1 + 1). Here nothing is rounded to impacts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.training.data.frequencies import inverse_frequency

K1, B = 0.9, 0.4  # as in Anserini


@dataclass(frozen=True, slots=True, eq=False)
class WordFrequencies:
    """Frequencies of words in a sample of texts.

    documents: in how many of the texts each word is. texts: the number of texts. words: their total
    number of words, with repetitions.
    """

    documents: dict[str, int]
    texts: int
    words: int

    @classmethod
    def of(cls, texts: Iterable[str]) -> WordFrequencies:
        """Count in different texts; none is cut."""
        documents: Counter[str] = Counter()
        number = words = 0
        for text in texts:
            found = count_words(text)
            documents.update(found.keys())
            number += 1
            words += sum(found.values())
        return cls(dict(documents), number, words)

    @property
    def mean_length(self) -> float:
        """In words; 1 if there are none."""
        return self.words / self.texts if self.words else 1.0

    def scores(self, queries: Sequence[str], documents: Sequence[str]) -> np.ndarray:
        """Every query's BM25 of every document, float64 [Q, D]."""
        asked, held = self.weighed(queries, documents)
        return (asked @ held.T).toarray()

    def weighed(
        self, queries: Sequence[str], documents: Sequence[str]
    ) -> tuple[csr_matrix, csr_matrix]:
        """Weights of the queries' W different words, CSR float64 [Q, W], and in documents [D, W].

        BM25 is the product. A word that is in none of the sampled texts counts as if it were in
        one: a document that has it would be in an index with it.
        """
        asked = [count_words(text) for text in queries]
        columns = {word: 0 for counts in asked for word in counts}
        for column, word in enumerate(columns):
            columns[word] = column
        known = np.array([max(1, self.documents.get(word, 0)) for word in columns], np.float64)
        idf = inverse_frequency(known, max(1, self.texts))
        of_queries = _rows(
            [{columns[word]: float(n) for word, n in counts.items()} for counts in asked],
            len(columns),
        )
        of_queries.data *= idf[of_queries.indices]
        # The same text comes again where groups are filled up.
        parts = {text: self._saturated(text, columns) for text in dict.fromkeys(documents)}
        return of_queries, _rows([parts[text] for text in documents], len(columns))

    def _saturated(self, text: str, columns: dict[str, int]) -> dict[int, float]:
        """The term-frequency part, by column, of those words of a text that have a column."""
        counts = count_words(text)
        norm = K1 * (1 - B + B * sum(counts.values()) / self.mean_length)
        return {columns[w]: tf / (tf + norm) for w, tf in counts.items() if w in columns}

    def arrays(self) -> dict[str, np.ndarray]:
        """For a file of arrays; see ``of_arrays``."""
        # No word has a line break. One may hold lone surrogates, where stemming cut a character.
        text = "\n".join(self.documents).encode("utf-8", "surrogatepass")
        return {
            "words": np.frombuffer(text, np.uint8),
            "word_documents": np.fromiter(self.documents.values(), np.int64, len(self.documents)),
            "word_counts": np.array([self.texts, self.words], np.int64),
        }

    @classmethod
    def of_arrays(
        cls, words: np.ndarray, documents: np.ndarray, counts: np.ndarray
    ) -> WordFrequencies:
        """Raises ValueError for anything that ``arrays`` does not give."""
        text = words.tobytes().decode("utf-8", "surrogatepass")
        texts, total = counts.tolist()
        found = text.split("\n") if text else []
        return cls(dict(zip(found, documents.tolist(), strict=True)), texts, total)


def _rows(rows: Sequence[dict[int, float]], width: int) -> csr_matrix:
    """CSR float64 [n, width] of rows that map columns to values."""
    bounds = np.cumsum([0, *map(len, rows)])
    columns = np.array([column for row in rows for column in row], np.int64)
    values = np.array([value for row in rows for value in row.values()], np.float64)
    return csr_matrix((values, columns, bounds), shape=(len(rows), width))
