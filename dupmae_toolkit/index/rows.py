"""Documents to be written into segments, from an encoded corpus or from other segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from dupmae_toolkit.index.impacts import QuantizationError, quantize
from dupmae_toolkit.index.pruning import Pruning
from dupmae_toolkit.index.words import Bm25, Words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from dupmae_toolkit.encoding.parquet import Part


class Errors(NamedTuple):
    """The errors of quantising the weights of tokens, and BM25's parts of words."""

    tokens: QuantizationError = QuantizationError()
    words: QuantizationError = QuantizationError()


@dataclass(slots=True)
class Rows:
    """Documents to be written into a segment. dense: float32 [n, d].

    lexical: [n, |V|], float32 weights, or impacts once they are quantised. words: None if they were
    not counted. metadata: as ``metadata_text`` writes it.
    """

    ids: list[str]
    titles: list[str]
    texts: list[str]
    dense: np.ndarray
    lexical: csr_matrix
    metadata: list[str]
    words: Words | None = None

    def __len__(self) -> int:
        return len(self.ids)

    def count_words(self) -> Words:
        """Count the words of titles and texts, and keep them."""
        contents = map(_contents, self.titles, self.texts)
        self.words = Words.counted(contents)
        return self.words

    def quantize(
        self, scale: float, max_impact: int, bm25: Bm25 | None, pruning: Pruning | None = None
    ) -> Errors:
        """Replace weights and counts with impacts; returns the errors of rounding.

        bm25: None leaves the words out; otherwise they must have been counted. pruning: which
        impacts are kept; None: all. Errors of those kept are then estimated, see ``of_some``.
        """
        self.lexical, error = quantize(self.lexical, scale, max_impact)
        if pruning is not None:
            self.lexical = pruning.pruned(self.lexical)
            error = error.of_some(self.lexical.nnz)
        return Errors(error, self.weigh(max_impact, bm25, pruning))

    def weigh(
        self, max_impact: int, bm25: Bm25 | None, pruning: Pruning | None = None
    ) -> QuantizationError:
        """Replace the words' counts with impacts; returns the error of rounding."""
        if bm25 is None:
            self.words = None
            return QuantizationError()
        assert self.words is not None
        self.words, error = self.words.weighed(bm25, max_impact)
        if pruning is not None and pruning.words:
            self.words = self.words.pruned(pruning)
            error = error.of_some(self.words.impacts.nnz)
        return error

    def prune(self, pruning: Pruning) -> None:
        """Leave out impacts of rows that are quantised."""
        self.lexical = pruning.pruned(self.lexical)
        if pruning.words and self.words is not None:
            self.words = self.words.pruned(pruning)

    def sorted(self) -> Rows:
        """The same documents in the order of their ids, by code point."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return Rows(
            [self.ids[i] for i in order],
            [self.titles[i] for i in order],
            [self.texts[i] for i in order],
            self.dense[order],
            self.lexical[order],
            [self.metadata[i] for i in order],
            None if self.words is None else self.words.take(order),
        )


def regrouped(parts: Iterable[Part | Rows], size: int) -> Iterator[Rows]:
    """The rows of all parts, ``size`` at a time; the last group may hold fewer."""
    pieces: list[tuple[Part | Rows, slice]] = []
    held = 0
    for part in parts:
        start = 0
        while start < len(part):
            stop = min(len(part), start + size - held)
            pieces.append((part, slice(start, stop)))
            held += stop - start
            start = stop
            if held == size:
                yield _joined(pieces)
                pieces, held = [], 0
    if pieces:
        yield _joined(pieces)


def _joined(pieces: list[tuple[Part | Rows, slice]]) -> Rows:
    from scipy.sparse import csr_matrix, vstack

    return Rows(
        [name for part, rows in pieces for name in part.ids[rows]],
        [title for part, rows in pieces for title in part.titles[rows]],
        [text for part, rows in pieces for text in part.texts[rows]],
        np.concatenate([part.dense[rows] for part, rows in pieces]),
        csr_matrix(vstack([part.lexical[rows] for part, rows in pieces], format="csr")),
        [text for part, rows in pieces for text in part.metadata[rows]],
        _joined_words(pieces),
    )


def _joined_words(pieces: list[tuple[Part | Rows, slice]]) -> Words | None:
    """The words of all pieces; None unless all have them, as an encoded corpus has not."""
    found = []
    for part, rows in pieces:
        words = getattr(part, "words", None)
        if words is None:
            return None
        found.append(words if rows == slice(0, len(part)) else words.take(rows))
    return Words.joined(found)


def _contents(title: str, text: str) -> str:
    """As ``Document.contents``."""
    return f"{title} {text}".strip()
