"""The two heads: from hidden states to a dense vector and to pooled vocabulary logits.

The lexical head takes the maximum of the vocabulary logits over the tokens. A batch of B texts of L
tokens has B·L·|V| logits: 32 × 256 × 30,522 of them are a gigabyte, and their gradients another.
Only the maxima are needed, so the vocabulary is computed in chunks, and the gradient of a term goes
only to the token with its maximum.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

from dupmae_toolkit.model.config import DupMAEConfig

#: Logits computed at a time: few enough to stay in the processor's cache.
PRODUCTS = 1 << 22
CHUNK = 1024  # entries of the vocabulary at a time, at least
#: In float32 on a CPU: tokens and entries of the vocabulary in a tile. All tiles' products, about a
#: megabyte each, are written to the same memory; larger results would get fresh pages from the
#: system, which costs a third more. ENTRIES is not a power of two: rows of 4,096 bytes compete for
#: the same cache lines, and products with such rows take half as long again.
ROWS = 512
ENTRIES = 704
#: Up to this many tokens, as in a query, the vocabulary is the left factor: most time goes into
#: reading it, and products with few rows on the left read it at half the speed.
FEW = 64

_IN_TILES = (torch.float32, torch.bfloat16)

#: ``Screen.pooled`` with its ``top_k`` filled in.
Screening = Callable[[Tensor, list[int]], Tensor | None]


class EncoderOutput(NamedTuple):
    """dense: [B, d], normalised if the config says so. lexical: float32 [B, |V|] or None.

    cls: [B, H], the raw first hidden state. hidden: [B, L, H].
    """

    dense: Tensor
    lexical: Tensor | None
    cls: Tensor
    hidden: Tensor


def output_of(
    config: DupMAEConfig,
    hidden: Tensor,
    project: Callable[[Tensor], Tensor] | None,
    bag_of_words: Callable[[], Tensor] | None,
    pooling: str = "cls",
) -> EncoderOutput:
    """Both vectors of a batch from its hidden states [B, L, H].

    project: [B, H] to [B, d], if the encoder has a projection. bag_of_words: gives the pooled
    vocabulary logits, float32 [B, |V|]; called only if there is a lexical head; None leaves the
    lexical vectors out. pooling: ``none`` gives dense vectors of no numbers, [B, 0].
    """
    cls = hidden[:, 0]
    if pooling == "none":
        dense = hidden.new_zeros((len(hidden), 0), dtype=torch.float32)
    else:
        dense = (cls if project is None else project(cls)).float()
    if config.normalize:
        dense = functional.normalize(dense, dim=-1)
    lexical = None
    if config.lexical_head != "none" and bag_of_words is not None:
        lexical = activate(bag_of_words(), config.activation)
    return EncoderOutput(dense, lexical, cls, hidden)


def pooled_logits(
    features: Tensor,
    weight: Tensor,
    bias: Tensor,
    mask: Tensor,
    few: Callable[[Tensor], Tensor] | None = None,
    screen: Screening | None = None,
) -> Tensor:
    """max over the tokens i of a text with mask_i of (features_i · weight_v + bias_v).

    features: [B, L, H], float. weight: [V, H]. bias: [V]. mask: [B, L], true where a token counts.
    On a CPU the weights may be bf16 where the features are float32: products are then in bf16.
    Returns float32 [B, V]; a text in which no token counts gets ``-inf`` everywhere. Under autocast
    the products are in autocast's dtype, the rest in float32. If tokens tie, the gradient goes to
    one of them.
    few: computes [n, H] · weightᵀ faster for a query's few tokens. screen: computes only the
    largest maxima, faster, for many tokens; the others are -inf then.
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
    """Term weights from pooled logits, by one of ``config.ACTIVATIONS``; -inf gives 0."""
    weights = torch.relu(logits)
    for _ in range(activation.count("log1p")):
        weights = torch.log1p(weights)
    return weights


def sparse_top_k(weights: np.ndarray, top_k: int) -> csr_matrix:
    """The positive weights of each row, only the ``top_k`` largest if that is not 0.

    weights: float32 [n, |V|]. If weights tie at the cut, the lower term ids are kept.
    """
    rows, columns = np.nonzero(weights > 0)
    values = weights[rows, columns]
    counts = np.bincount(rows, minlength=len(weights))
    if top_k and len(counts) and counts.max() > top_k:
        starts = np.concatenate([[0], np.cumsum(counts)])
        keep = np.ones(len(values), dtype=bool)
        for row in np.flatnonzero(counts > top_k):
            span = slice(starts[row], starts[row + 1])
            losers = np.argsort(-values[span], kind="stable")[top_k:]
            keep[starts[row] + losers] = False
        rows, columns, values = rows[keep], columns[keep], values[keep]
        counts = np.bincount(rows, minlength=len(weights))
    indptr = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    matrix = csr_matrix((values, columns.astype(np.int32), indptr), shape=weights.shape)
    matrix.has_sorted_indices = True
    return matrix


def _fill_masked(features: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Features with masked-out tokens replaced by one that counts, and bool [B]: texts without any.

    A repeated token does not change the maximum, so the pooling needs no mask.
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
    few: Callable[[Tensor], Tensor] | None,
    screen: Screening | None,
) -> Tensor:
    """``_max_projection`` on a CPU, only for the tokens that count.

    features: float32; rounded to the weights' dtype before the products. A text in which no token
    counts gets -inf.
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


def token_groups(lengths: list[int], limit: int) -> list[tuple[int, int, int]]:
    """Groups (first, last, tokens) of adjacent texts: at most ``limit`` tokens, or a single text.

    ``last`` is exclusive. A group may contain texts without tokens.
    """
    groups: list[tuple[int, int, int]] = []
    first = count = 0
    for i, length in enumerate(lengths):
        if count and count + length > limit:
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
        # Only terms with a gradient take part: after ReLU a few hundred of tens of thousands.
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
