"""The added layer gives the mean of all tokens, learns, and is saved as any layer."""

from __future__ import annotations

import pytest
import torch

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.checkpoints import load_masked_lm
from dupmae_toolkit.model.mean_layer import add_mean_layer
from dupmae_toolkit.training.finetune import freeze_layers, set_dropout
from tests.families import save_checkpoint

TEXTS = ["war of the star and the moon", "river"]


@pytest.fixture
def model(tmp_path):
    return load_masked_lm(save_checkpoint(tmp_path / "model"))


def states(lm, tokenizer, texts=TEXTS):
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    return lm.base_model(**batch)[0], batch["attention_mask"]


@pytest.mark.parametrize("gain", [1.0, 5.0, 1000.0])
def test_the_layer_gives_layer_norm_of_x_plus_gain_times_the_mean(model, gain):
    lm, tokenizer, _ = model
    with torch.no_grad():
        before, mask = states(lm, tokenizer)
        add_mean_layer(lm, gain)
        after, _ = states(lm.eval(), tokenizer)
    for row, new, inside in zip(before, after, mask.bool(), strict=True):
        wanted = row[inside] + gain * row[inside].mean(0)
        eps = lm.config.layer_norm_eps
        wanted = torch.nn.functional.layer_norm(wanted, wanted.shape[-1:], eps=eps)
        torch.testing.assert_close(new[inside], wanted, atol=1e-4, rtol=1e-3)


def test_every_part_of_the_layer_learns(model):
    lm, tokenizer, _ = model
    add_mean_layer(lm, 3.0)
    layer = lm.base_model.encoder.layer[-1]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    start = {name: weight.clone() for name, weight in layer.named_parameters()}
    target = torch.randn(2, lm.config.hidden_size, generator=torch.manual_seed(0))
    for _ in range(3):
        loss = (states(lm, tokenizer)[0][:, 0] - target).square().sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    # A bias that all keys share moves no softmax.
    same = {n for n, weight in layer.named_parameters() if torch.equal(weight, start[n])}
    assert same <= {"attention.self.key.bias"}


def test_it_is_saved_and_loaded_as_any_layer(model, tmp_path):
    lm, tokenizer, _ = model
    add_mean_layer(lm, 3.0)
    with torch.no_grad():
        wanted, _ = states(lm.eval(), tokenizer)
        lm.save_pretrained(tmp_path / "saved")
        tokenizer.save_pretrained(tmp_path / "saved")
        again, _, _ = load_masked_lm(tmp_path / "saved")
        assert len(again.base_model.encoder.layer) == 3
        torch.testing.assert_close(states(again, tokenizer)[0], wanted)


def test_other_architectures_are_refused(tmp_path):
    lm, _, _ = load_masked_lm(save_checkpoint(tmp_path / "model", "distilbert"))
    with pytest.raises(InputError, match="DistilBertForMaskedLM: a mean layer"):
        add_mean_layer(lm, 3.0)


@pytest.mark.parametrize("family", ["bert", "distilbert", "roberta", "mpnet", "modernbert"])
def test_frozen_layers_get_no_gradient_and_the_others_do(tmp_path, family):
    lm, tokenizer, _ = load_masked_lm(save_checkpoint(tmp_path / "model", family))
    batch = tokenizer(TEXTS, padding=True, return_tensors="pt")
    batch.pop("token_type_ids", None)
    lm.train()
    freeze_layers(lm, 1)
    lm.base_model(**batch)[0].square().mean().backward()
    assert lm.get_input_embeddings().weight.grad is None
    with_gradient = {n for n, p in lm.base_model.named_parameters() if p.grad is not None}
    assert with_gradient
    assert not any(".0." in name or "embeddings" in name for name in with_gradient)
    with pytest.raises(InputError, match="frozen_layers is 2; the backbone has 2 layers"):
        freeze_layers(lm, 2)


def test_without_dropout_two_passes_in_training_mode_are_alike(model):
    lm, tokenizer, _ = model
    lm.train()
    with torch.no_grad():
        set_dropout(lm, 0.9)
        assert not torch.equal(states(lm, tokenizer)[0], states(lm, tokenizer)[0])
        set_dropout(lm, 0.0)
        assert torch.equal(states(lm, tokenizer)[0], states(lm, tokenizer)[0])
