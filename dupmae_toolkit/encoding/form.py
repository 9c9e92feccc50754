"""Check the form of an encoder's output: ids, array types and shapes.

Any class can be an encoder. Without this check, malformed output would fail far from its cause, or
not at all: scipy trusts column numbers, and a compiled loop over wrong ones reads outside its
arrays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from dupmae_toolkit.records import Representations


def wrong_form(
    vectors: Any, ids: Sequence[str], dense: tuple[int, int], lexical: tuple[int, int]
) -> str:
    """What is wrong with the representations of the texts ``ids``; "" if nothing is.

    dense, lexical: the expected shapes. Checks the structure of the arrays, not their values.
    """
    from scipy.sparse import issparse

    if not isinstance(vectors, Representations):
        return f"returned {type(vectors).__name__}, not Representations"
    if list(vectors.ids) != list(ids):
        return f"returned vectors of other texts: {len(vectors.ids)} ids for {len(ids)} texts"
    if not isinstance(vectors.dense, np.ndarray) or vectors.dense.dtype.kind != "f":
        return f"returned dense vectors as {_kind(vectors.dense)}; float32 [n, d] is needed"
    matrix = vectors.lexical
    if not issparse(matrix) or matrix.format != "csr" or matrix.dtype.kind not in "fiu":
        return f"returned lexical vectors as {_kind(matrix)}; CSR float32 [n, |V|] is needed"
    shapes = tuple(vectors.dense.shape), tuple(matrix.shape)
    if shapes != (dense, lexical):
        return f"returned vectors of shapes {shapes[0]} and {shapes[1]}, not {dense} and {lexical}"
    starts, columns = matrix.indptr, matrix.indices
    fits = len(starts) == lexical[0] + 1 and starts[0] == 0
    fits = fits and starts[-1] == len(columns) == len(matrix.data)
    fits = fits and (starts[1:] >= starts[:-1]).all()
    if not fits or (len(columns) and (columns.min() < 0 or columns.max() >= lexical[1])):
        return f"returned lexical vectors whose terms do not fit a vocabulary of {lexical[1]}"
    truncated = vectors.truncated
    if not isinstance(truncated, int | np.integer) or truncated < 0:
        return f"returned {truncated!r} as the number of truncated texts"
    return ""


def _kind(value: Any) -> str:
    kind = getattr(value, "dtype", None)
    return type(value).__name__ if kind is None else f"{type(value).__name__} of {kind}"
