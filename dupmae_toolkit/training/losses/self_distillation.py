"""The joint score as the teacher of its own parts."""

from __future__ import annotations

from torch import Tensor

from dupmae_toolkit.training.losses.distillation import distill


def self_distill(part: Tensor, joint: Tensor, left_out: Tensor | None = None) -> Tensor:
    """``distill`` from the joint score, which gets no gradient, to one of its parts.

    part, joint: [Q, D]. left_out: bool [Q, D], see ``distill``. The sum of both scores ranks better
    than either and is there for nothing. Chen et al. 2024 (M3-Embedding).
    """
    return distill(part, joint.detach(), left_out)
