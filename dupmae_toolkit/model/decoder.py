"""The decoder on [CLS]: one layer that rebuilds the whole text from its sentence vector.

"Enhanced decoding" of RetroMAE (arXiv 2205.12035), kept by DupMAE (arXiv 2305.02564, section 3.2):
every position predicts its own token, with the sentence vector as the query, and sees its own
random half of the other tokens. The layer is weak on purpose, so that [CLS] has to encode the text.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import PreTrainedModel
from transformers.activations import ACT2FN

from dupmae_toolkit.errors import InputError

QUERIES = ("normalized", "sum")


class CLSDecoder(nn.Module):
    """One post-norm transformer layer with separate queries; embeddings are the backbone's.

    query: ``normalized`` is Dropout(LayerNorm(h_cls + position + type 0)), the authors' code;
        ``sum`` is h_cls + position, the paper's equation 2.

    Sizes, dropout and activation follow the backbone's config; the weights start at random.
    Positions come from the backbone's table. For a backbone without one (ModernBERT rotates its
    queries and keys instead), this layer adds fixed sinusoids to queries and memory, times one
    learned scale that starts at the root mean square of the token embeddings.
    """

    def __init__(self, lm: PreTrainedModel, query: str = "normalized") -> None:
        super().__init__()
        if query not in QUERIES:
            raise InputError(f"decoder_query {query!r}: choose one of {list(QUERIES)}")
        config = lm.config
        width, inner = config.hidden_size, _setting(config, "intermediate_size", "hidden_dim")
        tokens: Any = lm.get_input_embeddings()
        if tokens.embedding_dim != width:
            raise InputError(
                f"{type(lm).__name__}: its embeddings are {tokens.embedding_dim} wide and its "
                f"hidden states {width}; the [CLS] decoder needs equal widths"
            )
        eps = _setting(config, "layer_norm_eps", "norm_eps", default=1e-12)
        self.kind = query
        self.heads = config.num_attention_heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.attended = nn.Linear(width, width)
        self.attention_norm = nn.LayerNorm(width, eps=eps)
        self.widen = nn.Linear(width, inner)
        self.narrow = nn.Linear(inner, width)
        self.output_norm = nn.LayerNorm(width, eps=eps)
        self.activation = ACT2FN[_setting(config, "hidden_act", "activation", "hidden_activation")]
        self.dropout = nn.Dropout(
            _setting(config, "hidden_dropout_prob", "dropout", "mlp_dropout", default=0.0)
        )
        self.attention_dropout: float = _setting(
            config, "attention_probs_dropout_prob", "attention_dropout", default=0.0
        )
        spread = _setting(config, "initializer_range", default=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=spread)
                nn.init.zeros_(module.bias)
        self.position_scale: nn.Parameter | None = None
        if _position_table(lm) is None:
            size = tokens.weight.detach().float().pow(2).mean().sqrt()
            self.position_scale = nn.Parameter(size.reshape(1))

    def forward(
        self, lm: PreTrainedModel, cls: Tensor, input_ids: Tensor, visible: Tensor, rows: Tensor
    ) -> Tensor:
        """Hidden states of the selected rows, [N, H], in the order of ``rows.nonzero()``.

        cls: [B, H], the encoder's raw first hidden state. input_ids: int64 [B, L], the unmasked
        text. visible: bool [B, L, L], true where row i may see token j. rows: bool [B, L].
        """
        query, memory = self.inputs(lm, cls, input_ids)
        # A row that sees nothing (padding) would be a softmax over an empty set: NaN gradients.
        visible = visible.bool()
        visible = visible | ~visible.any(dim=2, keepdim=True)
        context = functional.scaled_dot_product_attention(
            self._split(self.query(query)),
            self._split(self.key(memory)),
            self._split(self.value(memory)),
            attn_mask=visible[:, None],
            dropout_p=self.attention_dropout if self.training else 0.0,
        )
        context = context.transpose(1, 2).flatten(2)[rows]
        state = self.attention_norm(query[rows] + self.dropout(self.attended(context)))
        change = self.narrow(self.activation(self.widen(state)))
        return self.output_norm(state + self.dropout(change))

    def inputs(self, lm: PreTrainedModel, cls: Tensor, input_ids: Tensor) -> tuple[Tensor, Tensor]:
        """Query and memory, both [B, L, H]: memory is [h_cls ; emb(x)[1:]]."""
        embeddings: Any = lm.base_model.embeddings
        length = input_ids.shape[1]
        table = _position_table(lm)
        if table is None:
            assert self.position_scale is not None
            positions = self.position_scale * _sinusoids(length, cls.shape[1], cls.device)
            tokens: Any = lm.get_input_embeddings()
            embedded = _finish(embeddings, tokens(input_ids) + positions)
        else:
            # RoBERTa-like models count positions from the row after the padding token's.
            first = 0 if table.padding_idx is None else table.padding_idx + 1
            if first + length > table.num_embeddings:
                raise InputError(
                    f"a text of {length} tokens: the model has positions for "
                    f"{table.num_embeddings - first}; lower max_length"
                )
            positions = table.weight[first : first + length]
            embedded = embeddings(input_ids=input_ids)
        query = cls[:, None] + positions
        if self.kind == "normalized":
            types = getattr(embeddings, "token_type_embeddings", None)
            query = _finish(embeddings, query if types is None else query + types.weight[0])
        return query, torch.cat([cls[:, None].to(embedded.dtype), embedded[:, 1:]], dim=1)

    def _split(self, states: Tensor) -> Tensor:
        """[B, L, H] -> [B, heads, L, H / heads]"""
        return states.unflatten(2, (self.heads, -1)).transpose(1, 2)


def _position_table(lm: PreTrainedModel) -> nn.Embedding | None:
    embeddings = getattr(lm.base_model, "embeddings", None)
    if embeddings is None:
        raise InputError(
            f"{type(lm).__name__}: its embeddings are not where BERT-like models have them; "
            "pre-train without the [CLS] decoder (decoder_weight 0)"
        )
    return getattr(embeddings, "position_embeddings", None)


def _finish(embeddings: Any, states: Tensor) -> Tensor:
    """The backbone's steps after the sum of embeddings: LayerNorm, then dropout."""
    norm = getattr(embeddings, "LayerNorm", None) or embeddings.norm
    dropout = getattr(embeddings, "dropout", None) or embeddings.drop
    return dropout(norm(states))


def _sinusoids(length: int, width: int, device: torch.device) -> Tensor:
    """Fixed positions with mean square 1, [L, H]: sines, then cosines, geometric wavelengths."""
    half = (width + 1) // 2
    frequency = torch.arange(half, device=device).mul(-torch.log(torch.tensor(1e4)) / half).exp()
    angle = torch.arange(length, device=device)[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)[:, :width] * 2**0.5


def _setting(config: Any, *names: str, default: Any = None) -> Any:
    """The first of these names that the config has."""
    for name in names:
        if getattr(config, name, None) is not None:
            return getattr(config, name)
    if default is None:
        raise InputError(f"config of {config.model_type!r}: none of {list(names)} is stated")
    return default
