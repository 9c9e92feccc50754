"""Access to the parts of a masked language model under transformers' various names.

Every masked LM has a backbone, a transform of each token's hidden state, and a projection onto the
vocabulary. The model families differ only in the names.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError


def hidden_states(lm: Any, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    """The backbone's last hidden states, [B, L, H]."""
    return lm.base_model(input_ids=input_ids, attention_mask=attention_mask)[0]


def transform(lm: Any, hidden: Tensor) -> Tensor:
    """The masked-LM head up to, but without, the vocabulary projection: [..., H] -> [..., H']."""
    if hasattr(lm, "cls") and hasattr(lm.cls, "predictions"):  # BERT and models like it
        return lm.cls.predictions.transform(hidden)
    if hasattr(lm, "vocab_transform"):  # DistilBERT
        return lm.vocab_layer_norm(lm.activation(lm.vocab_transform(hidden)))
    if hasattr(lm, "lm_head") and hasattr(lm.lm_head, "layer_norm"):  # RoBERTa, XLM-R, MPNet
        return lm.lm_head.layer_norm(nn.functional.gelu(lm.lm_head.dense(hidden)))
    if hasattr(lm, "head") and hasattr(lm, "decoder"):  # ModernBERT
        return lm.head(hidden)
    if hasattr(lm, "generator_predictions"):  # ELECTRA's generator
        return lm.generator_predictions(hidden)
    raise InputError(
        f"{type(lm).__name__}: its masked-LM head is not supported; use a BERT, "
        "DistilBERT, RoBERTa, XLM-R, MPNet, ModernBERT or ELECTRA model"
    )


def vocabulary_projection(lm: Any) -> tuple[Tensor, Tensor]:
    """Weight [V, H'] and bias [V] of the last layer; zeros for a missing bias."""
    output = lm.get_output_embeddings()
    bias = output.bias
    if bias is None:
        bias = torch.zeros(output.weight.shape[0], device=output.weight.device)
    return output.weight, bias


def positions(lm: Any) -> int:
    """The number of tokens that the backbone has positions for."""
    embeddings = getattr(lm.base_model, "embeddings", None)
    table = getattr(embeddings, "position_embeddings", None)
    if isinstance(table, nn.Embedding):
        # RoBERTa-like models count positions from the row after the padding token's.
        first = 0 if table.padding_idx is None else table.padding_idx + 1
        return table.num_embeddings - first
    return getattr(lm.config, "max_position_embeddings", None) or 1 << 20
