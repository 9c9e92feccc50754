"""Decides whether products on a device are computed in bf16.

The texts in a batch decide the order of additions, and so the roundings: a text's vectors depend on
its company. In bf16 a rounding is 65,536 times as large as in float32. So ``auto`` computes queries
in float32, where a query has the same scores alone and in a file of queries.
"""

from __future__ import annotations

import torch

from dupmae_toolkit.processor import capabilities

PRECISIONS = ("auto", "fp32", "bf16")


def has_bf16(kind: str = "cpu") -> bool:
    """Whether bf16 products are faster than float32 ones: in hardware, not emulated.

    On Intel processors AVX-512 bf16 instructions do not count without AMX, which virtual machines
    often hide: on an Emerald Rapids they take twice the time of float32 ones.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    found = capabilities()
    if found.get("amx_bf16") or found.get("bf16"):
        return True
    return bool(found.get("avx512_bf16")) and "intel" not in str(found.get("cpu_name")).lower()


def takes_bf16(precision: str, kind: str = "cpu", *, queries: bool = False) -> bool:
    """Whether products are in bf16 on this kind of device, for one of ``PRECISIONS``.

    queries: whether the texts are queries, which ``auto`` computes in float32 everywhere.
    """
    return precision == "bf16" or (precision == "auto" and not queries and has_bf16(kind))
