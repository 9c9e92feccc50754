"""The FLOPS regulariser: an index's work, made smooth."""

from __future__ import annotations

from torch import Tensor


def flops(weights: Tensor) -> Tensor:
    """Σ_v (mean over the batch of w_v)².

    weights: [B, |V|], non-negative; or [1, |V|], the mean itself. The expected number of
    multiplications of a query with a document, if both came from this distribution and terms were
    independent. It presses on terms that every text has. Paria et al. 2020.
    """
    return weights.mean(dim=0).square().sum()
