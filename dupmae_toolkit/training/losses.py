"""Losses of fine-tuning. Scores are [Q, D] matrices; the positive of query i is document i."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrastive(scores: Tensor, same: Tensor) -> Tensor:
    """In-batch softmax cross-entropy.

    same: bool [Q, D], true where a document other than the positive is the positive's equal (the
    same text drawn twice); it is no negative.
    """
    target = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores.masked_fill(same, float("-inf")), target)


def distill(scores: Tensor, teacher: Tensor) -> Tensor:
    """KL(softmax(teacher) || softmax(scores)) over the documents, mean over the queries.

    That is ``batchmean``; torch's ``mean`` would divide by the documents too.
    """
    return functional.kl_div(
        functional.log_softmax(scores, dim=1),
        functional.log_softmax(teacher, dim=1),
        log_target=True,
        reduction="batchmean",
    )


def flops(weights: Tensor) -> Tensor:
    """Σ_v (mean over the batch of w_v)², the FLOPS regulariser of Paria et al. (2020).

    weights: [B, |V|], non-negative.
    """
    return weights.mean(dim=0).square().sum()


def ramp(step: int, steps: int) -> float:
    """Quadratic rise from 0 to 1 at ``steps``; of the global step, so that a resume keeps it."""
    return min(1.0, step / max(1, steps)) ** 2
