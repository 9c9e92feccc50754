"""What this processor can do, and whether torch's product of bytes is right on it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

_LIMIT = 127  # bytes are whole numbers from -127 to 127 here
_ROWS = 16_384  # whose products are compared together


def capabilities() -> dict[str, Any]:
    """The instructions of this processor by torch's names for them; what is not known is left out.

    Decided by what it is, not by a measurement, so that two runs on one machine compute alike.
    """
    look = getattr(torch.cpu, "get_capabilities", None)
    if look is not None:
        found: dict[str, Any] = look()
        return found
    # An older torch answers two questions, whose names are no part of what it promises.
    asked = {"avx512_vnni": "_is_avx512_vnni_supported", "amx_bf16": "_is_amx_tile_supported"}
    looks = {name: getattr(torch.cpu, question, None) for name, question in asked.items()}
    return {name: bool(look()) for name, look in looks.items() if look is not None}


def multiplies_bytes_right(rows: Tensor, at_once: int) -> bool:
    """Whether ``torch._int_mm`` is right about products of bytes with ``rows``, int8 [n, d].

    Torch does not promise this function, so some products with all rows are compared with those in
    float64, which holds such sums exactly. at_once: rows of the left factor in one call.
    """
    left = torch.full((3, rows.shape[1]), _LIMIT, dtype=torch.int8)
    ramp = torch.arange(-_LIMIT, _LIMIT + 1, dtype=torch.int8)
    left[0] = ramp.repeat(-(-rows.shape[1] // len(ramp)))[: rows.shape[1]]
    # On processors that add up pairs in 16 bits these two go as far beyond as any row.
    left[2] = -_LIMIT
    found = torch.cat([torch._int_mm(part, rows.t()) for part in left.split(at_once)])
    wide = left.double()
    return all(
        torch.equal(some.double(), wide @ part.double().t())
        for some, part in zip(found.split(_ROWS, dim=1), rows.split(_ROWS), strict=True)
    )
