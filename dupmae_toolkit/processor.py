"""What this processor can do, and whether torch's int8 matrix product is correct on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from dupmae_toolkit.int8 import LIMIT

_ROWS = 16_384  # rows compared at a time


def capabilities() -> dict[str, Any]:
    """This processor's instruction sets by torch's names, omitting those torch cannot report.

    They do not depend on measurements, so two runs on one machine compute alike.
    """
    report = getattr(torch.cpu, "get_capabilities", None)
    if report is not None:
        found: dict[str, Any] = report()
        return found
    # An older torch reports two of them, through private functions that may be missing.
    private = {"avx512_vnni": "_is_avx512_vnni_supported", "amx_bf16": "_is_amx_tile_supported"}
    tests = {name: getattr(torch.cpu, function, None) for name, function in private.items()}
    return {name: bool(test()) for name, test in tests.items() if test is not None}


def has_byte_products() -> bool:
    """Whether this processor multiplies int8 numbers faster than float32 ones."""
    found = capabilities()
    return any(bool(found.get(key)) for key in ("avx512_vnni", "avx_vnni", "amx_int8"))


def multiplies_bytes_right(rows: Tensor, at_once: int) -> bool:
    """Whether ``torch._int_mm`` multiplies correctly by ``rows``, int8 [n, d].

    The function is private to torch, so the products of three test vectors with all rows are
    compared with float64, which holds such sums exactly. at_once: rows of the left factor per call.
    """
    left = torch.full((3, rows.shape[1]), LIMIT, dtype=torch.int8)
    ramp = torch.arange(-LIMIT, LIMIT + 1, dtype=torch.int8)
    left[0] = ramp.repeat(-(-rows.shape[1] // len(ramp)))[: rows.shape[1]]
    # On processors that add pairs of products in 16 bits, these two rows overflow most.
    left[2] = -LIMIT
    found = torch.cat([torch._int_mm(part, rows.t()) for part in left.split(at_once)])
    wide = left.double()
    return all(
        torch.equal(some.double(), wide @ part.double().t())
        for some, part in zip(found.split(_ROWS, dim=1), rows.split(_ROWS), strict=True)
    )
