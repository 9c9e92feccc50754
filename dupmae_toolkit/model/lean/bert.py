"""BERT for inference in float32 on a CPU, without the overhead of transformers.

A query of a dozen tokens needs little arithmetic: most time goes into reading the weights and
calling a hundred small modules. Here query, key and value are one product. If the weights are
exactly representable in float16, short inputs read them in that form: the same float32 arithmetic,
with half the memory to read. Results equal transformers' up to the order of additions.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, Self, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupmae_toolkit.model.backbones import vocabulary_projection
from dupmae_toolkit.model.heads import Screening, pooled_logits
from dupmae_toolkit.model.lean.screen import Screen

#: Up to this many tokens, reading weights in half precision is faster than the usual products.
FEW = 64
#: Names of the word embeddings and the vocabulary's bias.
WORDS = "bert.embeddings.word_embeddings.weight"
BIAS = "cls.predictions.bias"
#: Names of the vocabulary matrix and its bias if they are not tied to those.
VOCABULARY = "cls.predictions.decoder.weight"
VOCABULARY_BIAS = "cls.predictions.decoder.bias"
_LAYERS = "bert.encoder.layer."
_TRANSFORM = "cls.predictions.transform"
_ACTIVATIONS = ("transformers.activations", "torch.nn.modules.activation")

_SCREENING = threading.Lock()

Activation: TypeAlias = Callable[[Tensor], Tensor]
#: The in-place forms of activations.
_IN_PLACE: dict[Activation, Activation] = {
    functional.gelu: torch.ops.aten.gelu_,
    functional.relu: torch.relu_,
}


class Product:
    """x · weightᵀ + bias, for x of shape [..., in]: float32 [..., out]."""

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        self.weight = weight
        self.bias = bias
        self._packed: Any = None

    def pack(self) -> None:
        """Also keep the weights in half precision; they must be exact float16 numbers."""
        bias = None if self.bias is None else self.bias.detach()
        self._packed = torch.ops.quantized.linear_prepack_fp16(self.weight.detach(), bias)

    def __call__(self, x: Tensor, room: Tensor | None = None) -> Tensor:
        """room: a float32 buffer [n, out] that the result of x [n, in] may be written to."""
        if self._packed is not None and 0 < x.numel() <= FEW * x.shape[-1]:
            return torch.ops.quantized.linear_dynamic_fp16(x, self._packed)
        if room is None or self.bias is None:
            return functional.linear(x, self.weight, self.bias)
        return torch.addmm(self.bias, x, self.weight.t(), out=room)

    def added(self, x: Tensor, to: Tensor) -> Tensor:
        """The sum of ``to`` [n, out], which may be overwritten, and the product with x [n, in]."""
        if self.bias is None or len(x) <= FEW:
            return self(x) + to
        return to.addmm_(x, self.weight.t()).add_(self.bias)

    def room(self, x: Tensor) -> Tensor:
        """A buffer for the results of successive calls.

        Without it the system clears fresh pages for each result, which takes a third of the time of
        the product itself.
        """
        return x.new_empty(len(x), len(self.weight))


class Norm:
    """A LayerNorm over the last dimension."""

    def __init__(self, weight: Tensor, bias: Tensor, eps: float) -> None:
        self._of = weight.shape, weight, bias, eps

    def __call__(self, x: Tensor) -> Tensor:
        return functional.layer_norm(x, *self._of)


@dataclass(slots=True)
class _Layer:
    qkv: Product
    attended: Product
    first_norm: Norm
    inner: Product
    outer: Product
    second_norm: Norm


class LeanBert:
    """The layers of a BertForMaskedLM for inference, made from its weights alone."""

    def __init__(
        self, weights: Mapping[str, Tensor], heads: int, eps: float, activation: Activation
    ) -> None:
        """weights: float32, by transformers' names. eps: of the LayerNorms."""
        self._heads, self._activation = heads, activation
        self._activate = _IN_PLACE.get(activation, activation)
        self._products: list[Product] = []
        self._eps = eps
        with torch.inference_mode(False), torch.no_grad():
            self._words = weights[WORDS]
            self._places = weights["bert.embeddings.position_embeddings.weight"]
            self._type = weights["bert.embeddings.token_type_embeddings.weight"][0]
            self._first_norm = self._norm(weights, "bert.embeddings")
            count = len({name.split(".")[3] for name in weights if name.startswith(_LAYERS)})
            self._layers = [self._layer(weights, f"{_LAYERS}{i}") for i in range(count)]
            self._dense = self._product(weights, f"{_TRANSFORM}.dense")
            self._last_norm = self._norm(weights, _TRANSFORM)
            #: Rows times the vocabulary matrix, without its bias.
            self.logits = Product(weights.get(VOCABULARY, self._words), None)
            self._bias = weights.get(VOCABULARY_BIAS, weights[BIAS])
            if _are_halves(weights):
                # Packing takes much of a second on one core, and releases the GIL.
                with ThreadPoolExecutor(torch.get_num_threads()) as pool:
                    list(pool.map(Product.pack, [self.logits, *self._products]))

    @classmethod
    def of(cls, lm: Any) -> Self | None:
        """Make it from a masked LM; None unless that is a plain float32 BERT on a CPU, no hooks."""
        if not _is_plain(lm):
            return None
        weights = dict(lm.named_parameters(remove_duplicate=False))
        weights[VOCABULARY_BIAS] = vocabulary_projection(lm)[1]
        activation = lm.cls.predictions.transform.transform_act_fn
        activation = getattr(activation, "act", activation)  # transformers' GELU wraps the function
        c = lm.config
        return cls(weights, c.num_attention_heads, c.layer_norm_eps, activation)

    def _product(self, weights: Mapping[str, Tensor], *names: str) -> Product:
        weight = [weights[f"{name}.weight"] for name in names]
        bias = [weights[f"{name}.bias"] for name in names]
        one = len(names) == 1
        product = Product(*(part[0] if one else torch.cat(part) for part in (weight, bias)))
        self._products.append(product)
        return product

    def _norm(self, weights: Mapping[str, Tensor], name: str) -> Norm:
        name = f"{name}.LayerNorm"
        return Norm(weights[f"{name}.weight"], weights[f"{name}.bias"], self._eps)

    def _layer(self, weights: Mapping[str, Tensor], name: str) -> _Layer:
        attention = [f"{name}.attention.self.{part}" for part in ("query", "key", "value")]
        return _Layer(
            qkv=self._product(weights, *attention),
            attended=self._product(weights, f"{name}.attention.output.dense"),
            first_norm=self._norm(weights, f"{name}.attention.output"),
            inner=self._product(weights, f"{name}.intermediate.dense"),
            outer=self._product(weights, f"{name}.output.dense"),
            second_norm=self._norm(weights, f"{name}.output"),
        )

    @property
    def vocabulary(self) -> Tensor:
        """The vocabulary matrix [V, H], for products with many tokens without a screen."""
        return self.logits.weight

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden states, float32 [B, L, H]. input_ids, attention_mask: int64 [B, L]."""
        batch, length = input_ids.shape
        x = functional.embedding(input_ids, self._words)
        x = self._first_norm(x + self._type + self._places[:length]).flatten(0, 1)
        mask = None if bool(attention_mask.all()) else attention_mask.bool()[:, None, None, :]
        first = self._layers[0]
        room, wide_room = first.qkv.room(x), first.inner.room(x)
        for layer in self._layers:
            qkv = layer.qkv(x, room).view(batch, length, 3, self._heads, -1)
            x = layer.first_norm(layer.attended.added(self._attend(qkv, mask), x))
            inner = self._activate(layer.inner(x, wide_room))
            x = layer.second_norm(layer.outer.added(inner, x))
        return x.view(batch, length, -1)

    def _attend(self, qkv: Tensor, mask: Tensor | None) -> Tensor:
        """[B·L, H] from queries, keys and values, [B, L, 3, heads, d]. mask: bool [B, 1, 1, L]."""
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        return seen.transpose(1, 2).reshape(qkv.shape[0] * qkv.shape[1], -1)

    def pooled_logits(
        self, hidden: Tensor, mask: Tensor, head: str, top_k: int | None = None
    ) -> Tensor:
        """Pooled vocabulary logits μ, float32 [B, |V|].

        mask: bool [B, L], the tokens that are pooled. head: as ``DupMAEConfig.lexical_head``.
        top_k: see ``Screen.pooled``; None: all logits are wanted, those below 0 too.
        """
        features = self.transform(hidden) if head == "mlm" else hidden
        screen = self._screening(top_k)
        weight = self.vocabulary if screen is None else self.logits.weight
        return pooled_logits(features, weight, self._bias, mask, self.logits, screen)

    def _screening(self, top_k: int | None) -> Screening | None:
        if top_k is None:
            return None
        with _SCREENING:  # batches run in parallel, and one screen is enough
            screen = self._screen
        return None if screen is None else partial(screen.pooled, top_k=top_k)

    @cached_property
    def _screen(self) -> Screen | None:
        return Screen.of(self.logits.weight, self._bias)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Autocast switched off: these layers choose the precision themselves."""
        return torch.autocast("cpu", enabled=False)

    def transform(self, hidden: Tensor) -> Tensor:
        """The masked-LM head up to the vocabulary projection: [..., H] -> [..., H]."""
        return self._last_norm(self._activation(self._dense(hidden)))


def _is_plain(lm: Any) -> bool:
    """Whether it is transformers' BERT, module by module: no adapter, no hook, no decoder."""
    from transformers.models.bert import modeling_bert as bert

    if type(lm) is not bert.BertForMaskedLM or lm.config.is_decoder:
        return False
    if not len(lm.bert.encoder.layer):  # embeddings only: nothing to gain here
        return False
    if getattr(lm.config, "position_embedding_type", "absolute") != "absolute":
        return False
    activation = type(lm.cls.predictions.transform.transform_act_fn)
    own = {kind for kind in vars(bert).values() if isinstance(kind, type)}
    own |= {nn.Linear, nn.LayerNorm, nn.Dropout, nn.Embedding, nn.ModuleList}
    for module in lm.modules():
        kind = type(module)
        if kind not in own and kind.__module__ not in _ACTIVATIONS:
            return False
        if kind.__module__ in _ACTIVATIONS and kind is not activation:
            return False
        if module._forward_hooks or module._forward_pre_hooks:
            return False
    weights = [*lm.parameters()]
    return all(w.dtype == torch.float32 and w.device.type == "cpu" for w in weights)


@torch.inference_mode()
def _are_halves(weights: Mapping[str, Tensor]) -> bool:
    """Whether all matrices hold exact float16 numbers, and this machine has products with them."""
    if "fbgemm" not in torch.backends.quantized.supported_engines:
        return False
    return all(torch.equal(w, w.half().float()) for w in weights.values() if w.dim() == 2)
