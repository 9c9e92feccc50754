"""A masked LM's layers as they are computed without gradients: lean ones, or cast in advance.

Autocast casts the weights on each call, which for a short text is most of the work. A copy is made
once, and again when the weights have changed.
"""

from __future__ import annotations

import contextlib
import copy
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.heads import pooled_logits
from dupmae_toolkit.model.lean.bert import LeanBert
from dupmae_toolkit.model.lean.bf16 import LEAN

Fingerprint = tuple[tuple[int, int], ...]

#: What the lean layers take products in, by autocast's dtype; None: without autocast.
_ARITHMETIC = {None: "fp32", torch.bfloat16: "bf16"}


@dataclass(frozen=True, slots=True)
class OwnLayers:
    """A masked LM's own modules, with the methods of ``LeanBert``."""

    lm: Any

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden states, [B, L, H], for int64 [B, L] twice."""
        return backbones.hidden_states(self.lm, input_ids, attention_mask)

    def pooled_logits(
        self, hidden: Tensor, mask: Tensor, head: str, top_k: int | None = None
    ) -> Tensor:
        """Pooled vocabulary logits μ, float32 [B, |V|]; all of them, whatever ``top_k``.

        mask: bool [B, L], the tokens that are pooled. head: as ``DupMAEConfig.lexical_head``.
        """
        weight, bias = backbones.vocabulary_projection(self.lm)
        features = backbones.transform(self.lm, hidden) if head == "mlm" else hidden
        return pooled_logits(features, weight, bias, mask)

    def autocast(self) -> contextlib.AbstractContextManager[None]:
        """Autocast as it is: it says what the modules compute in."""
        return contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class InferenceCopy:
    """Layers made from a masked LM, and for what.

    dtype: what autocast takes products in; None without autocast. made_from: of the LM.
    """

    layers: OwnLayers | LeanBert
    dtype: torch.dtype | None
    made_from: Fingerprint

    @classmethod
    def of(cls, lm: nn.Module, dtype: torch.dtype | None, made_from: Fingerprint) -> InferenceCopy:
        """Lean layers where they are known, else the LM itself, cast if there is a ``dtype``."""
        layers: OwnLayers | LeanBert | None = None
        if dtype in _ARITHMETIC:
            layers = LEAN[_ARITHMETIC[dtype]].of(lm)
        if layers is None:
            layers = OwnLayers(lm if dtype is None else _cast_copy(lm, dtype))
        return cls(layers, dtype, made_from)

    def fits(self, dtype: torch.dtype | None, now: Fingerprint) -> bool:
        """Whether the copy is what ``of`` would make now."""
        return self.dtype == dtype and self.made_from == now


def _cast_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A module whose linear layers have their weights in another dtype; the rest is shared.

    Under autocast it computes the same bits as the original. Not for training.
    """
    # Outside inference mode, or the copy could not be used outside it either.
    with torch.inference_mode(False), torch.no_grad():
        shared = {id(t): t for t in chain(module.parameters(), module.buffers())}
        twin = copy.deepcopy(module, shared)
        for part in twin.modules():
            if isinstance(part, nn.Linear):
                weight = part.weight.detach().to(dtype)
                part.weight = nn.Parameter(weight, requires_grad=False)
    return twin.eval()


def fingerprint(module: nn.Module) -> Fingerprint:
    """Where the weights lie in memory and how often each was changed.

    It is equal as long as nothing changes the weights, which are not read; writing through
    ``.data`` goes unnoticed. A hook counts as a change: what bypasses the module bypasses it too.
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
