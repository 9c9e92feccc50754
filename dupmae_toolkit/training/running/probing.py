"""One pass through a network and back, watched: what is multiplied, and what is kept on the way."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dupmae_toolkit.training.running.distributed import alone
from dupmae_toolkit.training.running.speed import tokens_of


def probe(
    module: nn.Module, batch: dict[str, Any], steps: int, device: torch.device, bf16: bool
) -> tuple[float, float, int]:
    """FLOP of a pass forward and back, bytes that are kept between the two, and padded tokens.

    No gradient is left behind; torch's generator is where it was.
    """
    batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    was_training = module.training
    module.train()
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        weighed(module) as kept,
        counted() as flops,
        alone(),
    ):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, _ = module(batch, 0, steps)
        loss.backward()
    module.zero_grad(set_to_none=True)
    module.train(was_training)
    return flops.total, kept.total, tokens_of(batch)[1]


#: Attention on the CPU, which flop_counter does not know: where the query stands, and then the key.
_CPU_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu": 0,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 1,
}


class _Products(TorchDispatchMode):
    """Adds up the FLOP of the products that run under it."""

    def __init__(self) -> None:
        super().__init__()
        self.total = 0.0

    def __torch_dispatch__(
        self, function: Any, types: Any, arguments: Any = (), options: Any = None
    ) -> Any:
        result = function(*arguments, **(options or {}))
        name, count = function._overloadpacket.__name__, flop_registry.get(function._overloadpacket)
        if name in _CPU_ATTENTION:
            query, key = arguments[_CPU_ATTENTION[name] :][:2]
            products = 2 if _CPU_ATTENTION[name] == 0 else 5  # the way back repeats the first
            self.total += 2.0 * products * query.numel() * key.shape[-2]
        elif count is not None:
            tensors = [a for a in arguments if isinstance(a, Tensor)]
            sparse = [a for a in tensors if a.layout != torch.strided]
            if sparse:  # only what is stored takes part
                self.total += 2.0 * sparse[0].values().numel() * result.shape[-1]
            else:
                self.total += count(*arguments, **(options or {}), out_val=result)
        return result


def counted() -> _Products:
    """A context that counts products."""
    return _Products()


class _Kept:
    total = 0.0


@contextlib.contextmanager
def weighed(module: nn.Module) -> Iterator[_Kept]:
    """Adds up the bytes of what is kept for the backward pass, the module's own weights aside."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept = _Kept()

    def pack(tensor: Tensor) -> Tensor:
        # A sparse tensor has no storage of its own; none is kept here.
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                own.add(storage.data_ptr())
                kept.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def lengthen(example: Any, characters: int) -> Any:
    """An example with its texts repeated until they are that long; ids and numbers as they are."""
    if isinstance(example, str):
        return " ".join([example or "a"] * (characters // max(1, len(example) + 1) + 1))
    if isinstance(example, tuple):
        parts = [lengthen(part, characters) for part in example]
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    if isinstance(example, list):
        return [lengthen(part, characters) for part in example]
    return example
