"""The published pre-training, written from its formulas: dense, in loops, and slow.

It shares nothing with the library but the weights. Texts are taken one at a time, attention one
head and one row at a time, and the vocabulary's logits as transformers' own heads give them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from dupmae_toolkit.model.decoder import CLSDecoder

SPECIAL_IDS = (0, 2, 3, 4)  # [PAD], [CLS], [SEP], [MASK] of tests.tiny; [UNK] is a word


def randomise(module: nn.Module, seed: int = 3) -> Any:
    """Draw every parameter, so that biases and norms that start at 0 or 1 cannot hide."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            centre = 1.0 if "norm.weight" in name else 0.0
            parameter.copy_(centre + 0.3 * torch.randn(parameter.shape, generator=generator))
    return module


def head(lm: Any, hidden: Tensor) -> Tensor:
    """The masked LM's own head, [..., H] -> [..., V]."""
    kind = lm.config.model_type
    if kind == "bert":
        return lm.cls(hidden)
    if kind == "distilbert":
        hidden = lm.vocab_layer_norm(functional.gelu(lm.vocab_transform(hidden)))
        return lm.vocab_projector(hidden)
    if kind == "modernbert":
        return lm.decoder(lm.head(hidden))
    return lm.lm_head(hidden)


def plain_projection(lm: Any, hidden: Tensor) -> Tensor:
    """W·h + b with the last layer of the head alone."""
    output = lm.get_output_embeddings()
    return hidden @ output.weight.T + output.bias


def sinusoid(position: int, width: int) -> Tensor:
    half = math.ceil(width / 2)
    angles = [position / 10000 ** (i / half) for i in range(half)]
    values = [math.sin(a) for a in angles] + [math.cos(a) for a in angles]
    return torch.tensor(values[:width]) * math.sqrt(2)


def position(decoder: CLSDecoder, lm: Any, i: int) -> Tensor:
    embeddings = lm.base_model.embeddings
    if lm.config.model_type == "modernbert":
        return decoder.position_scale * sinusoid(i, lm.config.hidden_size)
    first = {"bert": 0, "distilbert": 0, "roberta": 1, "xlm-roberta": 1, "mpnet": 2}
    return embeddings.position_embeddings.weight[i + first[lm.config.model_type]]


def embedded_text(decoder: CLSDecoder, lm: Any, ids: Tensor) -> Tensor:
    """emb(x), [B, L, H]: the backbone's; with sinusoids where it has no positions."""
    embeddings = lm.base_model.embeddings
    if lm.config.model_type == "modernbert":
        places = torch.stack([position(decoder, lm, i) for i in range(ids.shape[1])])
        return embeddings.norm(embeddings.tok_embeddings(ids) + places)
    return embeddings(ids)


def decoder_reference(
    decoder: CLSDecoder, lm: Any, kind: str, cls: Tensor, ids: Tensor, visible: Tensor, row: int
) -> Tensor:
    """One row of the decoder, [H]. cls: [H]. ids: [L]. visible: [L, L]."""
    embeddings = lm.base_model.embeddings
    query = cls + position(decoder, lm, row)
    if kind == "normalized":
        if hasattr(embeddings, "token_type_embeddings"):
            query = query + embeddings.token_type_embeddings.weight[0]
        norm = embeddings.norm if hasattr(embeddings, "norm") else embeddings.LayerNorm
        query = norm(query)
    memory = torch.cat([cls[None], embedded_text(decoder, lm, ids[None])[0, 1:]])
    seen = [j for j in range(len(ids)) if visible[row, j]]
    asked = decoder.query.weight @ query + decoder.query.bias
    keys = torch.stack([decoder.key.weight @ memory[j] + decoder.key.bias for j in seen])
    values = torch.stack([decoder.value.weight @ memory[j] + decoder.value.bias for j in seen])
    heads = lm.config.num_attention_heads
    width = len(cls) // heads
    parts = []
    for h in range(heads):
        span = slice(h * width, (h + 1) * width)
        shares = torch.softmax(keys[:, span] @ asked[span] / math.sqrt(width), dim=0)
        parts.append(shares @ values[:, span])
    attended = decoder.attended.weight @ torch.cat(parts) + decoder.attended.bias
    state = decoder.attention_norm(query + attended)
    inner = functional.gelu(decoder.widen.weight @ state + decoder.widen.bias)
    return decoder.output_norm(state + decoder.narrow.weight @ inner + decoder.narrow.bias)


def mlm_reference(lm: Any, batch: dict[str, Tensor], hidden: Tensor) -> Tensor:
    """Mean over the masked tokens of all texts."""
    terms = [
        functional.cross_entropy(head(lm, hidden[b, i])[None], batch["labels"][b, i][None])
        for b, i in (batch["labels"] != -100).nonzero().tolist()
    ]
    return torch.stack(terms).mean()


def rebuilt_reference(model: Any, batch: dict[str, Tensor], hidden: Tensor, kind: str) -> Tensor:
    """Mean over all tokens but the special ones of what the decoder on [CLS] says of them."""
    lm = model.encoder.lm
    terms = []
    for b, text in enumerate(batch["decoder_input_ids"]):
        for i, token in enumerate(text.tolist()):
            if token in SPECIAL_IDS:
                continue
            visible = batch["decoder_attention_mask"][b].bool()
            state = decoder_reference(model.decoder, lm, kind, hidden[b, 0], text, visible, i)
            terms.append(-torch.log_softmax(head(lm, state), dim=0)[token])
    return torch.stack(terms).mean()


def bag_reference(lm: Any, batch: dict[str, Tensor], hidden: Tensor, preset: str) -> Tensor:
    """-Σ w_t · log softmax of the pooled logits, mean over the texts."""
    terms = []
    labels = batch["labels"]
    masked = labels != -100
    for b, shown in enumerate(batch["input_ids"].tolist()):
        length = int(batch["attention_mask"][b].sum())
        text = [t if not masked[b, i] else int(labels[b, i]) for i, t in enumerate(shown)]
        words = [token for token in text if token not in SPECIAL_IDS]
        weight = 1 / len(words)
        if preset == "official":
            logits = torch.stack([head(lm, hidden[b, i]) for i in range(1, length)])
        elif preset == "bow":
            logits = head(lm, hidden[b, 0])[None]
        else:
            pool = [i for i in range(length) if text[i] not in SPECIAL_IDS and not masked[b, i]]
            logits = torch.stack([plain_projection(lm, hidden[b, i]) for i in pool])
            weight = 1.0
        shares = torch.log_softmax(logits.max(dim=0).values, dim=0)
        terms.append(-sum(weight * shares[token] for token in sorted(set(words))))
    return torch.stack(terms).mean()


#: What each preset adds up: the weights of mlm, decoder and bow before the first step.
WEIGHTS = {
    "official": (1.0, 1.0, 0.1),
    "paper": (1.0, 1.0, 1.0),
    "retromae": (1.0, 1.0, None),
    "bow": (1.0, None, 1.0),
    "mlm": (1.0, None, None),
}


def losses_reference(model: Any, batch: dict[str, Tensor], preset: str) -> dict[str, Tensor]:
    """Those of mlm, decoder and bow that a preset has, and their sum, as published."""
    lm = model.encoder.lm
    hidden = lm.base_model(batch["input_ids"], batch["attention_mask"])[0]
    _, decoder, bow = WEIGHTS[preset]
    total = mlm = mlm_reference(lm, batch, hidden)
    parts = {"mlm": mlm}
    if decoder is not None:
        kind = "sum" if preset == "paper" else "normalized"
        parts["decoder"] = rebuilt_reference(model, batch, hidden, kind)
        total = total + decoder * parts["decoder"]
    if bow is not None:
        parts["bow"] = bag_reference(lm, batch, hidden, preset)
        total = total + bow * parts["bow"]
    return {**parts, "loss": total}
