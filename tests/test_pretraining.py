"""Pre-training losses against the published formulas, and the authors' own numbers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import BertConfig, BertForMaskedLM

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json
from dupmae_toolkit.model import heads, pretraining_losses
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.presets import PRESETS, PreTrainingConfig
from dupmae_toolkit.model.pretraining import DupMAEForPreTraining
from dupmae_toolkit.model.pretraining_losses import bag_of_words_loss, linear_cross_entropy
from dupmae_toolkit.training.data.collator import PreTrainingCollator
from tests.pretraining_reference import losses_reference, randomise
from tests.tiny import FAMILIES, save_tiny, tiny_encoder, tiny_tokenizer

TEXTS = ["w1 w2p3p4 w5 w1 w9 w30 w31p8", "w40 w2 w3p1 w4", "w7 w8 w9 w7 w7 w7p1 w12 w13 w14 w15"]


def build(family: str = "bert", preset: str = "official", **changes: Any) -> DupMAEForPreTraining:
    torch.manual_seed(5)
    config = PreTrainingConfig.preset(preset, **changes)
    model = DupMAEForPreTraining(tiny_encoder(family), config).eval()
    if model.decoder is not None:
        randomise(model.decoder)
    return model


def batch_for(model: DupMAEForPreTraining, texts: list[str] = TEXTS, seed: int = 0) -> dict:
    tokenizer = tiny_tokenizer()
    collate = PreTrainingCollator(tokenizer, model.config, seed=seed)
    return collate([{"input_ids": tokenizer(text)["input_ids"]} for text in texts])


@pytest.mark.parametrize("preset", list(PRESETS))
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_and_gradients_equal_the_published_formulas(family: str, preset: str):
    model = build(family, preset)
    batch = batch_for(model)
    expected = losses_reference(model, batch, preset)
    expected["loss"].backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()

    output = model(**batch)
    output.loss.backward()
    for name, value in expected.items():
        torch.testing.assert_close(getattr(output, name), value, rtol=1e-5, atol=1e-5)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name not in gradients, name
            continue
        # A parameter that cannot matter (a bias of the keys) has rounding noise as its gradient.
        torch.testing.assert_close(
            parameter.grad, gradients[name], rtol=1e-3, atol=2e-5, msg=lambda m, n=name: f"{n}: {m}"
        )
    assert any("decoder.widen" in name for name in gradients) == ("decoder" in expected)
    assert {n for n in ("mlm", "decoder", "bow") if getattr(output, n) is not None} == (
        set(expected) - {"loss"}
    )


@pytest.mark.skipif("DUPMAE_DATA" not in os.environ, reason="DUPMAE_DATA names no data folder")
def test_official_preset_gives_the_numbers_of_the_authors_code():
    path = Path(os.environ["DUPMAE_DATA"], "parity", "official_dupmae_losses.npz")
    with np.load(path, allow_pickle=False) as file:
        data = {name: torch.from_numpy(np.asarray(file[name])) for name in file.files}
    model, batch = authors_model(data)
    with torch.no_grad():
        output = model(**batch)
    differences = {
        "mlm": output.mlm - data["loss_mlm"],
        "dec": output.decoder - data["loss_dec"],
        "bow": output.bow - data["loss_bow"],
        "total": output.loss - data["loss_total"],
        "cls": output.cls - data["cls"],
        "bow_logits": output.bow_logits - data["bow_logits"],
    }
    largest = {name: float(value.abs().max()) for name, value in differences.items()}
    print(largest)
    assert max(largest.values()) < 1e-5, largest


def authors_model(data: dict[str, Tensor]) -> tuple[DupMAEForPreTraining, dict[str, Tensor]]:
    """The authors' weights under our names, and their batch under ours."""
    lm = BertForMaskedLM(
        BertConfig(
            vocab_size=85,
            hidden_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            intermediate_size=64,
            max_position_embeddings=64,
        )
    )
    weights = {k.removeprefix("w/lm."): v for k, v in data.items() if k.startswith("w/lm.")}
    lm.load_state_dict(weights)
    encoder = DupMAEEncoder(lm, tiny_tokenizer(), DupMAEConfig(), "authors", "fp32")
    model = DupMAEForPreTraining(encoder, PreTrainingConfig.preset("official")).eval()
    assert model.decoder is not None
    theirs = {
        "query": "attention.self.query",
        "key": "attention.self.key",
        "value": "attention.self.value",
        "attended": "attention.output.dense",
        "attention_norm": "attention.output.LayerNorm",
        "widen": "intermediate.dense",
        "narrow": "output.dense",
        "output_norm": "output.LayerNorm",
    }
    model.decoder.load_state_dict(
        {
            f"{mine}.{part}": data[f"w/c_head.{their}.{part}"]
            for mine, their in theirs.items()
            for part in ("weight", "bias")
        }
    )
    dense = data["b/bag_word_weight"]
    weights_of_terms, terms = dense.topk(int((dense > 0).sum(dim=1).max()), dim=1)
    return model, {
        "input_ids": data["b/encoder_input_ids"],
        "attention_mask": data["b/encoder_attention_mask"],
        "labels": data["b/encoder_labels"],
        "decoder_input_ids": data["b/decoder_input_ids"],
        "decoder_labels": data["b/decoder_labels"],
        "decoder_attention_mask": data["b/decoder_attention_mask"].bool(),
        "bow_ids": terms,
        "bow_weights": weights_of_terms,
    }


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({"bow_weight": 0.0}, ("mlm", "decoder")),
        ({"decoder_weight": 0.0, "bow_pool": "cls"}, ("mlm", "bow")),
        ({"decoder_weight": 0.0, "bow_weight": 0.0}, ("mlm",)),
        ({"mlm_weight": 0.0, "decoder_weight": 0.0, "bow_weight": 2.0}, ("bow",)),
    ],
)
def test_a_weight_of_zero_leaves_its_part_out(weights: dict[str, Any], parts: tuple[str, ...]):
    full = build()
    values = full(**batch_for(full))
    model = build(**weights)
    batch = batch_for(model)
    output = model(**batch)
    for name in ("mlm", "decoder", "bow"):
        assert (getattr(output, name) is not None) == (name in parts)
    assert (model.decoder is not None) == ("decoder" in parts)
    assert ("decoder_attention_mask" in batch) == ("decoder" in parts)
    assert ("bow_ids" in batch) == ("bow" in parts)
    total = sum(getattr(model.config, f"{name}_weight") * getattr(output, name) for name in parts)
    torch.testing.assert_close(output.loss, total)
    if "mlm" in parts:
        torch.testing.assert_close(output.mlm, values.mlm)


@pytest.mark.parametrize(
    ("progress", "weight"), [(0.0, 1.0), (0.25, 0.75), (0.9, 0.1), (1.0, 0.0), (1.5, 0.0)]
)
def test_the_weight_of_the_bag_of_words_falls_with_the_steps_done(progress: float, weight: float):
    model = build(preset="bow")
    batch = batch_for(model)
    output = model(**batch, progress=progress)
    torch.testing.assert_close(output.loss, output.mlm + weight * output.bow)
    output.loss.backward()
    for parameter in model.parameters():
        assert parameter.grad is None or torch.isfinite(parameter.grad).all()


def test_the_weight_of_the_bag_of_words_may_end_anywhere_or_stay():
    rising = PreTrainingConfig.preset("official", bow_weight=0.5, bow_weight_end=2)
    assert [rising.bow_weight_at(p) for p in (0, 0.5, 1)] == [0.5, 1.25, 2]
    assert PRESETS["official"].bow_weight_at(0.7) == 0.1
    assert PreTrainingConfig.from_dict(rising.to_dict()) == rising


def test_the_weights_scale_losses_and_gradients():
    plain, weighted = build(), build(mlm_weight=0.5, decoder_weight=2.0, bow_weight=3.0)
    batch = batch_for(plain)
    output = weighted(**batch)
    parts = plain(**batch)
    expected = 0.5 * parts.mlm + 2 * parts.decoder + 3 * parts.bow
    torch.testing.assert_close(output.loss, expected)
    reference = losses_reference(plain, batch, "official")
    total = 0.5 * reference["mlm"] + 2 * reference["decoder"] + 3 * reference["bow"]
    total.backward()
    output.loss.backward()
    for (name, mine), theirs in zip(weighted.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None:
            torch.testing.assert_close(
                mine.grad, theirs.grad, rtol=1e-3, atol=5e-5, msg=lambda m, n=name: f"{n}: {m}"
            )


def test_the_bag_of_words_of_cls_alone_is_the_masked_lms_logit_at_the_first_token():
    model = build(bow_pool="cls", decoder_weight=0.0)
    batch = batch_for(model)
    output = model(**batch)
    logits = model.encoder.lm(batch["input_ids"], batch["attention_mask"]).logits[:, 0]
    torch.testing.assert_close(output.bow_logits, logits, rtol=1e-5, atol=1e-5)


def test_training_pools_as_encoding_does():
    """The official pool of an unmasked text is the encoder's with the same pool."""
    model = build()
    ids = torch.tensor(tiny_tokenizer()(TEXTS)["input_ids"][1])[None]
    pool = torch.ones_like(ids, dtype=torch.bool)
    pool[:, 0] = False
    mask = torch.ones_like(ids)
    zeros = torch.zeros(1, 1)
    trained = build(decoder_weight=0.0)(
        ids, mask, torch.full_like(ids, -100), bow_ids=zeros.long(), bow_weights=zeros
    )
    encoded = model.encoder(ids, mask, pool)
    torch.testing.assert_close(trained.bow_logits.relu().log1p(), encoded.lexical)


def test_a_text_without_a_masked_token_or_a_pooled_one_makes_no_nan():
    tokenizer = tiny_tokenizer()
    for preset in PRESETS:
        model = build(preset=preset)
        batch = PreTrainingCollator(tokenizer, model.config)(
            [{"input_ids": [2, 3]}, {"input_ids": [2, 9, 3]}, {"input_ids": [2, 55, 56, 57, 58, 3]}]
        )
        model.zero_grad()
        output = model(**batch)
        output.loss.backward()
        assert all(value is None or torch.isfinite(value).all() for value in output[:4])
        for name, parameter in model.named_parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all(), name


def test_a_batch_of_special_tokens_alone_has_losses_of_zero():
    model = build(preset="paper")
    output = model(**PreTrainingCollator(tiny_tokenizer(), model.config)([{"input_ids": [2, 3]}]))
    assert [value.item() for value in output[:4]] == [0, 0, 0, 0]
    output.loss.backward()


def test_a_batch_that_lacks_a_part_is_refused_in_one_line():
    model = build()
    batch = batch_for(model)
    del batch["decoder_labels"]
    with pytest.raises(InputError, match="lacks decoder_labels"):
        model(**batch)


def test_a_step_of_training_lowers_every_part():
    model = build().train()
    batch = batch_for(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    first = None
    for _ in range(30):
        output = model(**batch)
        first = first or output
        output.loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    for name in ("mlm", "decoder", "bow"):
        assert getattr(output, name) < getattr(first, name)


def test_bf16_autocast_gives_the_losses_to_three_digits():
    model = build()
    batch = batch_for(model)
    exact = model(**batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = model(**batch)
    assert rough.loss.dtype == torch.float32
    rough.loss.backward()
    for name in ("mlm", "decoder", "bow"):
        torch.testing.assert_close(getattr(rough, name), getattr(exact, name), rtol=2e-2, atol=2e-2)


class Largest(TorchDispatchMode):
    """Notes the size of the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, (tuple, list)) else [result]:
            # An expanded view repeats its elements and holds none of its own.
            if isinstance(value, Tensor) and value.layout == torch.strided:
                size = value.untyped_storage().nbytes() // value.element_size()
                self.elements = max(self.elements, size)
        return result


@pytest.mark.parametrize("preset", list(PRESETS))
def test_no_tensor_of_batch_by_length_by_vocabulary_ever_lives(
    preset: str, monkeypatch: pytest.MonkeyPatch
):
    size, texts = 4000, 12
    monkeypatch.setattr(pretraining_losses, "CHUNK", 16 * size)
    monkeypatch.setattr(heads, "CHUNK", 128)
    config = PreTrainingConfig.preset(preset)
    model = DupMAEForPreTraining(tiny_encoder(size=size), config)
    batch = batch_for(model, ["w1 w2 w3 w4 w5 w6 w7 w8 w9 w10 w11 w12"] * texts)
    length = batch["input_ids"].shape[1]
    with Largest() as seen:
        model(**batch).loss.backward()
    # The vocabulary matrix is 16 wide, and so is a chunk of logits: 16 * 4000.
    assert size * 16 <= seen.elements < texts * length * size / 4


@pytest.mark.parametrize("chunk", [1, 3 * 50, 8 * 50, 512 * 50])
@pytest.mark.parametrize("rows", [0, 1, 8, 20])
def test_linear_cross_entropy_equals_torchs(rows: int, chunk: int, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pretraining_losses, "CHUNK", chunk)
    torch.manual_seed(rows)
    features = torch.randn(rows, 6, requires_grad=True)
    weight, bias = torch.randn(50, 6, requires_grad=True), torch.randn(50, requires_grad=True)
    labels, shares = torch.randint(0, 50, (rows,)), torch.rand(rows)
    terms = functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    expected = torch.autograd.grad((terms * shares).sum() * 1.7, (features, weight, bias))
    total, parts = linear_cross_entropy(features, weight, bias, labels, shares)
    torch.testing.assert_close(total, (terms * shares).sum())
    torch.testing.assert_close(parts, terms)
    assert not parts.requires_grad
    got = torch.autograd.grad(total * 1.7, (features, weight, bias))
    for mine, theirs in zip(got, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_linear_cross_entropy_survives_logits_that_overflow_a_softmax():
    features = torch.tensor([[300.0], [-300.0], [0.0]], requires_grad=True)
    weight, bias = torch.tensor([[1.0], [-1.0], [0.5]]), torch.zeros(3)
    labels, shares = torch.tensor([0, 0, 2]), torch.full((3,), 1 / 3)
    total, parts = linear_cross_entropy(features, weight, bias, labels, shares)
    expected = functional.cross_entropy(features @ weight.T + bias, labels, reduction="none")
    torch.testing.assert_close(parts, expected.detach())
    (gradient,) = torch.autograd.grad(total, features)
    (theirs,) = torch.autograd.grad(expected.mean(), features)
    torch.testing.assert_close(gradient, theirs)


@pytest.mark.parametrize("frozen", [(0,), (1, 2), (0, 1, 2)])
def test_linear_cross_entropy_leaves_frozen_parts_alone(frozen: tuple[int, ...]):
    torch.manual_seed(0)
    inputs = [torch.randn(7, 4), torch.randn(11, 4), torch.randn(11)]
    for i, tensor in enumerate(inputs):
        tensor.requires_grad_(i not in frozen)
    labels, shares = torch.randint(0, 11, (7,)), torch.full((7,), 1 / 7)
    total, _ = linear_cross_entropy(*inputs, labels, shares)  # type: ignore[arg-type]
    theirs = functional.cross_entropy(inputs[0] @ inputs[1].T + inputs[2], labels)
    torch.testing.assert_close(total, theirs)
    free = [tensor for tensor in inputs if tensor.requires_grad]
    assert total.requires_grad == bool(free)
    if free:
        for mine, expected in zip(
            torch.autograd.grad(total, free), torch.autograd.grad(theirs, free), strict=True
        ):
            torch.testing.assert_close(mine, expected)


def test_linear_cross_entropy_in_bf16_is_close_to_float32():
    torch.manual_seed(0)
    features = torch.randn(64, 32, requires_grad=True)
    weight, bias = torch.randn(200, 32, requires_grad=True), torch.randn(200, requires_grad=True)
    labels, shares = torch.randint(0, 200, (64,)), torch.full((64,), 1 / 64)
    exact = functional.cross_entropy(features @ weight.T + bias, labels)
    expected = torch.autograd.grad(exact, (features, weight, bias))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        total, _ = linear_cross_entropy(features, weight, bias, labels, shares)
    got = torch.autograd.grad(total, (features, weight, bias))
    assert total.item() == pytest.approx(exact.item(), rel=2e-3)
    for mine, theirs in zip(got, expected, strict=True):
        assert mine.dtype == theirs.dtype
        assert (mine - theirs).norm() < 0.02 * theirs.norm()


def test_bag_of_words_loss_equals_the_dense_formula_and_its_gradient():
    torch.manual_seed(0)
    logits = torch.randn(3, 20, requires_grad=True)
    dense = torch.zeros(3, 20)
    dense[0, [3, 5, 7]], dense[1, 2], dense[2, [1, 0]] = 0.25, 1.0, torch.tensor([0.5, 0.4])
    ids = torch.tensor([[3, 5, 7], [2, 0, 0], [0, 1, 0]])
    weights = torch.tensor([[0.25, 0.25, 0.25], [1.0, 0, 0], [0.4, 0.5, 0]])
    expected = -(dense * torch.log_softmax(logits, dim=1)).sum(dim=1).mean()
    got = bag_of_words_loss(logits, ids, weights)
    torch.testing.assert_close(got, expected)
    torch.testing.assert_close(
        torch.autograd.grad(got, logits), torch.autograd.grad(expected, logits)
    )


def test_bag_of_words_loss_does_not_count_a_text_without_a_pool():
    logits = torch.randn(2, 20)
    empty = torch.full((1, 20), float("-inf"))
    ids, weights = torch.tensor([[3], [4], [5]]), torch.ones(3, 1)
    torch.testing.assert_close(
        bag_of_words_loss(torch.cat([logits, empty]), ids, weights),
        bag_of_words_loss(logits, ids[:2], weights[:2]),
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_saved_pre_training_goes_on_where_it_was(tmp_path: Path, family: str):
    model = build(family, "paper", bow_weight=0.5)
    batch = batch_for(model)
    model.save_pretrained(tmp_path / "saved")
    assert (tmp_path / "saved" / "decoder.safetensors").exists()
    again = DupMAEForPreTraining.from_pretrained(tmp_path / "saved", precision="fp32").eval()
    assert again.config == model.config
    torch.testing.assert_close(again(**batch).loss, model(**batch).loss)
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_saved_pre_training_is_an_encoders_checkpoint_too(tmp_path: Path):
    model = build(preset="paper")
    model.save_pretrained(tmp_path / "saved")
    encoder = DupMAEEncoder.from_pretrained(tmp_path / "saved", precision="fp32")
    assert encoder.config.lexical_head == "projection"
    got = encoder.encode_queries(TEXTS)
    expected = model.encoder.encode_queries(TEXTS)
    np.testing.assert_allclose(got.lexical.toarray(), expected.lexical.toarray(), rtol=1e-6)
    np.testing.assert_allclose(got.dense, expected.dense, rtol=1e-5, atol=1e-6)


def test_saving_replaces_what_stood_there_and_leaves_nothing_beside_it(tmp_path: Path):
    for _ in range(2):
        build().save_pretrained(tmp_path / "saved")
    build(decoder_weight=0.0).save_pretrained(tmp_path / "saved")
    assert [path.name for path in tmp_path.iterdir()] == ["saved"]
    assert not (tmp_path / "saved" / "decoder.safetensors").exists()
    settings = read_json(tmp_path / "saved" / "config.json")["dupmae"]["pretraining"]
    assert settings["decoder_weight"] == 0
    assert PreTrainingConfig.from_dict(settings).decoder_weight == 0


def test_a_checkpoint_without_a_decoder_gets_the_same_new_one_and_official_settings(tmp_path: Path):
    save_tiny(tmp_path)
    model = DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32")
    assert model.config == PRESETS["official"]
    assert model.decoder is not None
    torch.rand(1)
    again = DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32")
    for name, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[name], value), name


def test_a_bare_encoder_is_pre_trained_with_a_fresh_head(tmp_path: Path):
    save_tiny(tmp_path).base_model.save_pretrained(tmp_path)
    with pytest.raises(InputError, match="no masked-LM head"):
        DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32")
    model = DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32", fresh_head=True)
    assert torch.isfinite(model(**batch_for(model)).loss)


def test_another_decoders_file_is_refused_in_one_line(tmp_path: Path):
    build().save_pretrained(tmp_path)
    path = tmp_path / "decoder.safetensors"
    state = load_file(path)
    state["widen.weight"] = torch.zeros(5, 16)
    save_file(state, path)
    with pytest.raises(InputError, match=r"decoder\.safetensors") as caught:
        DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32")
    assert "\n" not in str(caught.value)
    path.write_bytes(b"garbage")
    with pytest.raises(InputError, match=r"decoder\.safetensors"):
        DupMAEForPreTraining.from_pretrained(tmp_path, precision="fp32")


@pytest.mark.parametrize(
    "changes",
    [
        {"bow_pool": "all"},
        {"bow_weighting": "tf"},
        {"decoder_query": ""},
        {"lexical_head": "none"},
        {"mlm_weight": -1.0},
        {"bow_weight": float("nan")},
        {"bow_weight_end": -1.0},
        {"bow_weight_end": "0"},
        {"bow_weight_end": float("inf")},
        {"bow_weight": 0.0, "bow_weight_end": 1.0},
        {"encoder_mask_rate": 0.0},
        {"decoder_mask_rate": 1.0},
        {"mask_pool": 0},
        {"mlm_weight": 0.0, "decoder_weight": 0.0, "bow_weight": 0.0},
        {"no_such_setting": 1},
    ],
)
def test_settings_that_cannot_be_are_refused_in_one_line(changes: dict[str, Any]):
    with pytest.raises(InputError) as caught:
        PreTrainingConfig.preset("official", **changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_preset_is_refused_with_those_that_exist():
    with pytest.raises(InputError, match=r"official.*paper"):
        PreTrainingConfig.preset("officiel")
