"""BERT for inference in bf16 on a CPU that multiplies bf16 numbers faster than float32 ones.

Products take and give bf16, and add up in float32. All else is float32: the layers' residual sums,
normalisation, the softmax of attention and, if int8 products can screen the vocabulary, the final
logits. Transformers under autocast rounds more: compared with float32, its term weights are off by
twice as much as these, its dense vectors by as much.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from functools import cache, cached_property

import torch
from torch import Tensor
from torch.nn import functional

from dupmae_toolkit.model.lean.bert import FEW, LeanBert, Product

BF16 = torch.bfloat16
#: The most attention scores, B · heads · L · L, in memory at once.
MOST_SCORES = 1 << 24


class HalfProduct(Product):
    """x · weightᵀ + bias in bf16, for x [..., in]: bf16 [..., out], accumulated in float32.

    The weights are packed once in the processor's preferred layout. That uses functions that torch
    has for its compiler; without them the plain product gives the same result.
    """

    def __init__(self, weight: Tensor, bias: Tensor) -> None:
        super().__init__(weight.detach().to(BF16), bias.detach().to(BF16))
        if can_pack():
            with contextlib.suppress(RuntimeError):  # then the plain product is used
                self._packed = torch.ops.mkldnn._reorder_linear_weight(self.weight, None)

    def __call__(self, x: Tensor, room: Tensor | None = None) -> Tensor:
        x = x.to(BF16)
        if self._packed is None or not x.numel():
            return functional.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, self._packed, self.bias, "none", [], "")

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """The sum of ``to``, float32 [n, out], which is overwritten, and the product with x."""
        return to.add_(self(x))

    def room(self, x: Tensor) -> Tensor:
        """An empty buffer: bf16 results, half as large, gain nothing from one."""
        return x.new_empty(0)


@cache
def can_pack() -> bool:
    """Whether torch can pack weights for bf16 products on this processor, and multiply them.

    These functions are not part of torch's public API, so one product is compared with the plain
    one.
    """
    found = torch.ops.mkldnn
    names = ("_is_mkldnn_bf16_supported", "_reorder_linear_weight", "_linear_pointwise")
    if not torch.backends.mkldnn.is_available() or not all(hasattr(found, n) for n in names):
        return False
    if not found._is_mkldnn_bf16_supported():
        return False
    # These integers, and their sums here, are exact in bf16.
    x, weight = (torch.arange(n).remainder(5).to(BF16).view(-1, 4) for n in (8, 12))
    bias = torch.ones(len(weight), dtype=BF16)
    try:
        laid_out = found._reorder_linear_weight(weight, None)
        product = found._linear_pointwise(x, laid_out, bias, "none", [], "")
    except (RuntimeError, TypeError):  # another torch version may take other arguments
        return False
    return torch.equal(product, functional.linear(x, weight, bias))


class LeanBertBf16(LeanBert):
    """``LeanBert`` with products in bf16; hidden states come out in float32."""

    def _product(self, weights: Mapping[str, Tensor], *names: str) -> HalfProduct:
        weight = [weights[f"{name}.weight"] for name in names]
        bias = [weights[f"{name}.bias"] for name in names]
        if names[0].endswith(".query"):
            # Scaling the queries saves a pass over the scores.
            scale = (len(weight[0]) // self._heads) ** -0.5
            weight[0], bias[0] = weight[0] * scale, bias[0] * scale
        return HalfProduct(torch.cat(weight), torch.cat(bias))

    @cached_property
    def vocabulary(self) -> Tensor:
        """The vocabulary matrix [V, H] in bf16, like the layers' weights."""
        with torch.inference_mode(False), torch.no_grad():
            return self.logits.weight.detach().to(BF16)

    def _attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """See ``LeanBert._attend``; all in bf16, with scaled queries."""
        batch, length, _, heads, _ = qkv.shape
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        few = batch * length <= FEW
        if few or batch * heads * length**2 > MOST_SCORES:
            fused = functional.scaled_dot_product_attention
            seen = fused(query, key, value, attn_mask=mask, scale=1.0)
        else:
            # Torch's fused attention takes twice as long in bf16, since its blocks are small.
            query, key, value = (part.flatten(0, 1) for part in (query, key, value))
            scores = torch.bmm(query, key.transpose(1, 2))
            if mask is not None:
                # Not -inf: a text of only padding then gets equal shares instead of NaN.
                least = torch.finfo(torch.float32).min
                away = torch.zeros(mask.shape).masked_fill_(~mask, least)
                apart = scores.view(batch, heads, length, length)
                scores = torch.add(apart, away).view_as(scores)
            shares = torch.softmax(scores, dim=-1, dtype=torch.float32).to(BF16)
            seen = torch.bmm(shares, value).view(batch, heads, length, -1)
        return seen.transpose(1, 2).reshape(batch * length, -1)

    def transform(self, hidden: Tensor) -> Tensor:
        """The masked-LM head up to the vocabulary projection: [..., H] -> float32 [..., H]."""
        return self._last_norm(self._activation(self._dense(hidden).float()))


#: The layers for inference, by the precision of their products.
LEAN: dict[str, type[LeanBert]] = {"fp32": LeanBert, "bf16": LeanBertBf16}
