"""The L1 regulariser of the lexical vectors."""

from __future__ import annotations

from torch import Tensor


def l1(weights: Tensor) -> Tensor:
    """Σ_v of the mean over the batch of w_v: the mean L1 norm.

    weights: [B, |V|], non-negative; or [1, |V|], the mean itself. It presses on rare and frequent
    terms alike. SPLADE's queries may have it (Lassance and Clinchant 2022, Efficient SPLADE).
    """
    return weights.mean(dim=0).sum()
