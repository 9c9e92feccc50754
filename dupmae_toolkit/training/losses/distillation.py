"""Distillation of a teacher's scores: the divergence between two softmaxes."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def distill(scores: Tensor, teacher: Tensor, left_out: Tensor | None = None) -> Tensor:
    """KL(softmax(teacher) || softmax(scores)) over the documents, mean over the queries.

    scores, teacher: [Q, D]. left_out: bool [Q, D], true where a document takes no part for a query;
    at least one must take part. That is ``batchmean``; torch's ``mean`` would divide by the
    documents too. Up to the teacher's entropy, which has no gradient, it is the DupMAE paper's
    -Σ softmax(teacher) · log softmax(student).
    """
    if left_out is not None:
        scores = scores.masked_fill(left_out, float("-inf"))
        teacher = teacher.masked_fill(left_out, float("-inf"))
    mine, theirs = functional.log_softmax(scores, dim=1), functional.log_softmax(teacher, dim=1)
    gap = theirs - mine
    if left_out is not None:  # inf - inf is no number, and torch's kl_div has 0 · inf there
        gap = gap.masked_fill(left_out, 0)
    return (theirs.exp() * gap).sum() / len(scores)
