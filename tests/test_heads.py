"""The pooled vocabulary head against the B x L x |V| computation that it avoids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from dupmae_toolkit.model import heads
from dupmae_toolkit.model.heads import activate, pooled_logits, sparse_top_k

VOCABULARY = 2500  # more than two chunks, and no multiple of one


def inputs(batch=3, length=7, width=8, seed=0):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(batch, length, width, generator=generator)
    weight = torch.randn(VOCABULARY, width, generator=generator)
    bias = torch.randn(VOCABULARY, generator=generator)
    mask = torch.rand(batch, length, generator=generator) > 0.3
    mask[:, 0] = True
    return features, weight, bias, mask


def dense_way(features, weight, bias, mask):
    logits = features @ weight.T + bias
    return logits.masked_fill(~mask.bool()[..., None], -math.inf).amax(dim=1)


@pytest.mark.parametrize("chunk", [300, 1024, 10_000])
def test_pooled_logits_are_the_maxima_over_the_tokens_whatever_the_chunk(monkeypatch, chunk):
    monkeypatch.setattr(heads, "CHUNK", chunk)
    monkeypatch.setattr(heads, "PRODUCTS", chunk)
    monkeypatch.setattr(heads, "ENTRIES", chunk)
    monkeypatch.setattr(heads, "FEW", 0)
    given = inputs()
    torch.testing.assert_close(pooled_logits(*given), dense_way(*given))


@pytest.mark.parametrize("rows", [1, 7, 20, 10_000])
@pytest.mark.parametrize("entries", [1, 7, 49, 1 << 20])
@pytest.mark.parametrize("few", [0, 10_000])
def test_inference_gives_the_maxima_of_every_text(monkeypatch, rows, entries, few):
    monkeypatch.setattr(heads, "ROWS", rows)
    monkeypatch.setattr(heads, "ENTRIES", entries)
    monkeypatch.setattr(heads, "FEW", few)
    features, weight, bias, mask = inputs(batch=9, length=12)
    # Texts with nothing that counts, at both ends and between; one in which everything does.
    mask[[0, 4, 8]] = False
    mask[5] = True
    weight, bias = weight[:50], bias[:50]
    pooled = pooled_logits(features, weight, bias, mask)
    torch.testing.assert_close(pooled, dense_way(features, weight, bias, mask))
    assert torch.isneginf(pooled[[0, 4, 8]]).all()


@pytest.mark.parametrize("grad", ["features weight bias", "features", "weight", "bias"])
def test_gradients_are_those_of_the_dense_computation(grad):
    ours = [t.requires_grad_(n in grad) for t, n in zip(inputs(), names(), strict=True)]
    theirs = [t.requires_grad_(n in grad) for t, n in zip(inputs(), names(), strict=True)]

    def objective(pooled):
        # One part that touches every term, and one that ReLU makes sparse.
        return pooled.log_softmax(dim=1)[:, ::3].square().sum() + (pooled - 3).relu().sum()

    objective(pooled_logits(*ours)).backward()
    objective(dense_way(*theirs)).backward()
    for name, mine, other in zip(names(), ours, theirs, strict=True):
        assert (mine.grad is not None) == (name in grad)
        if name in grad:
            torch.testing.assert_close(mine.grad, other.grad, rtol=1e-4, atol=1e-4)


def names():
    return ["features", "weight", "bias", "mask "]


def test_numerical_derivatives_agree_in_double_precision():
    features, weight, bias, mask = inputs(2, 4, 3)
    given = [t.double()[..., :30] if t is bias else t.double() for t in (features, weight, bias)]
    given[1] = given[1][:30]
    for tensor in given:
        tensor.requires_grad_()
    # The result is float32, so the steps have to be wide.
    assert torch.autograd.gradcheck(
        lambda f, w, b: pooled_logits(f, w, b, mask).double(), given, eps=1e-3, atol=1e-2
    )


def test_masked_tokens_count_neither_forwards_nor_backwards():
    features, weight, bias, mask = inputs()
    wild = torch.where(mask[..., None], features, 1e4).requires_grad_()
    pooled = pooled_logits(wild, weight, bias, mask)
    torch.testing.assert_close(pooled, dense_way(features, weight, bias, mask))
    pooled.square().sum().backward()
    assert wild.grad[~mask].abs().sum() == 0
    assert wild.grad[mask].abs().sum() > 0


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, torch.float32])
def test_the_mask_may_be_of_any_kind(kind):
    features, weight, bias, mask = inputs()
    given = pooled_logits(features, weight, bias, mask.to(kind))
    assert torch.equal(given, pooled_logits(features, weight, bias, mask))


def test_a_text_in_which_nothing_counts_has_no_weight_and_no_gradient():
    features, weight, bias, mask = inputs()
    mask[1] = False
    features.requires_grad_()
    pooled = pooled_logits(features, weight, bias, mask)
    assert torch.isneginf(pooled[1]).all()
    assert torch.isfinite(pooled[[0, 2]]).all()
    weights = activate(pooled, "log1p_relu")
    assert weights[1].abs().sum() == 0
    weights.sum().backward()
    assert torch.isfinite(features.grad).all()
    assert features.grad[1].abs().sum() == 0


@pytest.mark.parametrize(("texts", "length"), [(1, 1), (2, 20), (3, 40), (30, 60)])
def test_with_bf16_weights_products_are_of_rounded_numbers(texts, length):
    features, weight, bias, mask = inputs(texts, length)
    mask[0] = False
    found = pooled_logits(features, weight.bfloat16(), bias, mask)
    assert found.dtype == torch.float32
    exact = dense_way(features.bfloat16().float(), weight.bfloat16().float(), bias, mask)
    torch.testing.assert_close(found[1:], exact[1:], rtol=2**-7, atol=2**-7)
    assert torch.isneginf(found[0]).all()


def test_without_any_text_there_is_nothing_to_pool():
    features, weight, bias, mask = inputs()
    empty = pooled_logits(features[:0], weight, bias, mask[:0])
    assert empty.shape == (0, VOCABULARY)


def test_where_tokens_tie_the_gradient_goes_to_one_of_them():
    features, weight, bias, _ = inputs(1, 1)
    twice = features.repeat(1, 4, 1).requires_grad_()
    once = features.clone().requires_grad_()
    everything = torch.ones(1, 4)
    pooled_logits(twice, weight, bias, everything).square().sum().backward()
    pooled_logits(once, weight, bias, torch.ones(1, 1)).square().sum().backward()
    torch.testing.assert_close(twice.grad.sum(dim=1), once.grad.sum(dim=1), rtol=1e-4, atol=1e-3)


def test_under_autocast_products_are_bf16_and_the_rest_float32():
    features, weight, bias, mask = inputs()
    with torch.autocast("cpu", torch.bfloat16):
        pooled = pooled_logits(features, weight, bias, mask)
        plain = pooled_logits(features.bfloat16(), weight.bfloat16(), bias, mask)
    assert pooled.dtype == torch.float32
    assert torch.equal(pooled, plain)
    rounded = (features.bfloat16() @ weight.bfloat16().T).masked_fill(~mask[..., None], -math.inf)
    torch.testing.assert_close(pooled, rounded.amax(dim=1).float() + bias, rtol=0.01, atol=0.05)
    assert not torch.equal(pooled, dense_way(features, weight, bias, mask))


def test_gradients_under_autocast_are_near_those_in_float32_and_keep_the_weights_dtype():
    ours = [t.requires_grad_(n != "mask ") for t, n in zip(inputs(), names(), strict=True)]
    theirs = [t.requires_grad_(n != "mask ") for t, n in zip(inputs(), names(), strict=True)]
    with torch.autocast("cpu", torch.bfloat16):
        loss = (pooled_logits(*ours) - 2).relu().mean()
    loss.backward()
    (dense_way(*theirs) - 2).relu().mean().backward()
    for mine, other in zip(ours[:3], theirs[:3], strict=True):
        assert mine.grad.dtype == torch.float32
        error = (mine.grad - other.grad).norm() / other.grad.norm()
        assert error < 0.1


def test_inference_and_training_give_the_same_logits():
    features, weight, bias, mask = inputs()
    with torch.inference_mode():
        inference = pooled_logits(features, weight, bias, mask)
    training = pooled_logits(features.requires_grad_(), weight, bias, mask)
    torch.testing.assert_close(inference, training.detach())


def test_activations_are_relu_and_its_logarithm():
    logits = torch.tensor([-math.inf, -2.0, 0.0, 1.0, math.e - 1, math.inf])
    relu = activate(logits, "relu")
    assert relu.tolist()[:4] == [0.0, 0.0, 0.0, 1.0]
    torch.testing.assert_close(activate(logits, "log1p_relu"), torch.log1p(relu))


def test_top_k_keeps_the_largest_weights_and_of_equals_those_with_lower_ids():
    weights = np.array(
        [[0.5, 2.0, 0.5, 0.5, 0.0, 3.0], [0, 0, 0, 0, 0, 0], [0, 0, 1, 0, 0, 0]], dtype=np.float32
    )
    kept = sparse_top_k(weights, 3)
    assert kept.indices.tolist() == [0, 1, 5, 2]
    assert kept.indptr.tolist() == [0, 3, 3, 4]
    assert kept.dtype == np.float32
    assert kept.has_sorted_indices
    assert (sparse_top_k(weights, 0).toarray() == weights).all()
    assert (sparse_top_k(weights, 100).toarray() == weights).all()
    assert sparse_top_k(weights[:0], 3).shape == (0, 6)


def test_top_k_agrees_with_a_plain_sort_on_random_weights_full_of_ties():
    rng = np.random.default_rng(0)
    weights = np.maximum(0, rng.integers(-5, 6, size=(20, 300))).astype(np.float32)
    kept = sparse_top_k(weights, 40).toarray()
    for row, result in zip(weights, kept, strict=True):
        best = sorted(np.flatnonzero(row), key=lambda i: (-row[i], i))[:40]
        assert sorted(best) == np.flatnonzero(result).tolist()
        assert (result[best] == row[best]).all()
