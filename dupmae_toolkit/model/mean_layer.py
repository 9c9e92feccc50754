"""One more layer, whose [CLS] is the mean of all tokens: a start from models that pool by the mean.

Most sentence encoders put their knowledge into the mean of the token vectors; their [CLS] was never
asked for anything. A new last layer with uniform attention moves that mean into [CLS], so that
training starts with the dense vectors that the model already has, in the place where DupMAE wants
them. It is an ordinary layer of the backbone: checkpoints stay ordinary, and it is trained as any.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import nn

from dupmae_toolkit.errors import InputError


@torch.no_grad()
def add_mean_layer(lm: Any, gain: float) -> None:
    """Append to a BERT-like masked LM a layer that gives LayerNorm(x + gain · mean of all tokens).

    Queries start at zero, which makes attention uniform; values and output are identities, times
    ``gain``; the feed-forward part adds nothing at first. A mean of many tokens is shorter than
    they are, so a gain of 1 leaves [CLS] mostly itself; with a very large one all tokens become the
    mean, and the lexical head has nothing to read. For all-MiniLM-L6-v2 a gain of 5 gives [CLS] a
    cosine of .93 with the mean, and other tokens one of .85 with [CLS]. What starts at zero still
    learns: its gradients come from the other factor of its product.
    Raises InputError for a backbone whose layers are not laid out as BERT's.
    """
    body = lm.base_model
    layers = getattr(getattr(body, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(layers[-1], "intermediate"):
        raise InputError(f"{type(lm).__name__}: a mean layer can be added to BERT's kin only")
    layer: Any = copy.deepcopy(layers[-1])
    attention, width = layer.attention, lm.config.hidden_size
    for module in (attention.self.key, attention.self.value, attention.output.dense):
        nn.init.zeros_(module.bias)
    nn.init.zeros_(attention.self.query.weight)
    nn.init.zeros_(attention.self.query.bias)
    # Keys keep the last layer's weights: with queries at zero they change nothing, and queries
    # whose keys are zero as well would have no gradient.
    attention.self.value.weight.copy_(torch.eye(width))
    attention.output.dense.weight.copy_(gain * torch.eye(width))
    nn.init.zeros_(layer.output.dense.weight)
    nn.init.zeros_(layer.output.dense.bias)
    # The last LayerNorm's gains are in the states already; twice they would be squared.
    nn.init.ones_(attention.output.LayerNorm.weight)
    nn.init.zeros_(attention.output.LayerNorm.bias)
    nn.init.ones_(layer.output.LayerNorm.weight)
    nn.init.zeros_(layer.output.LayerNorm.bias)
    if hasattr(attention.self, "layer_idx"):
        attention.self.layer_idx = len(layers)
    layers.append(layer)
    lm.config.num_hidden_layers = len(layers)
