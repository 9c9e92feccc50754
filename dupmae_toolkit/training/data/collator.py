"""Makes pre-training batches from token ids: masks, labels, and the terms of each text."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.model.pretraining import IGNORED
from dupmae_toolkit.training.data.masking import budgets, decoder_visibility, whole_word_masks
from dupmae_toolkit.training.data.words import Words


class PreTrainingCollator:
    """Batches for DupMAEForPreTraining as the authors' collator makes them, but vectorised.

    The masks depend only on ``seed``, ``epoch`` and the batch's own ids, and not on the number of
    workers or on earlier draws. So a resumed training sees the same masks as an uninterrupted one.
    Change ``epoch`` if the same batches come again.

    tokenizer: a fast one, with [MASK]. config: rates, pool, weighting; parts with a weight of 0
    are left out of the batch. pad_to_multiple_of: pads the length for kernels that need multiples.
    """

    def __init__(
        self,
        tokenizer: Any,
        config: PreTrainingConfig | None = None,
        *,
        seed: int = 0,
        pad_to_multiple_of: int = 1,
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise InputError("the tokenizer has no mask token; masked pre-training needs one")
        self.config = config or PreTrainingConfig()
        self.seed = seed
        self.epoch = 0
        self.words = Words(tokenizer)
        self.mask_id: int = tokenizer.mask_token_id
        self.pad_id: int = tokenizer.pad_token_id or 0
        self.multiple = pad_to_multiple_of
        self._random_ids = np.flatnonzero(self.words.ordinary)

    def __call__(self, examples: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
        """Collate examples, each with ``input_ids``: one text's token ids from [CLS] to [SEP].

        Returns input_ids, attention_mask and labels of the masked text, int64 [B, L]; with a
        decoder also decoder_input_ids, decoder_labels, int64 [B, L], and decoder_attention_mask,
        bool [B, L, L]; with a bag of words also bow_ids, int64 [B, U], and bow_weights, float32
        [B, U], padded with 0.
        """
        batch = self.arrays([example["input_ids"] for example in examples])
        return {name: torch.from_numpy(array) for name, array in batch.items()}

    def arrays(self, texts: Sequence[Sequence[int]]) -> dict[str, np.ndarray]:
        """The same batch as numpy arrays."""
        ids, lengths = self._pad(texts)
        rng = np.random.default_rng([self.seed, self.epoch, zlib.crc32(ids.tobytes())])
        inside = np.arange(ids.shape[1]) < lengths[:, None]
        ordinary = inside & self.words.ordinary[ids]
        words = self.words.number(ids, ordinary)
        masked = whole_word_masks(words, budgets(lengths, self.config.encoder_mask_rate), 1, rng)[
            :, 0
        ]
        batch = {
            "input_ids": self._corrupt(ids, masked, rng),
            "attention_mask": inside.astype(np.int64),
            "labels": np.where(masked, ids, IGNORED),
        }
        if self.config.decoder_weight:
            batch["decoder_input_ids"] = ids
            batch["decoder_labels"] = np.where(ordinary, ids, IGNORED)
            batch["decoder_attention_mask"] = decoder_visibility(
                words, lengths, self.config.decoder_mask_rate, self.config.mask_pool, rng
            )
        if self.config.bow_weight:
            batch["bow_ids"], batch["bow_weights"] = bag_of_words(
                ids, ordinary, self.config.bow_weighting
            )
        return batch

    def _pad(self, texts: Sequence[Sequence[int]]) -> tuple[np.ndarray, np.ndarray]:
        lengths = np.asarray([len(text) for text in texts], dtype=np.int64)
        if not len(lengths) or lengths.min() < 1:
            raise InputError("a batch needs texts of at least one token")
        width = -(-int(lengths.max()) // self.multiple) * self.multiple
        ids = np.full((len(texts), width), self.pad_id, dtype=np.int64)
        for row, text in enumerate(texts):
            ids[row, : lengths[row]] = text
        return ids, lengths

    def _corrupt(self, ids: np.ndarray, masked: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Of the masked tokens, 80 % become [MASK], 10 % any ordinary token, 10 % stay."""
        draw = rng.random(ids.shape, dtype=np.float32)
        replaced = np.where(masked & (draw < 0.8), self.mask_id, ids)
        other = masked & (draw >= 0.8) & (draw < 0.9)
        replaced[other] = rng.choice(self._random_ids, size=int(other.sum()))
        return replaced


def bag_of_words(
    ids: np.ndarray, ordinary: np.ndarray, weighting: str
) -> tuple[np.ndarray, np.ndarray]:
    """The distinct terms of each text, ascending, and their weights w_t: int64, float32 [B, U].

    ids: int64 [B, L]. ordinary: bool [B, L], the tokens that count. weighting: ``frequency``, 1/n
    for n such tokens, repeats included; ``set``, 1. Rows are padded with term 0 of weight 0.
    """
    last = np.iinfo(np.int64).max
    sorted_ids = np.sort(np.where(ordinary, ids, last), axis=1)
    new = sorted_ids < last
    new[:, 1:] &= sorted_ids[:, 1:] != sorted_ids[:, :-1]
    width = max(1, int(new.sum(axis=1).max()))
    terms = np.zeros((len(ids), width), dtype=np.int64)
    weights = np.zeros((len(ids), width), dtype=np.float32)
    row, column = np.nonzero(new)
    place = (np.cumsum(new, axis=1) - 1)[row, column]
    terms[row, place] = sorted_ids[row, column]
    weight = np.ones(len(ids))
    if weighting == "frequency":
        weight = 1 / np.maximum(1, ordinary.sum(axis=1))
    weights[row, place] = weight[row]
    return terms, weights
