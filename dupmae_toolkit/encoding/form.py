"""The form of what an encoder gives: whose texts, which arrays, of what sizes.

Encoders are other people's code, and what has not the form that Representations describe would be
noticed only far from where it arose, if at all: scipy believes column numbers, and a compiled loop
over wrong ones reads what is not its own.
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

    dense, lexical: the shapes that are wanted. Values are not looked at, only where they lie.
    """
    from scipy.sparse import issparse

    if not isinstance(vectors, Representations):
        return f"gave {type(vectors).__name__}, not Representations"
    if list(vectors.ids) != list(ids):
        return f"gave vectors of other texts: {len(vectors.ids)} ids for {len(ids)} texts"
    if not isinstance(vectors.dense, np.ndarray) or vectors.dense.dtype.kind != "f":
        return f"gave dense vectors as {_kind(vectors.dense)}; float32 [n, d] is needed"
    matrix = vectors.lexical
    if not issparse(matrix) or matrix.format != "csr" or matrix.dtype.kind not in "fiu":
        return f"gave lexical vectors as {_kind(matrix)}; CSR float32 [n, |V|] is needed"
    shapes = tuple(vectors.dense.shape), tuple(matrix.shape)
    if shapes != (dense, lexical):
        return (
            f"gave vectors of other sizes, {shapes[0]} and {shapes[1]}, than {dense} and {lexical}"
        )
    starts, columns = matrix.indptr, matrix.indices
    fits = len(starts) == lexical[0] + 1 and starts[0] == 0
    fits = fits and starts[-1] == len(columns) == len(matrix.data)
    fits = fits and (starts[1:] >= starts[:-1]).all()
    if not fits or (len(columns) and (columns.min() < 0 or columns.max() >= lexical[1])):
        return f"gave lexical vectors whose terms are not those of a vocabulary of {lexical[1]}"
    truncated = vectors.truncated
    if not isinstance(truncated, int | np.integer) or truncated < 0:
        return f"says that {truncated!r} texts were cut"
    return ""


def _kind(value: Any) -> str:
    kind = getattr(value, "dtype", None)
    return type(value).__name__ if kind is None else f"{type(value).__name__} of {kind}"
