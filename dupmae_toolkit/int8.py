"""Vectors quantized to int8, and a bound on the error of their inner products.

On processors with int8 instructions, an int8 product needs a quarter of the memory and time of a
float32 one. It is used only to choose what is then computed in full: rows of the vocabulary
(`model/lean/screen.py`) or documents (`search/quantized.py`). So results do not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic, TypeVar

#: The largest int8 value used; the smallest is its negative.
LIMIT = 127

#: A number, a numpy array or a torch tensor, in float32 or float64.
Numbers = TypeVar("Numbers")


@dataclass(frozen=True, slots=True)
class Int8Bound(Generic[Numbers]):
    """What bounds the error of products with vectors x, where x̂ is x reconstructed from int8.

    reconstructed: ‖x̂‖. error: ‖x − x̂‖. Each is one number, for a single vector or the largest of
    several, or an array with a number per vector.
    """

    reconstructed: Numbers
    error: Numbers

    def off(self, norm: Numbers, error: Numbers) -> Numbers:
        """The most by which x̂·ŷ can differ from x·y. norm: ‖y‖. error: ‖y − ŷ‖.

        |x·y − x̂·ŷ| ≤ ‖x̂‖ ‖y − ŷ‖ + ‖x − x̂‖ ‖y‖ (Cauchy–Schwarz, twice). The caller allows for
        the rounding of the norms.
        """
        return self.reconstructed * error + self.error * norm  # type: ignore[operator]
