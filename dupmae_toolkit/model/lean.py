"""BERT for inference in float32 on a CPU, without what transformers does around the products.

A query of a dozen tokens costs little arithmetic: what takes time is reading the weights, and
calling a hundred small modules. Here query, key and value are one product, and for a few tokens the
weights are read in half precision if that is what they are: float32 arithmetic on the same numbers,
with half the memory to read. The results are transformers' up to the order of additions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

#: Up to so many tokens the weights in half precision are faster than all the processor's products.
FEW = 64
_ACTIVATIONS = ("transformers.activations", "torch.nn.modules.activation")


class Product:
    """x · weightᵀ + bias, for x of shape [..., in]: float32 [..., out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None, half: bool) -> None:
        self.weight = weight
        self.bias = bias
        self._packed = torch.ops.quantized.linear_prepack_fp16(weight, bias) if half else None

    def __call__(self, x: Tensor) -> Tensor:
        if self._packed is not None and 0 < x.numel() <= FEW * x.shape[-1]:
            return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        return functional.linear(x, self.weight, self.bias)


@dataclass(slots=True)
class _Layer:
    qkv: Product
    attended: Product
    first_norm: nn.LayerNorm
    inner: Product
    activation: Any
    outer: Product
    second_norm: nn.LayerNorm


class LeanBert:
    """The layers of one BertForMaskedLM, ready for inference; ``of`` says whether it can be one."""

    def __init__(self, lm: Any, vocabulary: Tensor) -> None:
        body = lm.bert
        self._embeddings = body.embeddings
        self._heads = lm.config.num_attention_heads
        half = _are_halves(lm)
        with torch.inference_mode(False), torch.no_grad():
            self._layers = [_lean_layer(layer, half) for layer in body.encoder.layer]
            head = lm.cls.predictions.transform
            self._dense = Product(head.dense.weight, head.dense.bias, half)
            self._activation, self._norm = head.transform_act_fn, head.LayerNorm
            #: Rows times the vocabulary matrix, without its bias.
            self.logits = Product(vocabulary, None, half)

    @classmethod
    def of(cls, lm: Any, vocabulary: Tensor) -> LeanBert | None:
        """None for anything but a plain BERT in float32 on a CPU that nobody listens to."""
        return cls(lm, vocabulary) if _is_plain(lm) else None

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden states, float32 [B, L, H], for int64 [B, L] twice."""
        batch, length = input_ids.shape
        e = self._embeddings
        x = functional.embedding(input_ids, e.word_embeddings.weight)
        x = x + e.token_type_embeddings.weight[0] + e.position_embeddings.weight[:length]
        x = e.LayerNorm(x)
        whole = bool(attention_mask.all())
        mask = None if whole else attention_mask.bool()[:, None, None, :]
        for layer in self._layers:
            qkv = layer.qkv(x).view(batch, length, 3, self._heads, -1)
            query, key, value = qkv.permute(2, 0, 3, 1, 4)
            seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
            seen = seen.transpose(1, 2).reshape(batch, length, -1)
            x = layer.first_norm(layer.attended(seen) + x)
            x = layer.second_norm(layer.outer(layer.activation(layer.inner(x))) + x)
        return x

    def transform(self, hidden: Tensor) -> Tensor:
        """The masked-LM head up to the vocabulary projection: [..., H] -> [..., H]."""
        return self._norm(self._activation(self._dense(hidden)))


def _lean_layer(layer: Any, half: bool) -> _Layer:
    attention, inner, outer = layer.attention, layer.intermediate, layer.output
    one = attention.self
    parts = (one.query, one.key, one.value)
    weight = torch.cat([part.weight for part in parts])
    bias = torch.cat([part.bias for part in parts])
    attended = attention.output
    return _Layer(
        qkv=Product(weight, bias, half),
        attended=Product(attended.dense.weight, attended.dense.bias, half),
        first_norm=attended.LayerNorm,
        inner=Product(inner.dense.weight, inner.dense.bias, half),
        activation=inner.intermediate_act_fn,
        outer=Product(outer.dense.weight, outer.dense.bias, half),
        second_norm=outer.LayerNorm,
    )


def _is_plain(lm: Any) -> bool:
    """Whether it is transformers' own BERT, module by module: no adapter, no hook, no decoder."""
    from transformers.models.bert import modeling_bert as bert

    if type(lm) is not bert.BertForMaskedLM or lm.config.is_decoder:
        return False
    if getattr(lm.config, "position_embedding_type", "absolute") != "absolute":
        return False
    own = {kind for kind in vars(bert).values() if isinstance(kind, type)}
    own |= {nn.Linear, nn.LayerNorm, nn.Dropout, nn.Embedding, nn.ModuleList}
    for module in lm.modules():
        kind = type(module)
        if kind not in own and kind.__module__ not in _ACTIVATIONS:
            return False
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    weights = [*lm.parameters()]
    return all(w.dtype == torch.float32 and w.device.type == "cpu" for w in weights)


@torch.inference_mode()
def _are_halves(lm: Any) -> bool:
    """Whether every matrix is one of float16 numbers, and this machine can read it as that."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    matrices = [module.weight for module in lm.modules() if isinstance(module, nn.Linear)]
    return all(torch.equal(w, w.half().float()) for w in matrices)
