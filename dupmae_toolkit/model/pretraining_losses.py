"""The pre-training losses, without the large tensors of a plain computation.

Logits over the vocabulary exist for a chunk of tokens at a time: for 32 texts of 512 tokens and
30,522 terms they would take two gigabytes, and their gradient as much again.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

# Logits in memory at a time: for 30,522 terms those of 1,099 tokens, and 64 MB in bf16. With
# smaller chunks the gradient of the vocabulary matrix would be accumulated too often.
CHUNK = 1 << 25


def linear_cross_entropy(
    features: Tensor, weight: Tensor, bias: Tensor, labels: Tensor, row_weights: Tensor
) -> tuple[Tensor, Tensor]:
    """Σ_i row_weights_i · -log softmax(features_i · weightᵀ + bias)[labels_i], and its terms.

    features: [N, H], float. weight: [V, H]. bias: [V]. labels: int64 [N], all in [0, V).
    row_weights: float32 [N]; 1/N each gives the mean. Returns the sum, float32 scalar, which has
    gradients for features, weight and bias, and the N unweighted terms, float32, which have none.

    The gradient is computed with the loss, chunk by chunk, and only scaled in the backward pass:
    three products with the vocabulary instead of the four of a recomputation. The tensors kept
    between the passes have the sizes of features, weight and bias. Under autocast the products and
    the softmax are in autocast's dtype; the loss and the sums over chunks are float32.
    """
    kind = features.device.type
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype
    with torch.autocast(kind, enabled=False):
        total, terms = _LinearCrossEntropy.apply(
            features, weight, bias, labels, row_weights, dtype, torch.is_grad_enabled()
        )
    return total, terms


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        features: Tensor,
        weight: Tensor,
        bias: Tensor,
        labels: Tensor,
        row_weights: Tensor,
        dtype: torch.dtype,
        with_gradient: bool,
    ) -> tuple[Tensor, Tensor]:
        wanted = [with_gradient and needed for needed in ctx.needs_input_grad[:3]]
        inputs, matrix, offset = features.to(dtype), weight.to(dtype), bias.to(dtype)
        scale = row_weights[:, None]
        weighted = (features * scale).to(dtype)
        for_features = torch.empty_like(features) if wanted[0] else None
        for_weight = torch.zeros_like(weight, dtype=torch.float32) if wanted[1] else None
        for_bias = torch.zeros_like(bias, dtype=torch.float32) if wanted[2] else None
        terms = torch.empty(len(features), dtype=torch.float32, device=features.device)
        size = max(1, CHUNK // len(weight))
        for start in range(0, len(features), size):
            rows = slice(start, start + size)
            label = labels[rows, None]
            logits = functional.linear(inputs[rows], matrix, offset)
            slope = torch.softmax(logits, dim=1)
            # log Σ exp from the largest logit and its softmax, which cannot be 0: no second pass.
            largest, place = logits.max(dim=1, keepdim=True)
            norm = largest.float() - slope.gather(1, place).float().log()
            terms[rows] = (norm - logits.gather(1, label).float())[:, 0]
            if not any(wanted):
                continue
            slope[torch.arange(len(label), device=label.device), label[:, 0]] -= 1
            # Row weights multiply the narrow factors, which avoids a pass over the wide one.
            if for_features is not None:
                for_features[rows] = (slope @ matrix) * scale[rows]
            if for_weight is not None:
                for_weight += slope.T @ weighted[rows]
            if for_bias is not None:
                for_bias += slope.T @ row_weights[rows].to(dtype)
        ctx.save_for_backward(for_features, for_weight, for_bias)
        ctx.dtypes = features.dtype, weight.dtype, bias.dtype
        ctx.mark_non_differentiable(terms)
        return (terms * row_weights).sum(), terms

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        scaled = [
            None if slope is None else slope.mul(gradients[0]).to(dtype)
            for slope, dtype in zip(ctx.saved_tensors, ctx.dtypes, strict=True)
        ]
        return *scaled, None, None, None, None


def bag_of_words_loss(logits: Tensor, ids: Tensor, weights: Tensor) -> Tensor:
    """Mean over the texts of -Σ_t w_t · log softmax(μ)_t, float32 scalar.

    logits: μ, float [B, |V|]. ids: int64 [B, U], the terms of each text. weights: float32 [B, U],
    w_t, 0 where a row is padded. A text whose logits are -inf (it had no token to pool) does not
    count; if there is no other text the loss is 0.
    """
    usable = torch.isfinite(logits[:, 0])
    if not bool(usable.all()):
        logits, ids, weights = logits[usable], ids[usable], weights[usable]
    if not len(logits):
        return logits.float().sum()
    logits = logits.float()
    named = (logits.gather(1, ids) * weights).sum(dim=1)
    return (weights.sum(dim=1) * torch.logsumexp(logits, dim=1) - named).mean()
