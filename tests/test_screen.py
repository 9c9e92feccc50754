"""The vocabulary head by bytes first: what is kept is what the plain way keeps."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dupmae_toolkit import load_encoder
from dupmae_toolkit.model.heads import activate, pooled_logits, sparse_top_k
from dupmae_toolkit.model.lean import bert as lean
from dupmae_toolkit.model.lean import screen as screen_module
from dupmae_toolkit.model.lean.screen import Screen
from dupmae_toolkit.processor import has_byte_products

pytestmark = pytest.mark.skipif(
    not hasattr(torch, "_int_mm"), reason="this torch has no such product"
)


def random_head(seed: int, terms: int = 3000, width: int = 48, share: float = 0.02):
    """A head whose bias leaves about ``share`` of the terms of a text above 0."""
    dice = torch.Generator().manual_seed(seed)
    weight = torch.randn(terms, width, generator=dice) * torch.rand(terms, 1, generator=dice)
    features = torch.randn(5, 40, width, generator=dice)
    mask = torch.rand(5, 40, generator=dice) < 0.8
    highest = pooled_logits(features, weight, torch.zeros(terms), mask)
    bias = -torch.quantile(highest, 1 - share) + 0.1 * torch.randn(terms, generator=dice)
    return features, weight, bias, mask


def kept(logits: torch.Tensor, most: int, activation: str = "log1p_relu"):
    return sparse_top_k(activate(logits, activation).numpy(), most)


def both_ways(features, weight, bias, mask, most):
    """Plain and screened logits, and the share of terms that the screen left to be computed."""
    screen = Screen(weight, bias)
    plain = pooled_logits(features, weight, bias, mask)
    found = pooled_logits(
        features, weight, bias, mask, None, lambda rows, lengths: screen.pooled(rows, lengths, most)
    )
    return plain, found


@pytest.mark.parametrize("most", [0, 1, 7, 60, 2999, 3000, 9000])
@pytest.mark.parametrize("activation", ["relu", "log1p_relu"])
def test_what_is_kept_is_what_the_plain_way_keeps(most, activation):
    for seed in range(8):
        plain, found = both_ways(*random_head(seed), most)
        expected, got = kept(plain, most, activation), kept(found, most, activation)
        np.testing.assert_array_equal(got.indptr, expected.indptr)
        np.testing.assert_array_equal(got.indices, expected.indices)
        np.testing.assert_allclose(got.data, expected.data, rtol=1e-5, atol=1e-6)
        assert torch.isinf(found).float().mean() > 0.5  # otherwise nothing was spared


def test_bytes_decide_nothing_that_is_close():
    # Rows that bytes cannot tell apart: the largest is found among thousands of its like.
    dice = torch.Generator().manual_seed(0)
    weight = torch.randn(1, 64, generator=dice) + 1e-3 * torch.randn(4000, 64, generator=dice)
    weight = torch.cat([weight[:500], torch.randn(9000, 64, generator=dice) * 0.3])
    features = torch.randn(2, 70, 64, generator=dice)
    bias = torch.zeros(len(weight))
    mask = torch.ones(2, 70, dtype=torch.bool)
    plain, found = both_ways(features, weight, bias, mask, 20)
    assert torch.isinf(found).any()
    np.testing.assert_array_equal(kept(found, 20).indices, kept(plain, 20).indices)


def outlier(features, weight):
    features[0, 3, 5] = 300.0
    weight[17, 5] = 40.0


def tiny(features, weight):
    features *= 1e-20
    weight *= 1e-12


def nothing(features, weight):
    features[1] = 0
    weight[100:200] = 0


def twins(features, weight):
    weight[1000:2000] = weight[:1000]
    features[2] = features[3]


@pytest.mark.parametrize("change", [outlier, tiny, nothing, twins])
def test_odd_numbers(change):
    for seed in range(4):
        features, weight, bias, mask = random_head(seed)
        change(features, weight)
        if change is tiny:
            bias = bias * 1e-32
        plain, found = both_ways(features, weight, bias, mask, 30)
        expected, got = kept(plain, 30), kept(found, 30)
        np.testing.assert_array_equal(got.indptr, expected.indptr)
        np.testing.assert_array_equal(got.indices, expected.indices)


def test_texts_without_a_token_and_texts_of_all_lengths():
    features, weight, bias, mask = random_head(3)
    mask[1] = False
    mask[2, 1:] = False
    plain, found = both_ways(features, weight, bias, mask, 50)
    assert torch.isinf(found[1]).all()
    np.testing.assert_array_equal(kept(found, 50).indices, kept(plain, 50).indices)
    # More tokens than a group has, in one text and in several.
    dice = torch.Generator().manual_seed(5)
    long = torch.randn(3, 700, 48, generator=dice)
    mask = torch.ones(3, 700, dtype=torch.bool)
    mask[1, 100:] = False
    plain, found = both_ways(long, weight, bias - 2, mask, 50)
    np.testing.assert_array_equal(kept(found, 50).indices, kept(plain, 50).indices)


def test_where_much_is_wanted_the_plain_way_is_taken():
    features, weight, bias, mask = random_head(0, share=0.9)
    screen = Screen(weight, bias)
    rows, lengths = features[mask], mask.sum(dim=1).tolist()
    assert screen.pooled(rows, lengths, 0) is None
    plain, found = both_ways(features, weight, bias, mask, 0)
    assert torch.equal(plain, found)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf"), 3e38])
def test_numbers_that_are_not_finite_are_left_to_the_plain_way(bad):
    features, weight, bias, mask = random_head(0)
    features[0, 0] = bad
    mask[0, 0] = True
    plain, found = both_ways(features, weight, bias, mask, 30)
    torch.testing.assert_close(found, plain, equal_nan=True, rtol=0, atol=0)
    for number, damaged in enumerate((weight, bias)):
        parts = [weight.clone(), bias.clone()]
        parts[number][5] = bad if abs(bad) != 3e38 else float("nan")
        assert Screen.of(*parts) is None, damaged.shape


def test_a_product_that_is_wrong_is_noticed(monkeypatch):
    _, weight, bias, _ = random_head(0)
    monkeypatch.setattr(screen_module, "has_byte_products", lambda: True)
    assert Screen.of(weight, bias) is not None
    right = torch._int_mm
    monkeypatch.setattr(torch, "_int_mm", lambda a, b: right(a, b).roll(1, 1))
    assert Screen.of(weight, bias) is None
    monkeypatch.setattr(screen_module, "has_byte_products", lambda: False)
    monkeypatch.setattr(torch, "_int_mm", right)
    assert Screen.of(weight, bias) is None


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"avx512_vnni": True}, True),
        ({"avx_vnni": True}, True),
        ({"avx512_f": True}, False),
        ({}, False),
    ],
)
def test_it_is_used_where_the_processor_multiplies_bytes(monkeypatch, found, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert has_byte_products() is wanted


def test_the_built_in_encoder_gives_the_same_vectors_with_it(monkeypatch):
    texts = [
        "Copy a file, with its permissions.",
        "a " * 300,
        "",
        "The quick brown fox jumps over the lazy dog. " * 9,
        *(f"Number {n} of several texts about {'parsing of dates ' * (n % 7)}" for n in range(40)),
    ]
    used: list[int] = []

    class Counting(Screen):
        def pooled(self, rows, lengths, top_k):
            used.append(top_k)
            return super().pooled(rows, lengths, top_k)

    monkeypatch.setattr(lean, "Screen", Counting)
    vectors = []
    for usable in (False, True):
        monkeypatch.setattr(screen_module, "has_byte_products", lambda usable=usable: usable)
        encoder = load_encoder("builtin", precision="fp32")
        vectors.append((encoder.encode_documents(texts), encoder.encode_queries(texts)))
        assert bool(used) == usable
    assert set(used) == {encoder.config.top_k, encoder.config.query_top_k}
    for ours, other in zip(*vectors, strict=True):
        np.testing.assert_array_equal(ours.dense, other.dense)
        np.testing.assert_array_equal(ours.lexical.indptr, other.lexical.indptr)
        np.testing.assert_array_equal(ours.lexical.indices, other.lexical.indices)
        np.testing.assert_allclose(ours.lexical.data, other.lexical.data, rtol=0, atol=1e-5)
