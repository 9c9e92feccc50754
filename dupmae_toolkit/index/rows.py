"""Documents to be written into segments, from an encoded corpus or from other segments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from dupmae_toolkit.encoding.parquet import Part


@dataclass(slots=True)
class Rows:
    """Documents to be written into a segment. dense: float32 [n, d].

    lexical: [n, |V|], float32 weights, or impacts once they are quantised.
    """

    ids: list[str]
    titles: list[str]
    texts: list[str]
    dense: np.ndarray
    lexical: csr_matrix

    def __len__(self) -> int:
        return len(self.ids)

    def sorted(self) -> Rows:
        """The same documents in the order of their ids, by code point."""
        order = sorted(range(len(self.ids)), key=self.ids.__getitem__)
        return Rows(
            [self.ids[i] for i in order],
            [self.titles[i] for i in order],
            [self.texts[i] for i in order],
            self.dense[order],
            self.lexical[order],
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
    )
