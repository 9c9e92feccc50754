"""The joint score and both of its parts, each with a cross-entropy of its own."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from dupmae_toolkit.training.losses.contrastive import contrastive

#: Of each part, beside the joint score's 1.
PART = 0.5


def aggretriever(
    joint: Tensor,
    lexical: Tensor,
    dense: Sequence[Tensor],
    same: Tensor,
    target: Tensor | None = None,
) -> Tensor:
    """contrastive(joint) + 0.5 · contrastive(lexical) + 0.5 · contrastive(dense).

    joint, lexical: [Q, D]. dense: [Q, D] for each size that is trained; their terms are summed.
    same, target: see ``contrastive``. Without terms of their own one of the two parts may lean on
    the other and learn little. Lin, Li and Lin 2023 (Aggretriever, TACL).
    """
    parts = contrastive(lexical, same, target)
    for scores in dense:
        parts = parts + contrastive(scores, same, target)
    return contrastive(joint, same, target) + PART * parts
