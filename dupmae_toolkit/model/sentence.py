"""SentenceEncoder: the dense vectors of a sentence-transformers folder, without that library.

The formulas are those of sentence-transformers 6.2 (Pooling, Dense and Normalize), computed here
over transformers' hidden states. No code of the folder runs, and only safetensors are read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.heads import EncoderOutput
from dupmae_toolkit.model.modules import Layer, Modules
from dupmae_toolkit.model.precision import PRECISIONS
from dupmae_toolkit.model.text_encoder import TextEncoder
from dupmae_toolkit.model.weights import hash_weights
from dupmae_toolkit.progress import Progress
from dupmae_toolkit.records import Representations

_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "Identity": lambda x: x,
    "Tanh": torch.tanh,
    "ReLU": torch.relu,
    "GELU": functional.gelu,
    "SiLU": functional.silu,
    "Sigmoid": torch.sigmoid,
}
#: A length that no text reaches, for tokenizers and models that state none.
_NO_LIMIT = 1 << 20


class SentenceEncoder(TextEncoder):
    """Dense vectors alone: its lexical vectors have no terms, and cost nothing."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        modules: Modules,
        layers: Sequence[Mapping[str, Tensor]],
        config: DupMAEConfig,
        name: str,
        precision: str = "auto",
    ) -> None:
        """layers: ``weight`` and ``bias`` of each Dense module, in their order."""
        if precision not in PRECISIONS:
            raise InputError(f"precision {precision!r}: choose one of {list(PRECISIONS)}")
        self.model, self.tokenizer, self.name, self.precision = model, tokenizer, name, precision
        self.pooling = modules.pooling
        self.room = min(backbones.positions(model), _NO_LIMIT)
        self.config = config.but(
            max_length=min(config.max_length, self.room),
            query_max_length=min(config.query_max_length, self.room),
        )
        self._modules, self._layers = modules, [dict(layer) for layer in layers]

    def __call__(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        *,
        top_k: int | None = None,
        lexical: bool = True,
    ) -> EncoderOutput:
        """See ``TextEncoder``; ``lexical`` is None."""
        hidden = self.model(input_ids=input_ids, attention_mask=attention_mask)[0]
        with torch.autocast(self.device.type, enabled=False):
            dense = torch.cat(
                [pooled(hidden.float(), attention_mask, mode) for mode in self.pooling.split("+")],
                dim=-1,
            )
            weights = iter(self._layers)
            for step in self._modules.steps:
                if step is None:
                    dense = functional.normalize(dense, dim=-1)
                else:
                    dense = _ACTIVATIONS[step.activation](functional.linear(dense, **next(weights)))
            if self.config.normalize:
                dense = functional.normalize(dense, dim=-1)
        return EncoderOutput(dense, None, hidden[:, 0], hidden)

    def _encode(
        self,
        texts: Sequence[str],
        ids: list[str] | None,
        prefix: str,
        max_length: int,
        top_k: int,
        progress: Progress,
        *,
        queries: bool,
    ) -> Representations:
        lowered = self._modules.lower and not isinstance(texts, str)
        if lowered and all(isinstance(text, str) for text in texts):
            texts, prefix = [text.lower() for text in texts], prefix.lower()
        return super()._encode(texts, ids, prefix, max_length, top_k, progress, queries=queries)

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    @cached_property
    def _rows(self) -> int:
        embeddings: Any = self.model.get_input_embeddings()  # type: ignore[operator]
        return len(embeddings.weight)

    @property
    def vocabulary_size(self) -> int:
        return self._rows

    @property
    def dense_dim(self) -> int:
        layers = [step for step in self._modules.steps if step is not None]
        if layers:
            return layers[-1].outputs
        width: int = self.model.config.hidden_size  # type: ignore[union-attr, assignment]
        return width * len(self.pooling.split("+"))

    def _named(self) -> dict[str, Tensor]:
        """All weights that vectors depend on, by name."""
        state = self.model.state_dict()
        named = {f"lm.{key}": value for key, value in state.items() if "pooler." not in key}
        for number, layer in enumerate(self._layers):
            named |= {f"dense.{number}.{key}": value for key, value in layer.items()}
        return named

    @cached_property
    def weights_sha256(self) -> str:
        """``hash_weights``, with all else that vectors depend on and EncoderInfo does not state."""
        steps = ["Normalize" if s is None else s.activation for s in self._modules.steps]
        more = json.dumps([steps, self._modules.lower])
        return hashlib.sha256(f"{hash_weights(self._named())} {more}".encode()).hexdigest()


def pooled(hidden: Tensor, mask: Tensor, mode: str) -> Tensor:
    """One vector for each text from its hidden states.

    hidden: float32 [B, L, H]. mask: int64 [B, L], 1 where a token is no padding; padding is on the
    right. mode: one of ``modules.POOLINGS``. Returns float32 [B, H].
    """
    if mode == "cls":
        return hidden[:, 0]
    if mode == "max":
        return hidden.masked_fill(~mask.bool()[..., None], float("-inf")).amax(dim=1)
    if mode == "lasttoken":
        last = mask.sum(dim=1) - 1
        return hidden[torch.arange(len(hidden), device=hidden.device), last]
    weights = mask.float()
    if mode == "weightedmean":  # by position, from 1
        weights = weights * torch.arange(1, mask.shape[1] + 1, device=mask.device)
    total = (hidden * weights[..., None]).sum(dim=1)
    count = weights.sum(dim=1, keepdim=True)
    return total / (count.sqrt() if mode == "mean_sqrt_len_tokens" else count)


def read_sentence_encoder(
    modules: Modules,
    name: str,
    changes: Mapping[str, Any],
    *,
    device: str | None = None,
    precision: str = "auto",
) -> SentenceEncoder:
    """The encoder of a sentence-transformers folder of dense vectors.

    changes: fields of DupMAEConfig that override what the folder says. Raises InputError for a
    folder that is missing, partial or pickled, or of which a part is not supported.
    """
    from dupmae_toolkit.model.checkpoints import load_text_model

    config = settings_of(modules, changes)
    if config.lexical_head != "none" or config.dense_dim:
        raise InputError(
            f"{name}: gives dense vectors alone, as its modules.json says; leave out lexical_head "
            "and dense_dim"
        )
    if not modules.include_prompt and (config.prefix or config.query_prefix):
        raise InputError(
            f"{name}: leaves its prompts out of the pooling (include_prompt), which is not "
            "supported; give an empty prefix and query_prefix, or name another model"
        )
    model, tokenizer = load_text_model(modules.folder)
    width = model.config.hidden_size * len(modules.pooling.split("+"))
    layers = []
    for step in modules.steps:
        if step is not None:
            layers.append(_read_layer(step, width))
            width = step.outputs
    encoder = SentenceEncoder(model, tokenizer, modules, layers, config, name, precision)
    place = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        model.to(place)
        encoder._layers = [{k: v.to(place) for k, v in layer.items()} for layer in layers]
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"device {device!r} cannot be used: {reason}") from error
    encoder.remarks = _remarks(name, modules)
    return encoder


def settings_of(modules: Modules, changes: Mapping[str, Any]) -> DupMAEConfig:
    """The settings that a sentence-transformers folder states, with changes."""
    lengths: dict[str, Any] = {
        key: min(getattr(modules, key) or _NO_LIMIT, _NO_LIMIT)
        for key in ("max_length", "query_max_length")
    }
    own = DupMAEConfig(
        lexical_head="mlm" if modules.activation else "none",
        activation=modules.activation or "log1p_relu",
        top_k=0,
        normalize=modules.normalize,
        prefix=modules.prefix,
        query_prefix=modules.query_prefix,
        **lengths,
    )
    return own.but(**changes)


def _remarks(name: str, modules: Modules) -> tuple[str, ...]:
    lines = [
        f"{name}: dense vectors alone, {modules.pooling} pooling"
        f"{', of length one' if modules.normalize else ''}, as its modules.json says"
    ]
    if not modules.said:
        lines.append(
            f"{name}: states no similarity; the cosine is taken, as sentence-transformers does"
        )
    return tuple(lines)


def _read_layer(layer: Layer, width: int) -> dict[str, Tensor]:
    """``weight`` and, if it has one, ``bias`` of a Dense module, float32; InputError if unfit."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = layer.folder / "model.safetensors"
    if not path.is_file():
        pickled = (layer.folder / "pytorch_model.bin").is_file()
        raise InputError.at(
            path,
            None,
            "only pickled weights are there, which can run code and are never read"
            if pickled
            else "no such file",
            "save the model again with sentence-transformers, which writes safetensors",
        )
    try:
        stored = load_file(path)
        found = {key.removeprefix("linear."): value.float() for key, value in stored.items()}
    except (SafetensorError, OSError) as error:
        raise InputError.at(path, None, f"cannot be read ({error})", "copy it again") from error
    wanted: dict[str, tuple[int, ...]] = {"weight": (layer.outputs, layer.inputs)}
    if layer.bias:
        wanted["bias"] = (layer.outputs,)
    shapes = {key: tuple(value.shape) for key, value in found.items()}
    if shapes != wanted or layer.inputs != width:
        raise InputError.at(
            path,
            None,
            f"holds {shapes} where its config.json and the {width} numbers before it ask for "
            f"{wanted}",
            "copy the whole folder again",
        )
    return found
