"""Dense vectors of which a beginning is a vector too."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor
from torch.nn import functional


def truncated(
    query: Tensor, document: Tensor, sizes: Sequence[int], *, normalize: bool
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Each size with the first so many dimensions of both, re-normalised if so wished.

    query: [Q, d]. document: [D, d]. A loss summed over the sizes is that of Matryoshka
    representation learning with equal weights (Kusupati et al. 2022, equation 1).
    """
    for size in sizes:
        q, d = query[:, :size], document[:, :size]
        if normalize:
            q, d = functional.normalize(q, dim=-1), functional.normalize(d, dim=-1)
        yield size, q, d
