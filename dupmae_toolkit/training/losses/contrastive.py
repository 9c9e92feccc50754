"""Cross-entropy of the positive among a query's candidates."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def contrastive(scores: Tensor, same: Tensor, target: Tensor | None = None) -> Tensor:
    """-log softmax(scores)[positive], mean over the queries: InfoNCE with in-batch negatives.

    scores: [Q, D], every query against every document.
    same: bool [Q, D], true where a document is no negative of the query: the positive's text drawn
        twice, another answer to the same query, or a document outside its group where in-batch
        negatives are off. Never true for the positive.
    target: int64 [Q], the column of each query's positive; by default document i for query i.
    Karpukhin et al. 2020 (DPR), equation 2; hard negatives are columns like any other.
    """
    if target is None:
        target = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores.masked_fill(same, float("-inf")), target)
