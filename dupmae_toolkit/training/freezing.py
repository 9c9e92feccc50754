"""What of a backbone takes part in a training, and how noisily."""

from __future__ import annotations

from typing import Any

from torch import nn

from dupmae_toolkit.errors import InputError


def freeze_layers(lm: Any, count: int) -> None:
    """Leave the first ``count`` layers, and the embeddings under them, as they are.

    The backward pass ends above them. An embedding matrix that the vocabulary head shares still
    learns, from the head's side. Raises InputError if there are not so many layers.
    """
    if not count:
        return
    lists = [m for m in lm.base_model.modules() if isinstance(m, nn.ModuleList)]
    layers = max(lists, key=len, default=nn.ModuleList())
    if count >= len(layers):
        raise InputError(f"frozen_layers is {count}; the backbone has {len(layers)} layers")
    for layer in list(layers)[:count]:
        layer.requires_grad_(False)
    layers[count - 1].register_forward_hook(_detach)


def _detach(module: nn.Module, inputs: Any, output: Any) -> Any:
    if isinstance(output, tuple):
        return (output[0].detach(), *output[1:])
    return output.detach()


def set_dropout(lm: Any, rate: float) -> None:
    """Dropout of every kind at this rate; below 0 leaves the model's own. The config stays."""
    if rate < 0:
        return
    for module in lm.modules():
        if isinstance(module, nn.Dropout):
            module.p = rate
        elif hasattr(module, "attention_dropout") and isinstance(module.attention_dropout, float):
            module.attention_dropout = rate
