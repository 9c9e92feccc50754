"""What exists in memory while a batch is trained on: never a logit for every token and term."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from dupmae_toolkit.model import backbones, heads, pretraining_losses
from dupmae_toolkit.model.presets import PreTrainingConfig
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.training.data.collator import PreTrainingCollator
from dupmae_toolkit.training.running.chunks import encode_in_chunks
from tests.tiny import tiny_encoder

BATCH, LENGTH, TERMS, WIDTH = 8, 40, 8192, 16
EVERYTHING = BATCH * LENGTH * TERMS
#: Of the pooled head; that of the cross-entropy is made smaller here, as the batch is small.
POOLED = BATCH * LENGTH * heads.CHUNK
CHUNK = 1 << 18


class Largest(TorchDispatchMode):
    """Keeps the size of the largest tensor that any operation gives, forward and back."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers = 0
        self.what = ""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple | list) else [result]:
            if isinstance(tensor, Tensor):
                # Of a sparse tensor only what is stored lies in memory.
                stored = tensor if tensor.layout == torch.strided else tensor.values()
                if stored.numel() > self.numbers:
                    self.numbers, self.what = stored.numel(), str(function)
        return result


def wide_encoder():
    """A vocabulary of thousands, of which the tokenizer has the first few."""
    return tiny_encoder(size=TERMS)


def pretraining(preset):
    config = PreTrainingConfig.preset(preset)
    encoder = wide_encoder()
    if config.lexical_head != encoder.config.lexical_head:
        encoder.config = encoder.config.but(lexical_head=config.lexical_head)
    model = DupMAEForPreTraining(encoder, config).train()
    ordinary = torch.arange(5, 64)
    torch.manual_seed(0)
    rows = [
        {"input_ids": [2, *ordinary[torch.randint(59, (LENGTH - 2,))].tolist(), 3]}
        for _ in range(BATCH)
    ]
    return model, PreTrainingCollator(encoder.tokenizer, config, seed=1)(rows)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setattr(pretraining_losses, "CHUNK", CHUNK)


def saved_numbers(kept: list[int]):
    """A context in which the sizes of what is kept for the way back are listed."""

    def pack(tensor: Tensor) -> Tensor:
        stored = tensor if tensor.layout == torch.strided else tensor.values()
        kept.append(stored.numel())
        return tensor

    return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)


@pytest.mark.parametrize("preset", ["official", "paper", "bow"])
def test_pre_training_makes_no_tensor_of_every_token_and_term(preset):
    model, batch = pretraining(preset)
    assert batch["input_ids"].shape == (BATCH, LENGTH)
    kept: list[int] = []
    with Largest() as largest:
        with saved_numbers(kept):
            output = model(**batch)
        output.loss.backward()
    bound = max(CHUNK, POOLED, TERMS * WIDTH, BATCH * TERMS)
    assert largest.numbers <= bound, (largest.what, largest.numbers)
    assert bound < EVERYTHING / 4
    # Of what is kept, too, nothing grows with tokens times terms.
    assert max(kept) <= max(TERMS * WIDTH, BATCH * TERMS, BATCH * LENGTH * LENGTH)


def test_the_same_losses_computed_plainly_are_seen_to_make_one():
    """The measuring itself: what the heads avoid is found where it is done."""
    model, batch = pretraining("official")
    with Largest() as largest:
        lm = model.encoder.lm
        hidden = backbones.hidden_states(lm, batch["input_ids"], batch["attention_mask"])
        matrix, bias = backbones.vocabulary_projection(lm)
        logits = functional.linear(backbones.transform(lm, hidden), matrix, bias)
        logits.amax(dim=1).sum().backward()
    assert largest.numbers == EVERYTHING


@pytest.mark.parametrize("chunk_size", [0, 2])
def test_fine_tuning_makes_a_row_of_terms_for_each_text_and_no_more(chunk_size):
    encoder = wide_encoder().train()
    torch.manual_seed(0)
    ids = torch.randint(5, 64, (BATCH, LENGTH))
    with Largest() as largest:
        vectors = encode_in_chunks(encoder, ids, torch.ones_like(ids), chunk_size=chunk_size)
        (vectors.lexical.sum() + vectors.dense.sum()).backward()
    texts = chunk_size or BATCH
    # A gradient for each text and term is stored with its two places, where every term is active.
    bound = max(texts * LENGTH * heads.CHUNK, TERMS * WIDTH, 2 * BATCH * TERMS)
    assert largest.numbers <= bound, (largest.what, largest.numbers)
