"""MarginMSE: the distance between positive and negative, as the teacher sees it."""

from __future__ import annotations

from torch import Tensor


def margin_mse(scores: Tensor, teacher: Tensor, left_out: Tensor) -> Tensor:
    """Mean over all negatives of ((s_pos - s_neg) - (t_pos - t_neg))².

    scores, teacher: [Q, G], the positive in column 0. left_out: bool [Q, G], true where a group has
    fewer documents. 0 if there is no negative at all. Unlike a softmax it ties the student to the
    teacher's scale. Hofstätter et al. 2020.
    """
    present = ~left_out[:, 1:]
    error = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    squares = error.masked_fill(~present, 0).square()
    return squares.sum() / present.sum().clamp(min=1)
