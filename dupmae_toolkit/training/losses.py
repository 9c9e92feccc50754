"""Fine-tuning losses on float32 scores [Q, D], and regularisers of term weights [B, |V|]."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor
from torch.nn import functional

#: Aggretriever's weight of each part; the joint score has 1.
PART_WEIGHT = 0.5


def contrastive(scores: Tensor, same: Tensor, target: Tensor | None = None) -> Tensor:
    """-log softmax(scores)[positive], mean over the queries: InfoNCE with in-batch negatives.

    scores: [Q, D], every query against every document.
    same: bool [Q, D], true where a document is not a negative of the query: the positive's text
        drawn twice, another answer to the same query, or, if in-batch negatives are off, a document
        outside its group. Never true for the positive.
    target: int64 [Q], the column of each query's positive; by default document i for query i.
    Karpukhin et al. 2020 (DPR), equation 2; hard negatives are columns like any other.
    """
    if target is None:
        target = torch.arange(len(scores), device=scores.device)
    return functional.cross_entropy(scores.masked_fill(same, float("-inf")), target)


def distill(scores: Tensor, teacher: Tensor, left_out: Tensor | None = None) -> Tensor:
    """KL(softmax(teacher) || softmax(scores)) over the documents, mean over the queries.

    scores, teacher: [Q, D]. left_out: bool [Q, D], true where a document is ignored for a query; at
    least one must remain. This is torch's ``batchmean``; its ``mean`` would also divide by the
    number of documents. It equals the DupMAE paper's -Σ softmax(teacher) · log softmax(student) up
    to the teacher's entropy, which has no gradient.
    """
    if left_out is not None:
        scores = scores.masked_fill(left_out, float("-inf"))
        teacher = teacher.masked_fill(left_out, float("-inf"))
    mine, theirs = functional.log_softmax(scores, dim=1), functional.log_softmax(teacher, dim=1)
    gap = theirs - mine
    if left_out is not None:  # inf - inf is NaN, and torch's kl_div computes 0 · inf here
        gap = gap.masked_fill(left_out, 0)
    return (theirs.exp() * gap).sum() / len(scores)


def self_distill(part: Tensor, joint: Tensor, left_out: Tensor | None = None) -> Tensor:
    """``distill`` from the joint score, which gets no gradient, to one of its parts.

    part, joint: [Q, D]. left_out: bool [Q, D], see ``distill``. The sum of both scores ranks better
    than either part, and costs nothing extra. Chen et al. 2024 (M3-Embedding).
    """
    return distill(part, joint.detach(), left_out)


def margin_mse(scores: Tensor, teacher: Tensor, left_out: Tensor) -> Tensor:
    """((s_pos - s_neg) - (t_pos - t_neg))², mean over a query's negatives, then over the queries.

    scores, teacher: [Q, G], the positive in column 0. left_out: bool [Q, G], true where a group has
    fewer documents; a query without negatives contributes 0. Unlike a softmax, it ties the student
    to the teacher's scale. Hofstätter et al. 2020, where each query has one negative.
    """
    present = ~left_out[:, 1:]
    error = (scores[:, :1] - scores[:, 1:]) - (teacher[:, :1] - teacher[:, 1:])
    squares = error.masked_fill(~present, 0).square().sum(dim=1)
    return (squares / present.sum(dim=1).clamp(min=1)).mean()


def relative_error(terms: Tensor, teacher: Tensor) -> Tensor:
    """|terms - teacher|² / |teacher|² of each text, [B].

    terms, teacher: term weights [B, |V|]. Unlike a cosine, it also keeps the size of the weights,
    which a sum with other scores depends on. A text without any weight counts |terms|².
    """
    length = teacher.square().sum(dim=1)
    return (terms - teacher).square().sum(dim=1) / torch.where(length > 0, length, 1)


def aggretriever(
    joint: Tensor,
    lexical: Tensor,
    dense: Sequence[Tensor],
    same: Tensor,
    target: Tensor | None = None,
) -> Tensor:
    """contrastive(joint) + 0.5 · contrastive(lexical) + 0.5 · contrastive(dense).

    joint, lexical: [Q, D]. dense: [Q, D] for each trained size; their losses are summed.
    same, target: see ``contrastive``. Without a loss of its own, one part may rely on the other and
    learn little. Lin, Li and Lin 2023 (Aggretriever, TACL).
    """
    parts = contrastive(lexical, same, target)
    for scores in dense:
        parts = parts + contrastive(scores, same, target)
    return contrastive(joint, same, target) + PART_WEIGHT * parts


def truncated(
    query: Tensor, document: Tensor, sizes: Sequence[int], *, normalize: bool
) -> Iterator[tuple[Tensor, Tensor]]:
    """For each size, the first ``size`` dimensions of both, re-normalised if ``normalize``.

    query: [Q, d]. document: [D, d]. A loss summed over the sizes is that of Matryoshka
    representation learning with equal weights (Kusupati et al. 2022, equation 1).
    """
    for size in sizes:
        q, d = query[:, :size], document[:, :size]
        if normalize:
            q, d = functional.normalize(q, dim=-1), functional.normalize(d, dim=-1)
        yield q, d


def flops(weights: Tensor) -> Tensor:
    """Σ_v (mean over the batch of w_v)².

    weights: [B, |V|], non-negative; or [1, |V|], the mean itself. The expected number of
    multiplications of a query with a document, if both came from this distribution and terms were
    independent. It penalises mostly terms that every text has. Paria et al. 2020.
    """
    return weights.mean(dim=0).square().sum()


def l1(weights: Tensor) -> Tensor:
    """Σ_v of the mean over the batch of w_v: the mean L1 norm.

    weights: [B, |V|], non-negative; or [1, |V|], the mean itself. It penalises rare and frequent
    terms alike. Efficient SPLADE uses it for queries (Lassance and Clinchant 2022).
    """
    return weights.mean(dim=0).sum()


def ramp(step: int, steps: int) -> float:
    """Quadratic rise from 0 to 1 at ``steps``. step: the global one, which a resume restores.

    Paria et al. 2020: full weight from the start would empty the vectors.
    """
    return min(1.0, step / max(1, steps)) ** 2
