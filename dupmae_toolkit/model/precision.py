"""Products in bf16: where they pay, and a copy of the weights that spares casting them."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import nn

from dupmae_toolkit.processor import capabilities

PRECISIONS = ("auto", "fp32", "bf16")

Fingerprint = tuple[tuple[int, int], ...]


def has_bf16(kind: str = "cpu") -> bool:
    """Whether bf16 products are faster than float32 ones: in hardware, not emulated.

    Intel's AVX-512 instructions for bf16 do not count without AMX, which virtual machines often
    hide: on an Emerald Rapids their products take twice the time of float32 ones.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind != "cpu":
        return False
    found = capabilities()
    if found.get("amx_bf16") or found.get("bf16"):
        return True
    return bool(found.get("avx512_bf16")) and "intel" not in str(found.get("cpu_name")).lower()


def takes_bf16(precision: str, kind: str = "cpu") -> bool:
    """Whether products are in bf16 on this kind of device, for one of ``PRECISIONS``."""
    return precision == "bf16" or (precision == "auto" and has_bf16(kind))


def fingerprint(module: nn.Module) -> Fingerprint:
    """Where the weights lie and how often they were changed: equal as long as nothing touched them.

    The weights themselves are not read. What writes through ``.data`` is not seen. A hook counts as
    a change: what bypasses the module would bypass it too.
    """
    found: list[tuple[int, int]] = []
    waiting: list[nn.Module | None] = [module]
    # Not module.parameters(): it is called for each query, and that takes five times as long.
    while waiting:
        part = waiting.pop()
        if part is None:
            continue
        waiting.extend(part._modules.values())
        if part._forward_hooks or part._forward_pre_hooks:
            found.append((id(part), -1))
        for tensor in chain(part._parameters.values(), part._buffers.values()):
            if tensor is not None:
                version = 0 if tensor.is_inference() else tensor._version
                found.append((tensor.data_ptr(), version))
    return tuple(found)


@dataclass(slots=True)
class CastCopy:
    """A module whose linear layers have their weights in another dtype; the rest is shared.

    Under autocast it computes exactly what the original does, which would be cast so on each call;
    for a short text that is most of the work. Not for training.
    """

    module: Any
    dtype: torch.dtype
    made_from: Fingerprint

    @classmethod
    def of(cls, module: nn.Module, dtype: torch.dtype) -> CastCopy:
        # Outside inference mode, or the copy could not be used outside it either.
        with torch.inference_mode(False), torch.no_grad():
            shared = {id(t): t for t in chain(module.parameters(), module.buffers())}
            twin = copy.deepcopy(module, shared)
            for part in twin.modules():
                if isinstance(part, nn.Linear):
                    weight = part.weight.detach().to(dtype)
                    part.weight = nn.Parameter(weight, requires_grad=False)
        return cls(twin.eval(), dtype, fingerprint(module))

    def fits(self, module: nn.Module, dtype: torch.dtype) -> bool:
        """Whether the copy is what ``of`` would make now."""
        return self.dtype == dtype and self.made_from == fingerprint(module)
