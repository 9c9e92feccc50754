"""The lexical head: vocabulary logits, maximum over the tokens, without the tensor between them.

A batch of B texts of L tokens has B·L·|V| logits: 32 × 256 × 30,522 of them are a gigabyte, and
their gradients another. Only the maxima are wanted, so the vocabulary is taken in chunks, and the
backward pass follows the one token that won each term.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

#: Products at a time: few enough that they stay in the processor's cache.
PRODUCTS = 1 << 22
CHUNK = 1024  # entries of the vocabulary at a time, at least
#: In float32 on a CPU: tokens and entries of the vocabulary at a time. Their products, a megabyte
#: or so, are used again for each tile; larger results come from the system as fresh pages, which
#: costs a third more. Not a power of two: rows of 4,096 bytes fall on the same places of the cache,
#: and products with such rows take half as long again.
ROWS = 512
ENTRIES = 704
#: Up to so many tokens, a query's, the vocabulary is the left factor: reading it is what costs, and
#: products with a few rows on the left read it at half the speed.
FEW = 64

_IN_TILES = (torch.float32, torch.bfloat16)

Projection = Callable[[Tensor], Tensor]
#: See ``Screen.pooled``, which knows already how much is wanted.
Screening = Callable[[Tensor, list[int]], Tensor | None]


def pooled_logits(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    few: Projection | None = None,
    screen: Screening | None = None,
) -> Tensor:
    """max over the tokens i of a text with mask_i of (features_i · weight_v + bias_v).

    features: [B, L, H], float. weight: [V, H]. bias: [V]. mask: [B, L], true where a token counts.
    On a CPU the weights may be bf16 where the features are float32: products are then in bf16.
    Returns float32 [B, V]; a text in which no token counts gets ``-inf`` everywhere. Under autocast
    the products are taken in autocast's dtype, the rest in float32.
    Where two tokens tie, the gradient goes to one of them.
    few: gives [n, H] · weightᵀ for a query's few tokens, where there is a faster way. screen: gives
    the largest for many tokens, and -inf for the others.
    """
    dtype = _compute_dtype(features)
    differentiated = torch.is_grad_enabled() and (features.requires_grad or weight.requires_grad)
    plain = features.dtype == dtype == torch.float32 and weight.dtype in _IN_TILES
    if plain and not differentiated and features.device.type == "cpu":
        return _max_in_tiles(features, weight, mask.bool(), few, screen) + bias.float()
    filled, empty = _fill_masked(features, mask)
    if differentiated:
        pooled = _MaxProjection.apply(filled, weight, dtype)
    else:
        pooled = _max_projection(filled.to(dtype), weight.to(dtype))
    pooled = pooled + bias.float()
    return pooled.masked_fill(empty[:, None], float("-inf")) if bool(empty.any()) else pooled


def activate(logits: Tensor, activation: str) -> Tensor:
    """Term weights from pooled logits: ``relu`` or ``log1p_relu``; -inf gives 0."""
    rectified = torch.relu(logits)
    return torch.log1p(rectified) if activation == "log1p_relu" else rectified


def _fill_masked(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Put a counting token of the same text in the place of those that do not count.

    A repeated token changes no maximum, so the pooling needs no mask.
    """
    mask = mask.bool()
    stand_in = mask.int().argmax(dim=1, keepdim=True)
    position = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    chosen = torch.where(mask, position, stand_in)
    return features.gather(1, chosen[..., None].expand_as(features)), ~mask.any(dim=1)


def _compute_dtype(features: Tensor) -> torch.dtype:
    kind = features.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else features.dtype


def _max_projection(features: Tensor, weight: Tensor) -> Tensor:
    batch, length, width = features.shape
    flat = features.reshape(-1, width)
    with torch.autocast(features.device.type, enabled=False):
        chunks = [
            functional.linear(flat, part).view(batch, length, len(part)).amax(dim=1).float()
            for part in weight.split(max(CHUNK, PRODUCTS // max(1, len(flat))))
        ]
    return torch.cat(chunks, dim=1)


def _max_in_tiles(
    features: Tensor,
    weight: Tensor,
    mask: Tensor,
    few: Projection | None,
    screen: Screening | None,
) -> Tensor:
    """``_max_projection`` on a CPU, for the tokens that count and no others.

    features: float32; rounded to the weights' dtype for products with them. A text in which no
    token counts gets -inf.
    """
    lengths = mask.sum(dim=1).tolist()
    rows = features[mask]
    lowest, shape = float("-inf"), (len(lengths), len(weight))
    if len(rows) <= FEW:
        products = few(rows).t() if few else torch.mm(weight, rows.to(weight.dtype).t()).float()
        pooled = products.new_full(shape, lowest)
        for i, own in enumerate(products.split(lengths, dim=1)):
            if lengths[i]:
                torch.amax(own, dim=1, out=pooled[i])
        return pooled
    screened = None if screen is None else screen(rows, lengths)
    if screened is not None:
        return screened
    rows = rows.to(weight.dtype)
    pooled = rows.new_full(shape, lowest)
    tile = rows.new_empty(0)
    start = 0
    for first, last, count in token_groups(lengths, ROWS):
        group = rows[start : start + count]
        for entry in range(0, len(weight), ENTRIES):
            part = weight[entry : entry + ENTRIES]
            needed = count * len(part)
            if tile.numel() < needed:
                tile = rows.new_empty(needed)
            products = tile[:needed].view(count, len(part))
            torch.mm(group, part.t(), out=products)
            for i, own in enumerate(products.split(lengths[first:last]), first):
                if len(own):
                    torch.amax(own, dim=0, out=pooled[i, entry : entry + ENTRIES])
        start += count
    return pooled.float()


def token_groups(lengths: list[int], most: int) -> list[tuple[int, int, int]]:
    """Texts in a row, from the first up to the last, and their tokens: ``most``, or one text's.

    Texts without any tokens may lie among them.
    """
    groups: list[tuple[int, int, int]] = []
    first = count = 0
    for i, length in enumerate(lengths):
        if count and count + length > most:
            groups.append((first, i, count))
            first, count = i, 0
        count += length
    return [*groups, (first, len(lengths), count)] if count else groups


class _MaxProjection(torch.autograd.Function):
    """``_max_projection`` with a gradient that costs B·|V|·H instead of B·L·|V|·H."""

    @staticmethod
    def forward(ctx: Any, features: Tensor, weight: Tensor, dtype: torch.dtype) -> Tensor:
        batch, length, width = features.shape
        flat, values, winners = features.to(dtype).reshape(-1, width), [], []
        with torch.autocast(features.device.type, enabled=False):
            for part in weight.to(dtype).split(CHUNK):
                logits = functional.linear(flat, part).view(batch, length, len(part))
                value, winner = logits.max(dim=1)
                values.append(value.float())
                winners.append(winner.int())
        ctx.save_for_backward(features, weight, torch.cat(winners, dim=1))
        return torch.cat(values, dim=1)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        features, weight, winners = ctx.saved_tensors
        (gradient,) = gradients
        batch, length, width = features.shape
        # Only terms with a gradient take part: after ReLU a few hundred of a text's thousands.
        row, term = gradient.nonzero(as_tuple=True)
        value = gradient[row, term]
        token = row * length + winners[row, term]
        shape = (batch * length, weight.shape[0])
        with torch.autocast(features.device.type, enabled=False):
            for_features = for_weight = None
            if ctx.needs_input_grad[0]:
                product = _sparse(token, term, value, shape) @ weight.float()
                for_features = product.view_as(features).to(features.dtype)
            if ctx.needs_input_grad[1]:
                sparse = _sparse(term, token, value, (shape[1], shape[0]))
                for_weight = (sparse @ features.reshape(-1, width).float()).to(weight.dtype)
        return for_features, for_weight, None


def _sparse(row: Tensor, column: Tensor, value: Tensor, shape: tuple[int, int]) -> Tensor:
    order = torch.argsort(row, stable=True)
    counts = torch.bincount(row, minlength=shape[0])
    starts = torch.zeros(shape[0] + 1, dtype=torch.int64, device=row.device)
    torch.cumsum(counts, 0, out=starts[1:])
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            starts, column[order], value[order].float(), shape, check_invariants=False
        )
