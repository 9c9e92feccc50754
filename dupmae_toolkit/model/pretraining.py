"""Pre-training a DupMAE encoder: masked tokens, the decoder on [CLS], and the bag of words."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json, replace_folder, write_json
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import named_folder
from dupmae_toolkit.model.decoder import CLSDecoder
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.model.pretraining_losses import bag_of_words_loss, linear_cross_entropy

DECODER_WEIGHTS = "decoder.safetensors"
CONFIG_KEY = "pretraining"  # in config.json, under "dupmae"
IGNORED = -100  # the label of a token without a loss


class PreTrainingOutput(NamedTuple):
    """loss: float32 scalar, the weighted sum; the only part with a gradient.

    mlm, decoder, bow: its unweighted parts, None for a part with weight 0. cls: [B, H].
    bow_logits: float32 [B, |V|], pooled, before any activation, or None.
    """

    loss: Tensor
    mlm: Tensor | None
    decoder: Tensor | None
    bow: Tensor | None
    cls: Tensor
    bow_logits: Tensor | None


class DupMAEForPreTraining(nn.Module):
    """An encoder with the two decoders that train it.

    Example:
        encoder = DupMAEEncoder.from_pretrained("bert-base-uncased")
        model = DupMAEForPreTraining(encoder, PreTrainingConfig.preset("official"))
        collate = PreTrainingCollator(encoder.tokenizer, model.config)
        model(**collate([{"input_ids": ids} for ids in batch])).loss.backward()
    """

    def __init__(self, encoder: DupMAEEncoder, config: PreTrainingConfig | None = None) -> None:
        super().__init__()
        self.config = config or PreTrainingConfig()
        self.encoder = encoder
        if self.config.bow_weight:
            encoder.config = encoder.config.but(lexical_head=self.config.lexical_head)
        self.decoder: CLSDecoder | None = None
        if self.config.decoder_weight:
            self.decoder = CLSDecoder(encoder.lm, self.config.decoder_query).to(encoder.device)

    def forward(
        self,
        input_ids: Tensor,
        attention_mask: Tensor,
        labels: Tensor,
        decoder_input_ids: Tensor | None = None,
        decoder_labels: Tensor | None = None,
        decoder_attention_mask: Tensor | None = None,
        bow_ids: Tensor | None = None,
        bow_weights: Tensor | None = None,
        progress: float = 0.0,
        scales: Mapping[str, float] | None = None,
    ) -> PreTrainingOutput:
        """The losses of a batch as PreTrainingCollator makes it.

        input_ids, attention_mask, labels: int64 [B, L], the masked text. decoder_input_ids,
        decoder_labels: int64 [B, L], the unmasked text. decoder_attention_mask: bool [B, L, L].
        bow_ids, bow_weights: int64 and float32 [B, U]. Labels are -100 where there is no loss.
        Arguments for a part with weight 0 may be omitted. progress: the share of the steps that are
        done, for a weight that changes with them.
        scales: factors of ``mlm``, ``decoder`` and ``bow`` in the loss, 1 if not named. They weight
        a piece of a larger batch by its number of tokens or texts; see ``counts``.
        """
        scales = scales or {}
        lm, config = self.encoder.lm, self.config
        hidden = backbones.hidden_states(lm, input_ids, attention_mask)
        cls = hidden[:, 0]
        states: dict[str, Tensor] = {}
        targets: dict[str, Tensor] = {}
        if config.mlm_weight:
            rows = labels != IGNORED
            states["mlm"], targets["mlm"] = hidden[rows], labels[rows]
        if self.decoder is not None:
            whole = _given(decoder_labels, "decoder_labels")
            rows = whole != IGNORED
            states["decoder"] = self.decoder(
                lm,
                cls,
                _given(decoder_input_ids, "decoder_input_ids"),
                _given(decoder_attention_mask, "decoder_attention_mask"),
                rows,
            )
            targets["decoder"] = whole[rows]
        loss, parts = self._token_losses(states, targets, scales)
        bow, bow_logits = None, None
        if config.bow_weight:
            pool = self._pool_mask(input_ids, attention_mask, labels)
            bow_logits = self.encoder.bag_of_words(hidden, pool)
            bow = bag_of_words_loss(
                bow_logits, _given(bow_ids, "bow_ids"), _given(bow_weights, "bow_weights")
            )
            loss = loss + config.bow_weight_at(progress) * scales.get("bow", 1.0) * bow
            bow = bow.detach()
        return PreTrainingOutput(loss, parts.get("mlm"), parts.get("decoder"), bow, cls, bow_logits)

    def _token_losses(
        self,
        states: dict[str, Tensor],
        targets: dict[str, Tensor],
        scales: Mapping[str, float],
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Mean cross-entropy of each part, in one pass over the vocabulary; a part may be empty."""
        weights = {"mlm": self.config.mlm_weight, "decoder": self.config.decoder_weight}
        weights = {name: weight * scales.get(name, 1.0) for name, weight in weights.items()}
        matrix, bias = backbones.vocabulary_projection(self.encoder.lm)
        if not states:
            return matrix.new_zeros((), dtype=torch.float32), {}
        counts = {name: len(target) for name, target in targets.items()}
        row_weights = torch.cat(
            [
                torch.full((count,), weights[name] / max(count, 1), device=matrix.device)
                for name, count in counts.items()
            ]
        )
        features = torch.cat([backbones.transform(self.encoder.lm, s) for s in states.values()])
        loss, terms = linear_cross_entropy(
            features, matrix, bias, torch.cat(list(targets.values())), row_weights
        )
        split = terms.split(list(counts.values()))
        means = {
            name: part.sum() / max(len(part), 1) for name, part in zip(counts, split, strict=True)
        }
        return loss, means

    def counts(self, batch: Mapping[str, Tensor]) -> dict[str, int]:
        """The number of tokens, or texts, that each part of the loss is a mean over."""
        counts = {}
        if self.config.mlm_weight:
            counts["mlm"] = int((batch["labels"] != IGNORED).sum())
        if self.config.decoder_weight:
            counts["decoder"] = int((batch["decoder_labels"] != IGNORED).sum())
        if self.config.bow_weight:
            names = ("input_ids", "attention_mask", "labels")
            pool = self._pool_mask(*(batch[name].to(self.encoder.device) for name in names))
            counts["bow"] = int(pool.any(dim=1).sum())  # texts with pooled tokens
        return counts

    def _pool_mask(self, input_ids: Tensor, attention_mask: Tensor, labels: Tensor) -> Tensor:
        """The tokens that the bag of words is pooled over, bool [B, L]."""
        mask = attention_mask.bool()
        first = torch.zeros_like(mask)
        first[:, 0] = True
        if self.config.bow_pool == "cls":
            return first
        if self.config.bow_pool == "unmasked":
            ordinary: Any = self.encoder.ordinary
            return mask & ordinary[input_ids] & (labels == IGNORED)
        return mask & ~first

    @classmethod
    def from_pretrained(
        cls,
        source: str | Path,
        config: PreTrainingConfig | None = None,
        *,
        fresh_head: bool = False,
        **options: Any,
    ) -> DupMAEForPreTraining:
        """Load an encoder's checkpoint, and its decoder if it was saved, for further training.

        config: by default the one that the checkpoint was pre-trained with, else ``official``.
        options go to DupMAEEncoder.from_pretrained. A checkpoint without a decoder gets a new one.
        """
        encoder = DupMAEEncoder.from_pretrained(source, fresh_head=fresh_head, **options)
        carried = getattr(encoder.lm.config, "dupmae", None) or {}
        if config is None and CONFIG_KEY in carried:
            config = PreTrainingConfig.from_dict(carried[CONFIG_KEY])
        # A new decoder is drawn at random: the same one each time.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model = cls(encoder, config)
        model._load_decoder(named_folder(source)[0] / DECODER_WEIGHTS)
        return model

    def _load_decoder(self, path: Path) -> None:
        if self.decoder is None or not path.exists():
            return
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            self.decoder.load_state_dict(load_file(path))
        except (SafetensorError, RuntimeError, OSError) as error:
            reason = " ".join(str(error).split())[:200]
            raise InputError(
                f"{path}: is not this encoder's decoder ({reason}); remove it to start a new one"
            ) from error

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the encoder's checkpoint with decoder.safetensors and the pre-training settings."""
        from safetensors.torch import save_file

        with replace_folder(Path(folder)) as temporary:
            self.encoder.save_pretrained(temporary)
            if self.decoder is not None:
                state = {k: v.detach().contiguous() for k, v in self.decoder.state_dict().items()}
                save_file(state, temporary / DECODER_WEIGHTS)
            settings = read_json(temporary / "config.json")
            settings["dupmae"][CONFIG_KEY] = self.config.to_dict()
            write_json(temporary / "config.json", settings)


def _given(tensor: Tensor | None, name: str) -> Tensor:
    if tensor is None:
        raise InputError(f"the batch lacks {name}; collate it with the model's own config")
    return tensor
