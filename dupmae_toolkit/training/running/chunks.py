"""Large batches on small memory: the encoder's graph exists for one chunk of texts at a time.

A contrastive loss needs the vectors of the whole batch at once, but not the encoder's activations
behind them. As in GradCache (Gao et al. 2021): encode chunk by chunk and keep only the vectors;
compute the loss and its gradient for the vectors; encode each chunk once more, now with its graph,
and propagate its vectors' gradients through it. The gradient is that of one large batch, at the
cost of a second forward pass.

Here each chunk is a checkpointed piece of the graph (torch.utils.checkpoint), so these three steps
happen within one ordinary backward pass, in any precision and under any wrapper. The random state
of each chunk is saved and replayed, so dropout drops the same units.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from dupmae_toolkit.model.encoder import DupMAEEncoder


class Vectors(NamedTuple):
    """dense: [B, d]. lexical: float32 [B, |V|], or None for an encoder without a lexical head."""

    dense: Tensor
    lexical: Tensor | None


def encode_in_chunks(
    encoder: DupMAEEncoder,
    input_ids: Tensor,
    attention_mask: Tensor,
    *,
    chunk_size: int = 0,
    top_k: int = 0,
    lexical: bool = True,
) -> Vectors:
    """The dense and lexical vectors of a batch, with gradient.

    input_ids, attention_mask: int64 [B, L], padded on the right. chunk_size: texts whose
    activations may be in memory together, 0 for all of them. top_k: how many of the
    largest weights are kept of each lexical vector, 0 for all. lexical: whether to compute them.

    With chunks, only the vectors stay until the backward pass, [B, d] and [B, |V|] in all; the rest
    of the graph, pooling and activation included, is computed again. Each chunk is trimmed to its
    own longest text.
    """
    if not chunk_size:
        return _encode(encoder, input_ids, attention_mask, top_k, lexical)
    dense, terms = [], []
    for start in range(0, len(input_ids), chunk_size):
        mask = attention_mask[start : start + chunk_size]
        length = int(mask.sum(dim=1).max())
        ids = input_ids[start : start + chunk_size, :length]
        part = checkpoint(
            _encode, encoder, ids, mask[:, :length], top_k, lexical, use_reentrant=False
        )
        dense.append(part.dense)
        if part.lexical is not None:
            terms.append(part.lexical)
    return Vectors(torch.cat(dense), torch.cat(terms) if terms else None)


def _encode(
    encoder: DupMAEEncoder, input_ids: Tensor, attention_mask: Tensor, top_k: int, lexical: bool
) -> Vectors:
    output = encoder(input_ids, attention_mask, lexical=lexical)
    found = output.lexical
    if found is not None and 0 < top_k < found.shape[1]:
        weights, terms = found.topk(top_k, dim=1, sorted=False)
        found = torch.zeros_like(found).scatter(1, terms, weights)
    return Vectors(output.dense, found)
