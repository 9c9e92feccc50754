"""A BERT-like encoder for inference on a CPU, read from its files without transformers.

Importing transformers is the largest part of the wait for a first query. A folder with a plain BERT
can be read without it: safetensors, tokenizer.json and two small JSON files. For anything else
``read_lean_encoder`` returns None, and DupMAEEncoder reads it. Both give the same vectors, bit for
bit, and the same EncoderInfo.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.heads import EncoderOutput, output_of
from dupmae_toolkit.model.lean.bert import (
    BIAS,
    VOCABULARY,
    VOCABULARY_BIAS,
    WORDS,
    Activation,
    LeanBert,
)
from dupmae_toolkit.model.lean.bf16 import LEAN
from dupmae_toolkit.model.lean.tokenizer import PlainTokenizer, read_tokenizer
from dupmae_toolkit.model.text_encoder import TextEncoder
from dupmae_toolkit.model.tokens import ordinary_tokens
from dupmae_toolkit.model.weights import EXTRA_WEIGHTS, PROJECTION, hash_weights, read_projection

_ACTIVATIONS: dict[str, Activation] = {"gelu": functional.gelu, "relu": functional.relu}
#: Required values of these keys of config.json, if it has them.
_PLAIN = {
    "model_type": "bert",
    "architectures": ["BertForMaskedLM"],
    "is_decoder": False,
    "add_cross_attention": False,
    "position_embedding_type": "absolute",
    "tie_word_embeddings": True,
    "chunk_size_feed_forward": 0,
    "pruned_heads": {},
}
#: Keys that make transformers read other code or weights, or do checks that are not done here.
_REFUSED = (
    *("auto_map", "quantization_config", "_attn_implementation", "attn_implementation"),
    *("num_labels", "id2label", "label2id", "problem_type"),
)
#: Numbers that transformers checks: values that it would refuse must not be accepted here.
_SIZES = ("hidden_size", "num_attention_heads", "num_hidden_layers", "intermediate_size")
_SHARES = ("hidden_dropout_prob", "attention_probs_dropout_prob", "initializer_range")
_IGNORED = ("bert.pooler.", "cls.seq_relationship.")


class LeanEncoder(TextEncoder):
    """Gives the same vectors as DupMAEEncoder, but cannot be trained or saved."""

    device = torch.device("cpu")

    def __init__(
        self,
        weights: Mapping[str, Tensor],
        projection: Tensor | None,
        tokenizer: PlainTokenizer,
        config: DupMAEConfig,
        backbone: Mapping[str, Any],
        name: str,
        precision: str = "fp32",
    ) -> None:
        """weights: float32, by transformers' names. backbone: config.json's values."""
        self.tokenizer, self.config, self.name = tokenizer, config, name
        self.precision = precision
        self.room = int(backbone["max_position_embeddings"])
        self._weights, self._projection, self._backbone = weights, projection, backbone
        self._project = (
            None if projection is None else partial(functional.linear, weight=projection)
        )
        self._ordinary = ordinary_tokens(tokenizer, len(weights[WORDS]))
        self._packed: dict[str, LeanBert] = {}
        self._packing = threading.Lock()

    def _layers(self) -> LeanBert:
        """The layers for autocast's precision, packed when first needed.

        A process that only searches packs those for queries; one that only indexes, the others.
        """
        arithmetic = "bf16" if torch.is_autocast_enabled("cpu") else "fp32"
        with self._packing:  # batches run in parallel, and packing once is enough
            if arithmetic not in self._packed:
                backbone = self._backbone
                self._packed[arithmetic] = LEAN[arithmetic](
                    self._weights,
                    backbone["num_attention_heads"],
                    backbone["layer_norm_eps"],
                    _ACTIVATIONS[backbone["hidden_act"]],
                )
            return self._packed[arithmetic]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        top_k: int | None = None,
        lexical: bool = True,
    ) -> EncoderOutput:
        """See ``TextEncoder``."""
        layers = self._layers()

        def bag_of_words() -> Tensor:
            pool = attention_mask.bool()
            if not self.pools_special:
                pool = pool & self._ordinary[input_ids]
            return layers.pooled_logits(hidden, pool, self.config.lexical_head, top_k)

        with layers.autocast():
            hidden = layers.hidden_states(input_ids, attention_mask)
            head = bag_of_words if lexical else None
            return output_of(self.config, hidden, self._project, head, self.pooling)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and other processes get the plain weights, and pack them again."""
        arguments = (
            self._weights,
            self._projection,
            self.tokenizer,
            self.config,
            self._backbone,
            self.name,
            self.precision,
        )
        kept = ("pooling", "pools_special", "remarks")
        return LeanEncoder, arguments, {key: getattr(self, key) for key in kept}

    @property
    def vocabulary_size(self) -> int:
        return len(self._weights[WORDS])

    @property
    def dense_dim(self) -> int:
        if self.pooling == "none":
            return 0
        return len(self._weights[WORDS][0] if self._projection is None else self._projection)

    @cached_property
    def weights_sha256(self) -> str:
        """See ``hash_weights``; uses the weights' names in a DupMAEEncoder."""
        named = {f"lm.{name}": tensor for name, tensor in self._weights.items()}
        named[f"lm.{VOCABULARY}"] = self._weights[WORDS]
        named[f"lm.{VOCABULARY_BIAS}"] = self._weights[BIAS]
        if self._projection is not None:
            named[PROJECTION] = self._projection
        return hash_weights(named)


def read_lean_encoder(
    folder: Path, name: str, changes: Mapping[str, Any], precision: str = "fp32"
) -> LeanEncoder | None:
    """The encoder of a checkpoint's folder; None if DupMAEEncoder has to read or refuse it.

    changes: fields of DupMAEConfig that override the checkpoint's. precision: one of PRECISIONS.
    """
    try:
        backbone = json.loads((folder / "config.json").read_text("utf-8"))
        if not _is_plain(backbone):
            return None
        carried = DupMAEConfig.from_dict(backbone.get("dupmae"))
        config = carried.but(**changes)
        if config.dense_dim != carried.dense_dim:
            return None  # the new projection is drawn at random by DupMAEEncoder
        tokenizer = read_tokenizer(folder)
        if tokenizer is None:
            return None  # checked before reading the weights, which may be large
        weights = _weights(folder, backbone)
        projection = read_projection(folder / EXTRA_WEIGHTS) if config.dense_dim else None
    except Exception:  # whatever is wrong: DupMAEEncoder finds it too, and reports it
        return None
    if weights is None:
        return None
    if max(tokenizer.get_vocab().values(), default=0) >= len(weights[WORDS]):
        return None
    if projection is not None and projection.shape != (config.dense_dim, backbone["hidden_size"]):
        return None
    room = backbone["max_position_embeddings"]
    config = config.but(
        max_length=min(config.max_length, room),
        query_max_length=min(config.query_max_length, room),
    )
    return LeanEncoder(weights, projection, tokenizer, config, backbone, name, precision)


def _is_plain(backbone: Mapping[str, Any]) -> bool:
    said = {key: backbone[key] for key in _PLAIN if key in backbone}
    return (
        all(
            value == _PLAIN[key] and type(value) is type(_PLAIN[key]) for key, value in said.items()
        )
        and {"model_type", "architectures"} <= said.keys()
        and not any(backbone.get(key) for key in _REFUSED)
        and backbone["hidden_act"] in _ACTIVATIONS
        and all(type(backbone[key]) is int and backbone[key] > 0 for key in _SIZES)
        and backbone["hidden_size"] % backbone["num_attention_heads"] == 0
        and type(backbone["layer_norm_eps"]) is float
        and all(_is_share(backbone[key]) for key in _SHARES if key in backbone)
        and _is_row(backbone.get("pad_token_id"), backbone["vocab_size"])
    )


def _is_share(value: Any) -> bool:
    return type(value) is float and 0 <= value <= 1


def _is_row(value: Any, rows: int) -> bool:
    return value is None or (type(value) is int and 0 <= value < rows)


def _weights(folder: Path, backbone: Mapping[str, Any]) -> dict[str, Tensor] | None:
    """The masked LM's weights in float32; None unless names and shapes are exactly a BERT's."""
    from safetensors.torch import load_file

    if (folder / "adapter_config.json").exists():
        return None  # transformers adds the adapter to the weights
    stored = load_file(folder / "model.safetensors")
    weights = {k: v for k, v in stored.items() if not k.startswith(_IGNORED)}
    words, bias = weights[WORDS], weights[BIAS]
    for extra, original in ((VOCABULARY, words), (VOCABULARY_BIAS, bias)):
        if not torch.equal(weights.pop(extra, original), original):
            return None
    if {name: tuple(tensor.shape) for name, tensor in weights.items()} != _shapes(backbone):
        return None
    if not all(tensor.is_floating_point() for tensor in weights.values()):
        return None
    if not _keeps_precision(stored, backbone):
        return None
    return {name: tensor.float() for name, tensor in weights.items()}


def _keeps_precision(stored: Mapping[str, Tensor], backbone: Mapping[str, Any]) -> bool:
    """Whether transformers would load the weights unrounded: it casts to config.json's dtype."""
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in stored.values()}
    said = [backbone[key] for key in ("dtype", "torch_dtype") if backbone.get(key) is not None]
    return len(kinds) == 1 and all(each in ("float32", *kinds) for each in said)


def _shapes(backbone: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a BertForMaskedLM's weights; tied ones appear once."""
    hidden, inner = backbone["hidden_size"], backbone["intermediate_size"]
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str) -> None:
        shapes[f"{name}.LayerNorm.weight"] = shapes[f"{name}.LayerNorm.bias"] = (hidden,)

    def linear(name: str, rows: int, columns: int) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (rows, columns), (rows,)

    for what, size in (
        ("word", "vocab_size"),
        ("position", "max_position_embeddings"),
        ("token_type", "type_vocab_size"),
    ):
        shapes[f"bert.embeddings.{what}_embeddings.weight"] = (backbone[size], hidden)
    norm("bert.embeddings")
    for number in range(backbone["num_hidden_layers"]):
        layer = f"bert.encoder.layer.{number}"
        for part in ("self.query", "self.key", "self.value", "output.dense"):
            linear(f"{layer}.attention.{part}", hidden, hidden)
        norm(f"{layer}.attention.output")
        linear(f"{layer}.intermediate.dense", inner, hidden)
        linear(f"{layer}.output.dense", hidden, inner)
        norm(f"{layer}.output")
    linear("cls.predictions.transform.dense", hidden, hidden)
    norm("cls.predictions.transform")
    shapes[BIAS] = (backbone["vocab_size"],)
    return shapes
