"""Which processors ``precision="auto"`` computes in bf16 on."""

from __future__ import annotations

import pytest
import torch

from dupmae_toolkit.model.precision import has_bf16


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": True}, True),
        ({"cpu_name": "Intel Xeon", "avx512_bf16": True, "amx_bf16": False}, False),
        ({"cpu_name": "AMD Zen 4", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"cpu_name": "AMD Zen 3", "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"bf16": True}, True),
        ({}, False),
    ],
    ids=["amx", "amx-hidden", "zen-4", "zen-3", "no-name", "arm", "nothing-known"],
)
def test_bf16_is_taken_where_its_products_are_faster(monkeypatch, found, wanted):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert has_bf16() is wanted
    assert has_bf16() is wanted  # two questions, one answer


@pytest.mark.parametrize("amx", [True, False])
def test_an_older_torch_is_asked_for_amx(monkeypatch, amx):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx, raising=False)
    assert has_bf16() is amx


def test_other_devices_have_none_of_it():
    assert has_bf16("mps") is False
