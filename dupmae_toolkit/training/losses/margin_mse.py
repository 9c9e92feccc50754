"""MarginMSE: the distance between positive and negative, as the teacher sees it."""

from __future__ import annotations

from torch import Tensor


def margin_mse(scores: Tensor, teacher: Tensor, left_out: Tensor) -> Tensor:
    """((s_pos - s_neg) - (t_pos - t_neg))², mean over a query's negatives, then over the queries.

    scores, teacher: [Q, G], the positive in column 0. left_out: bool [Q, G], true where a group has
    fewer documents; a query without a negative counts 0. Unlike a softmax it ties the student to
    the teacher's scale. Hofstätter et al. 2020, where each query has one negative.
    """
    present = ~left_out[:, 1:]
    error = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    squares = error.masked_fill(~present, 0).square().sum(dim=1)
    return (squares / present.sum(dim=1).clamp(min=1)).mean()
