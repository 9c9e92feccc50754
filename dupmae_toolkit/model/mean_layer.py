"""Adds a layer that moves the mean of all tokens into [CLS], for models with mean pooling.

Most sentence encoders use the mean of the token vectors; their [CLS] was never trained. A new last
layer with uniform attention moves that mean into [CLS]. So training starts with the dense vectors
that the model already has, in the position that DupMAE uses. It is an ordinary layer of the
backbone: checkpoints stay ordinary, and it is trained like any other.
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

    Queries start at zero, which makes attention uniform. The value weights are the identity, the
    output weights the identity times ``gain``. The feed-forward part adds nothing at first. A mean
    of many tokens is shorter than they are, so a gain of 1 leaves [CLS] mostly unchanged; with a
    very large gain all tokens become the mean, and the lexical head cannot distinguish them. For
    all-MiniLM-L6-v2 a gain of 5 gives [CLS] a cosine of .93 with the mean, and other tokens one of
    .85 with [CLS]. Weights that start at zero still learn: their gradients come from the other
    factor of their product.
    Raises InputError for a backbone whose layers are not laid out as BERT's.
    """
    body = lm.base_model
    layers = getattr(getattr(body, "encoder", None), "layer", None)
    if not isinstance(layers, nn.ModuleList) or not hasattr(layers[-1], "intermediate"):
        raise InputError(f"{type(lm).__name__}: a mean layer can be added to BERT-like models only")
    layer: Any = copy.deepcopy(layers[-1])
    attention, width = layer.attention, lm.config.hidden_size
    for module in (attention.self.key, attention.self.value, attention.output.dense):
        nn.init.zeros_(module.bias)
    nn.init.zeros_(attention.self.query.weight)
    nn.init.zeros_(attention.self.query.bias)
    # Keys keep the last layer's weights. They have no effect while queries are zero, but with zero
    # keys the queries would get no gradient.
    attention.self.value.weight.copy_(torch.eye(width))
    attention.output.dense.weight.copy_(gain * torch.eye(width))
    nn.init.zeros_(layer.output.dense.weight)
    nn.init.zeros_(layer.output.dense.bias)
    # The states have the last LayerNorm's gains already; copying them would apply them twice.
    nn.init.ones_(attention.output.LayerNorm.weight)
    nn.init.zeros_(attention.output.LayerNorm.bias)
    nn.init.ones_(layer.output.LayerNorm.weight)
    nn.init.zeros_(layer.output.LayerNorm.bias)
    if hasattr(attention.self, "layer_idx"):
        attention.self.layer_idx = len(layers)
    layers.append(layer)
    lm.config.num_hidden_layers = len(layers)
