"""A segment that is searched: its parts are looked at together before anything relies on it.

Rows are looked up by number in every part, so that parts of other sizes would give errors far from
their cause, or other documents. Checksums tell damage, and not what somebody made so.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import DenseIndex
from dupmae_toolkit.index.forward import ForwardStore
from dupmae_toolkit.index.segment import P, Segment


class AgreeingSegment(Segment):
    """A segment whose parts hold as many documents, vectors and terms as each other."""

    def __init__(
        self,
        folder: Path,
        terms: Sequence[str],
        dense_dim: int,
        check: Callable[[str], None] = lambda name: None,
    ) -> None:
        """dense_dim: the length of the encoder's vectors, which the stored ones must have."""
        super().__init__(folder, terms, check)
        self._dense_dim = dense_dim

    def check_ids(self, count: int, ordered: bool = True) -> None:
        """Raise InputError unless there are ``count`` ids, if ``ordered`` in their order."""
        if len(self.ids) != count or (ordered and not all(a < b for a, b in pairwise(self.ids))):
            raise self._disagrees(f"does not name {count} documents in the order of their ids")

    def _accepted(self, name: str, part: P) -> P:
        if len(part) != len(self):
            raise self._disagrees(f"{name} holds {len(part)} documents where {len(self)} have ids")
        opened = vars(self)
        forward: Any = part if isinstance(part, ForwardStore) else opened.get("forward")
        faiss: Any = part if isinstance(part, DenseIndex) else opened.get("faiss")
        if forward is not None and self._terms is not None:
            terms = forward.impacts.shape[1]
            if terms != len(self._terms):
                raise self._disagrees(f"holds {terms} terms where {len(self._terms)} have tokens")
        widths = [] if faiss is None else [faiss.dimension]
        if forward is not None and forward.dense_matrix is not None:
            widths.append(forward.dense_matrix.shape[1])
        # Two that are the same may both be wrong: queries have the encoder's.
        for width in widths:
            if width != self._dense_dim:
                raise self._disagrees(
                    f"its vectors have {width} dimensions, the encoder's {self._dense_dim}"
                )
        return part

    def _disagrees(self, what: str) -> InputError:
        return InputError(f"{self.folder}: {what}; run `dupmae verify` on the index")
