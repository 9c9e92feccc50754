"""How a regulariser's weight grows."""

from __future__ import annotations


def ramp(step: int, steps: int) -> float:
    """Quadratic rise from 0 to 1 at ``steps``; of the global step, so that a resume keeps it.

    Paria et al. 2020: a weight that is full from the start empties the vectors.
    """
    return min(1.0, step / max(1, steps)) ** 2
