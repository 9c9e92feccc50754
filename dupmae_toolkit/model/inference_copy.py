"""A copy of a masked LM's layers for inference: lean ones, or its own with weights cast once.

Under autocast the weights are cast at every call, which is most of the work for a short text. A
copy is made once for each dtype, and again when the weights change.
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

#: The precision of the lean layers' products, by autocast's dtype; None: without autocast.
_ARITHMETIC = {None: "fp32", torch.bfloat16: "bf16"}


@dataclass(frozen=True, slots=True)
class OwnLayers:
    """A masked LM's own modules with the interface of ``LeanBert``."""

    lm: Any

    def hidden_states(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """The last hidden states, [B, L, H]. input_ids, attention_mask: int64 [B, L]."""
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
        """Leave autocast as it is: it sets the precision of the modules."""
        return contextlib.nullcontext()


@dataclass(frozen=True, slots=True)
class InferenceCopy:
    """Layers made from a masked LM, with the state that they are valid for: its fingerprint."""

    layers: OwnLayers | LeanBert
    made_from: Fingerprint

    @classmethod
    def of(cls, lm: nn.Module, dtype: torch.dtype | None, made_from: Fingerprint) -> InferenceCopy:
        """Lean layers if they support the LM, else the LM itself, cast if there is a ``dtype``.

        dtype: autocast's; None without autocast.
        """
        layers: OwnLayers | LeanBert | None = None
        if dtype in _ARITHMETIC:
            layers = LEAN[_ARITHMETIC[dtype]].of(lm)
        if layers is None:
            layers = OwnLayers(lm if dtype is None else _cast_copy(lm, dtype))
        return cls(layers, made_from)

    def fits(self, now: Fingerprint) -> bool:
        """Whether ``of`` would make the same copy now."""
        return self.made_from == now


def _cast_copy(module: nn.Module, dtype: torch.dtype) -> nn.Module:
    """A copy whose linear layers have their weights in ``dtype``; other tensors are shared.

    Under autocast it gives the same bits as the original. Not for training.
    """
    # A copy made in inference mode could not be used outside it.
    with torch.inference_mode(False), torch.no_grad():
        shared = {id(t): t for t in chain(module.parameters(), module.buffers())}
        twin = copy.deepcopy(module, shared)
        for part in twin.modules():
            if isinstance(part, nn.Linear):
                weight = part.weight.detach().to(dtype)
                part.weight = nn.Parameter(weight, requires_grad=False)
    return twin.eval()


def fingerprint(module: nn.Module) -> Fingerprint:
    """The address of each weight in memory and how often it was changed.

    Equal as long as the weights do not change; they are not read. Writing through ``.data`` goes
    unnoticed. Adding a hook counts as a change, since lean layers would bypass it.
    """
    found: list[tuple[int, int]] = []
    waiting: list[nn.Module | None] = [module]
    # Not module.parameters(), which takes five times as long: this runs for each query.
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
