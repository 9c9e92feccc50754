"""Document frequencies over all segments, and what the weights of a query's terms owe to them.

The inverse document frequency is Lucene's, log(1 + (N − df + ½) / (df + ½)), with N documents that
can be found, df of which have the term (Robertson and Zaragoza, The Probabilistic Relevance
Framework, 2009, section 3). All counts are of documents that are not deleted, so that an index that
was changed gives the same weights as one built at once.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from itertools import repeat
from typing import Protocol

import numpy as np

from dupmae_toolkit.errors import DupMAEError


class Counted(Protocol):
    """Documents with impacts: a segment, or several that are joined."""

    @property
    def frequencies(self) -> np.ndarray: ...

    @property
    def columns(self) -> dict[str, int]: ...


class Frequencies:
    """How many documents have each term.

    documents: how many there are. parts: what they are in. gone: for each part, how many deleted
    documents have each of its columns, or None. tokens: |V|, the number of columns before those of
    words.
    """

    def __init__(
        self,
        documents: int,
        parts: Sequence[Counted],
        gone: Sequence[np.ndarray | None],
        tokens: int,
    ) -> None:
        self._documents = documents
        self._parts = list(zip(parts, gone, strict=True))
        self._width = tokens
        self._factors = 0.0, np.ones(tokens)

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """How many documents have each token, int64 [|V|]."""
        total = np.zeros(self._width, np.int64)
        for part, gone in self._parts:
            total += part.frequencies[: self._width]
            if gone is not None:
                total -= gone[: self._width]
        return total

    def of_words(self, words: Sequence[str]) -> np.ndarray:
        """How many documents have each of these words, int64."""
        total = np.zeros(len(words), np.int64)
        for part, gone in self._parts:
            columns = np.array(list(map(part.columns.get, words, repeat(-1))), np.int64)
            held = np.flatnonzero(columns >= 0)
            total[held] += part.frequencies[columns[held]]
            if gone is not None:
                total[held] -= gone[columns[held]]
        return total

    def idf(self, frequencies: np.ndarray) -> np.ndarray:
        """The inverse document frequency, float64, of terms that so many documents have.

        Raises DupMAEError for fewer than none or more than all, which can only be damage.
        """
        if len(frequencies) and (frequencies.min() < 0 or frequencies.max() > self._documents):
            raise DupMAEError(
                "the index states impossible frequencies of terms; run `dupmae verify` on it"
            )
        return np.log1p((self._documents - frequencies + 0.5) / (frequencies + 0.5))

    @functools.cached_property
    def mean_idf(self) -> float:
        """The mean over all postings of tokens, which additions change little; 1 without any."""
        total = int(self.tokens.sum())
        return float(self.idf(self.tokens) @ self.tokens) / total if total else 1.0

    def factors(self, power: float) -> np.ndarray:
        """(idf / mean idf) ^ ``power`` of each token, float64 [|V|]; kept for the last power.

        Infinite where float64 cannot hold it.
        """
        known, factors = self._factors
        if known != power:
            with np.errstate(over="ignore"):
                factors = (self.idf(self.tokens) / self.mean_idf) ** power
            self._factors = power, factors
        return factors
