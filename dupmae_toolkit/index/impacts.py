"""Rounds document weights to integer impacts, and query weights to fewer bits.

An impact is round(weight × scale), at least 1 and at most ``max_impact``. A query weight is rounded
to so few bits that its product with any impact is exact in float32, the type in which Lucene
multiplies. So Lucene's score is the exact dot product, rounded once.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.largest_weight import with_headroom

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

MAX_IMPACT = 255
#: The largest ``max_impact``. Lucene sums a document's impacts, as its length, in 31 bits.
LARGEST_MAX_IMPACT = 65_535
#: Where a scale comes from.
ENCODER, FIRST_BUILD = SCALE_SOURCES = ("encoder", "first build")
#: Query weights are multiples of this, so that sums of products are exact in float64 up to 2^23.
SMALLEST_QUERY_STEP = 2.0**-30


@dataclass(frozen=True, slots=True)
class QuantizationError:
    """How far the impacts are from the weights, in units of weight.

    ``weights`` counts the stored weights; ``clipped`` those above ``max_impact / scale``, which
    count in the errors too; ``raised`` those below half a step, which became 1 instead of 0.
    """

    weights: int = 0
    mean_absolute: float = 0.0
    max_absolute: float = 0.0
    clipped: int = 0
    raised: int = 0

    def __add__(self, other: QuantizationError) -> QuantizationError:
        weights = self.weights + other.weights
        total = self.mean_absolute * self.weights + other.mean_absolute * other.weights
        return QuantizationError(
            weights,
            total / weights if weights else 0.0,
            max(self.max_absolute, other.max_absolute),
            self.clipped + other.clipped,
            self.raised + other.raised,
        )

    def of_some(self, weights: int) -> QuantizationError:
        """The estimated error of so many of the weights: the average, as the exact are gone."""
        share = weights / self.weights if self.weights else 0.0
        return replace(
            self,
            weights=int(weights),
            clipped=round(self.clipped * share),
            raised=round(self.raised * share),
        )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> QuantizationError:
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


def calibrate(
    lexical: csr_matrix, max_impact: int = MAX_IMPACT, largest_weight: float = 0.0
) -> float:
    """The scale: ``max_impact`` over the weight that becomes it.

    largest_weight: the encoder's. So all its indexes have one scale, whatever is in them and in
    which order it came. If the encoder states none (0), it is the largest weight of ``lexical``,
    those of the first build, ``with_headroom``; without any positive weight it is 1.
    """
    check_max_impact(max_impact)
    if not largest_weight:
        largest = float(lexical.data.max()) if lexical.nnz else 0.0
        if not np.isfinite(largest):
            raise InputError("the lexical weights hold NaN or infinity; encode the corpus again")
        largest_weight = with_headroom(largest) if largest > 0 else 1.0
    scale = max_impact / largest_weight
    if not 0 < scale < np.inf:
        raise InputError(
            f"the encoder states a largest weight of {largest_weight}, which gives no scale for "
            "impacts; correct largest_weight in the checkpoint, or set it to 0"
        )
    return scale


def quantize(
    lexical: csr_matrix, scale: float, max_impact: int = MAX_IMPACT
) -> tuple[csr_matrix, QuantizationError]:
    """Integer impacts of the weights [n, |V|], and the error of rounding.

    Ties round to the even integer. Stored zeros are dropped; no positive weight becomes 0.
    The data is uint8 up to a ``max_impact`` of 255 and uint16 above; indices are sorted. Raises
    InputError for negative, NaN or infinite weights.
    """
    from scipy.sparse import csr_matrix

    check_max_impact(max_impact)
    weights = csr_matrix(lexical, dtype=np.float32, copy=True)
    weights.eliminate_zeros()
    weights.sum_duplicates()
    data = weights.data.astype(np.float64)
    if not np.all(np.isfinite(data)) or (len(data) and data.min() < 0):
        raise InputError("the lexical weights hold negative numbers, NaN or infinity; encode again")
    rounded = np.rint(data * scale)
    impacts = np.clip(rounded, 1, max_impact)
    errors = np.abs(impacts / scale - data)
    error = QuantizationError(
        weights=len(data),
        mean_absolute=float(errors.mean()) if len(data) else 0.0,
        max_absolute=float(errors.max()) if len(data) else 0.0,
        clipped=int(np.count_nonzero(rounded > max_impact)),
        raised=int(np.count_nonzero(rounded < 1)),
    )
    kind = impact_dtype(max_impact)
    quantized = csr_matrix(
        (impacts.astype(kind), weights.indices, weights.indptr), shape=weights.shape
    )
    return quantized, error


def impact_dtype(max_impact: int) -> type[np.unsignedinteger]:
    """The dtype that impacts are stored in."""
    return np.uint8 if max_impact <= 255 else np.uint16


def round_weights(weights: np.ndarray, max_impact: int = MAX_IMPACT) -> np.ndarray:
    """Query weights with 24 - bits(max_impact) significant bits (16 for 255), as float32.

    float32 has 24 bits, so a rounded weight times an impact is exact in it. Rounding is to the
    nearest, ties to even, and never finer than 2^-30: sums of products are then exact in float64
    too, in any order, as long as they stay below 2^23. Rounding twice changes nothing.
    """
    check_max_impact(max_impact)
    exact = np.asarray(weights, np.float64)
    if not np.all(np.isfinite(exact)):
        raise InputError("the query's weights hold NaN or infinity")
    bits = 24 - max_impact.bit_length()
    _, exponents = np.frexp(exact)
    steps = np.maximum(np.ldexp(1.0, exponents - bits), SMALLEST_QUERY_STEP)
    return (np.rint(exact / steps) * steps).astype(np.float32)


def check_max_impact(max_impact: int) -> None:
    """Raise InputError unless impacts up to ``max_impact`` can be stored."""
    if not 1 <= max_impact <= LARGEST_MAX_IMPACT:
        raise InputError(
            f"a largest impact of {max_impact} cannot be stored; "
            f"choose one from 1 to {LARGEST_MAX_IMPACT:,}"
        )
