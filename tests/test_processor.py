"""What the processor is asked, and whether a wrong product of bytes is noticed."""

from __future__ import annotations

import pytest
import torch

from dupmae_toolkit.model.precision import has_bf16
from dupmae_toolkit.processor import capabilities, has_byte_products, multiplies_bytes_right


@pytest.mark.parametrize("vnni", [True, False])
@pytest.mark.parametrize("amx", [True, False])
def test_an_older_torch_is_asked_one_by_one(monkeypatch, amx, vnni):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_vnni_supported", lambda: vnni, raising=False)
    assert (has_bf16(), has_byte_products()) == (amx, vnni)


def test_of_a_torch_that_tells_nothing_nothing_is_known(monkeypatch):
    for name in ("get_capabilities", "_is_amx_tile_supported", "_is_avx512_vnni_supported"):
        monkeypatch.delattr(torch.cpu, name, raising=False)
    assert capabilities() == {}
    assert not has_bf16()
    assert not has_byte_products()


def product(left, columns):
    return (left.double() @ columns.double()).int()


def saturating(left, columns):
    """As processors do without VNNI: the left from 0 to 255, and pairs that end at 32,767."""
    pairs = (left.int() + 128)[:, :, None] * columns.int()
    pairs = (pairs[:, ::2] + pairs[:, 1::2]).clamp(-(2**15), 2**15 - 1)
    return (pairs.sum(1) - 128 * columns.int().sum(0)).int()


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize("width", [2, 48, 384])
def test_a_wrong_product_of_bytes_is_noticed_and_a_right_one_taken(monkeypatch, width, at_once):
    dice = torch.Generator().manual_seed(1)
    rows = torch.randint(-127, 128, (20_000, width), generator=dice, dtype=torch.int8)
    rows[:2] = torch.tensor([127, -127], dtype=torch.int8)[:, None]
    seen = set()

    def last_is_wrong(left, columns):
        found = product(left, columns)
        found[-1, -1] += 1
        seen.add(len(left))
        return found

    monkeypatch.setattr(torch, "_int_mm", product, raising=False)
    assert multiplies_bytes_right(rows, at_once)
    monkeypatch.setattr(torch, "_int_mm", last_is_wrong)
    assert not multiplies_bytes_right(rows, at_once)
    assert seen == {at_once}
    monkeypatch.setattr(torch, "_int_mm", saturating)
    assert not multiplies_bytes_right(rows[:100], at_once)
