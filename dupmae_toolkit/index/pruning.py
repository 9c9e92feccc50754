"""Static pruning: documents keep only their largest impacts.

Carmel et al., Static Index Pruning for Information Retrieval Systems, SIGIR 2001, prune by term;
here each document is pruned by itself (Büttcher and Clarke, CIKM 2006), so that a document's
impacts do not depend on the others, and documents may be added later.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.errors import InputError

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def largest(weights: np.ndarray, bounds: np.ndarray, most: int | np.ndarray) -> np.ndarray:
    """Which weights are among the ``most`` largest of their row, bool [nnz]; of equal ones the
    first.

    bounds: where rows begin and end, int [rows + 1]. most: for all rows, or int [rows].
    """
    counts = np.diff(bounds)
    rows = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((-weights.astype(np.float64), rows))
    ranks = np.arange(len(weights)) - np.repeat(bounds[:-1], counts)
    allowed = np.repeat(most, counts) if isinstance(most, np.ndarray) else most
    kept = np.zeros(len(weights), bool)
    kept[order[ranks < allowed]] = True
    return kept


def without(matrix: csr_matrix, kept: np.ndarray) -> csr_matrix:
    """A CSR matrix with only the entries where ``kept`` is true, bool [nnz]."""
    from scipy.sparse import csr_matrix

    bounds = np.concatenate([[0], np.cumsum(kept)])[matrix.indptr]
    return csr_matrix((matrix.data[kept], matrix.indices[kept], bounds), shape=matrix.shape)


@dataclass(frozen=True, slots=True)
class Pruning:
    """Which impacts of a document are kept: one of these rules.

    keep: a share of them, above 0 and at most 1, rounded up. terms: so many. threshold: those of at
    least this impact, an integer. words: whether BM25's impacts are pruned too, apart from those of
    tokens. Of equal impacts, the first column's are kept.

    Raises InputError unless just one rule is given, and one that keeps something.
    """

    keep: float | None = None
    terms: int | None = None
    threshold: int | None = None
    words: bool = False

    def __post_init__(self) -> None:
        rules = {"keep": self.keep, "terms": self.terms, "threshold": self.threshold}
        given = [name for name, value in rules.items() if value is not None]
        if len(given) != 1:
            what = f"not {' and '.join(given)} together" if given else "none is given"
            raise InputError(
                f"give one rule of pruning, as in --keep 0.5 (keep=0.5), --terms 64 (terms=64) or "
                f"--threshold 2 (threshold=2); {what}"
            )
        if self.keep is not None and not (_is_number(self.keep) and 0 < self.keep <= 1):
            raise InputError(f"keep is {self.keep!r}; it must be a share above 0, at most 1")
        for name in ("terms", "threshold"):
            value = rules[name]
            whole = value is None or (_is_number(value) and float(value).is_integer())
            if not whole or (value is not None and value < 1):
                raise InputError(f"{name} is {value!r}; it must be a whole number of at least 1")

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}

    @classmethod
    def from_dict(cls, values: dict[str, Any] | None) -> Pruning | None:
        """The pruning that ``to_dict`` describes; None for None.

        Raises ValueError, KeyError or TypeError for anything else.
        """
        if values is None:
            return None
        if not isinstance(values["words"], bool):
            raise ValueError(f"pruning's words is {values['words']!r}")
        try:
            return cls(values["keep"], values["terms"], values["threshold"], values["words"])
        except InputError as error:
            raise ValueError(f"pruning: {error}") from error

    def __str__(self) -> str:
        """As in "the largest 0.5 of each document's impacts"."""
        if self.threshold is not None:
            rule = f"impacts of at least {self.threshold}"
        else:
            rule = (
                f"the largest {self.keep if self.terms is None else self.terms:,} of a document's"
            )
            rule += " impacts"
        return f"{rule}, of tokens{' and of words' if self.words else ''}"

    def pruned(self, impacts: csr_matrix) -> csr_matrix:
        """The impacts that are kept, CSR [n, columns] of the same shape and dtype."""
        if self.threshold is not None:
            kept = impacts.data >= self.threshold
        elif self.terms is not None:
            kept = largest(impacts.data, impacts.indptr, self.terms)
        else:
            assert self.keep is not None
            counts = np.diff(impacts.indptr)
            # Not up for what is a whole number but for its last bits: 0.1 × 30.
            most = np.ceil(np.round(counts * self.keep, 9)).astype(np.int64)
            kept = largest(impacts.data, impacts.indptr, np.maximum(most, np.minimum(counts, 1)))
        return impacts if kept.all() else without(impacts, kept)


def _is_number(value: Any) -> bool:
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return bool(real and abs(value) <= sys.float_info.max)  # not so for NaN; integers may be longer
