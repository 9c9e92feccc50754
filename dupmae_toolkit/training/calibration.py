"""Calibrates a bag-of-words head for term weights, before the first step of fine-tuning.

The bag-of-words loss makes the head predict log p(term | text) up to a constant. Two corrections
turn that into term weights. A term that is frequent everywhere says little, so a share of log
p(term) is subtracted, like an inverse document frequency. The constant makes no difference to the
softmax but does to ReLU, so it is set to give the wanted number of active terms per text.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import pad, tokenize
from dupmae_toolkit.training.data.frequencies import TermFrequencies

PRIOR_TEXTS = 8192
SHIFT_TEXTS = 64


def log_document_frequency(encoder: DupMAEEncoder, texts: list[str], max_length: int) -> Tensor:
    """log((df + 1/2) / (n + 1)) of each vocabulary entry over n texts, float32 [|V|]."""
    found = TermFrequencies.of(encoder, texts, max_length)
    shares = (found.documents + 0.5) / (found.texts + 1)
    return torch.from_numpy(np.log(shares).astype(np.float32))


@torch.no_grad()
def calibrate_head(
    encoder: DupMAEEncoder, texts: list[str], *, prior: float, active_terms: int, max_length: int
) -> float:
    """Change the head's bias in place; returns the constant that was added.

    prior: the share of the log document frequency that is subtracted, 0 for none.
    active_terms: the wanted mean number of terms above 0 in a text; 0 to leave the constant.
    Raises InputError for a head without a bias.
    """
    bias = encoder.lm.get_output_embeddings().bias
    if bias is None:
        raise InputError("the head has no bias; set unigram_prior and active_terms to 0")
    if prior:
        bias -= prior * log_document_frequency(encoder, texts, max_length).to(bias.device)
    if not active_terms:
        return 0.0
    logits = []
    encoder.eval()
    with encoder.autocast():
        for row in tokenize(encoder.tokenizer, texts[:SHIFT_TEXTS], max_length).ids:
            input_ids, mask = (tensor.to(encoder.device) for tensor in pad([row], encoder.pad_id))
            hidden = backbones.hidden_states(encoder.lm, input_ids, mask)
            pooled = encoder.bag_of_words(hidden, mask.bool() & encoder.ordinary[input_ids])
            logits.append(pooled.float().cpu())
    values = torch.cat(logits).flatten()
    values = values[torch.isfinite(values)]
    if not len(values):
        raise InputError("active_terms: the first texts of the data hold no ordinary token")
    wanted = min(active_terms * len(logits), len(values))
    shift = -torch.topk(values, wanted).values[-1].item()
    bias += shift
    return shift
