"""Vectors as bytes, and how far an inner product of two such vectors can be from the true one.

Products of bytes take a quarter of the memory and of the time of float32 ones, where the processor
has instructions for them. They decide which products are computed in full: rows of the vocabulary
(`model/lean/screen.py`), documents (`search/quantized.py`). So they change no result.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

#: The largest byte; the smallest is its negative.
LIMIT = 127

#: A number, an array or a tensor; of numpy or of torch, in float32 or float64.
Numbers = TypeVar("Numbers")


@dataclass(frozen=True, slots=True)
class Int8Bound(Generic[Numbers]):
    """What bounds the products of some vectors x with others, x̂ being what their bytes stand for.

    reconstructed: ‖x̂‖. error: ‖x − x̂‖. Each is a number, for one vector or the worst of several, or
    an array of one for each vector.
    """

    reconstructed: Numbers
    error: Numbers

    def off(self, norm: Numbers, error: Numbers) -> Numbers:
        """How far x̂·ŷ can be from x·y at most; norm: ‖y‖, error: ‖y − ŷ‖.

        |x·y − x̂·ŷ| ≤ ‖x̂‖ ‖y − ŷ‖ + ‖x − x̂‖ ‖y‖ (Cauchy and Schwarz, twice). The caller adds the
        rounding of the norms.
        """
        return self.reconstructed * error + self.error * norm  # type: ignore[operator]
