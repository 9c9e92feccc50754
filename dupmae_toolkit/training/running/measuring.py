"""Measures the cost of a training: FLOP, memory, and its speed while it runs."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from dupmae_toolkit.training.running.processes import alone, summed

#: Factor on kept activations, for their gradients and the allocator's waste.
MARGIN = 1.25
#: Speed of dense matrix products by the GPUs' data sheets, in 1e12 FLOP a second: bf16 with float32
#: sums, and float32 without TF32. The first entry that a device's name starts with is used.
PEAKS = {
    "NVIDIA H200": (989.0, 67.0),
    "NVIDIA H100 PCIe": (756.0, 51.0),
    "NVIDIA H100 NVL": (835.0, 60.0),
    "NVIDIA H100": (989.0, 67.0),
    "NVIDIA A100": (312.0, 19.5),
    "NVIDIA A30": (165.0, 10.3),
    "NVIDIA A10": (125.0, 31.2),
    "NVIDIA L40S": (362.0, 91.6),
    "NVIDIA L4": (121.0, 30.3),
}
#: Attention on the CPU, which flop_counter does not know. The value is the position of the query
#: among the arguments; the key follows it.
_CPU_ATTENTION = {
    "_scaled_dot_product_flash_attention_for_cpu": 0,
    "_scaled_dot_product_flash_attention_for_cpu_backward": 1,
}


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """The cost of one training. Bytes are of one process; FLOP and tokens of all.

    rows: texts or pairs that a process computes at once. tokens_a_step: of the first batch, without
    padding. flops_per_token: forward and backward, padding counted as tokens. product: measured
    FLOP a second of a matrix product. peak: FLOP a second of one device by its data sheet, or else
    ``product``. efficiency: the share of ``product`` that a training step is expected to reach.
    bytes_working: allocated and freed again within a pass. bytes_constant, bytes_a_row: kept for
    the backward pass, for any number of rows and for each.
    """

    steps: int
    batch_size: int
    processes: int
    rows: int
    tokens_a_step: float
    flops_a_step: float
    flops_per_token: float
    product: float
    peak: float
    efficiency: float
    parameters: int
    bytes_parameters: int
    bytes_gradients: int
    bytes_optimizer: int
    bytes_working: int
    bytes_constant: float
    bytes_a_row: float
    bytes_available: int

    @property
    def bytes_activations(self) -> float:
        kept = self.bytes_constant + self.bytes_a_row * self.rows
        return self.bytes_working + MARGIN * kept

    @property
    def bytes_needed(self) -> float:
        """In addition to the parameters, which are in memory already."""
        return self.bytes_gradients + self.bytes_optimizer + self.bytes_activations

    @property
    def rows_that_fit(self) -> int:
        rest = self.bytes_available - self.bytes_gradients - self.bytes_optimizer
        rest -= self.bytes_working
        return max(0, int((rest / MARGIN - self.bytes_constant) / max(1.0, self.bytes_a_row)))

    def seconds(self, steps: int) -> float:
        """An estimate for this many steps."""
        return steps * self.flops_a_step / (self.product * self.efficiency * self.processes)

    def entry(self, steps: int) -> dict[str, float]:
        """The log entry for a training with this many steps left."""
        return {
            "preflight": 1.0,
            "steps": self.steps,
            "steps_to_go": steps,
            "batch_size": self.batch_size,
            "processes": self.processes,
            "rows_at_once": self.rows,
            "tokens_a_step": self.tokens_a_step,
            "flops_a_step": self.flops_a_step,
            "product_flops": self.product,
            "estimated_seconds": self.seconds(steps),
            "parameters": self.parameters,
            "bytes_parameters": self.bytes_parameters,
            "bytes_gradients": self.bytes_gradients,
            "bytes_optimizer": self.bytes_optimizer,
            "bytes_activations": self.bytes_activations,
            "bytes_needed": self.bytes_needed,
            "bytes_available": self.bytes_available,
        }


def probe(
    module: nn.Module, batch: dict[str, Any], steps: int, device: torch.device, bf16: bool
) -> tuple[float, float, int]:
    """FLOP of a forward and a backward pass, bytes kept between them, and tokens with padding.

    No gradient is left behind, and torch's random state is restored.
    """
    batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
    was_training = module.training
    module.train()
    with (
        torch.random.fork_rng([device] if device.type == "cuda" else []),
        _weighed(module) as kept,
        _Products() as flops,
        alone(),
    ):
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=bf16):
            loss, _ = module(batch, 0, steps)
        loss.backward()
    module.zero_grad(set_to_none=True)
    module.train(was_training)
    return flops.total, kept.total, tokens_of(batch)[1]


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
            products = 2 if _CPU_ATTENTION[name] == 0 else 5  # backward recomputes the first
            self.total += 2.0 * products * query.numel() * key.shape[-2]
        elif count is not None:
            tensors = [a for a in arguments if isinstance(a, Tensor)]
            sparse = [a for a in tensors if a.layout != torch.strided]
            if sparse:  # only the stored values are multiplied
                self.total += 2.0 * sparse[0].values().numel() * result.shape[-1]
            else:
                self.total += count(*arguments, **(options or {}), out_val=result)
        return result


class _Kept:
    total = 0.0


@contextlib.contextmanager
def _weighed(module: nn.Module) -> Iterator[_Kept]:
    """Adds up the bytes that are kept for the backward pass, without the module's own weights."""
    own = {t.untyped_storage().data_ptr() for t in (*module.parameters(), *module.buffers())}
    kept = _Kept()

    def pack(tensor: Tensor) -> Tensor:
        # A sparse tensor has no storage of its own; it is not counted.
        if tensor.layout == torch.strided:
            storage = tensor.untyped_storage()
            if storage.data_ptr() not in own:
                own.add(storage.data_ptr())
                kept.total += storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        yield kept


def lengthen(example: Any, characters: int) -> Any:
    """An example with each text repeated to at least ``characters``; other values stay the same."""
    if isinstance(example, str):
        return " ".join([example or "a"] * (characters // max(1, len(example) + 1) + 1))
    if isinstance(example, tuple):
        parts = [lengthen(part, characters) for part in example]
        return type(example)(*parts) if hasattr(example, "_fields") else tuple(parts)
    if isinstance(example, list):
        return [lengthen(part, characters) for part in example]
    return example


def known_peak(name: str, bf16: bool) -> float | None:
    """FLOP a second of a GPU by its name, or None."""
    for prefix, peaks in PEAKS.items():
        # An "A100" must not match "A10".
        if name.startswith(prefix) and not name[len(prefix) : len(prefix) + 1].isalnum():
            return peaks[0 if bf16 else 1] * 1e12
    return None


def measured_product(device: torch.device, bf16: bool) -> float:
    """FLOP a second of a product of square matrices, the best of a few."""
    size, times = (8192, 5) if device.type == "cuda" else (768, 4)
    dtype = torch.bfloat16 if bf16 else torch.float32
    one = torch.ones(size, size, dtype=dtype, device=device)
    best = float("inf")
    with torch.no_grad():
        for _ in range(times):
            _wait(device)
            start = time.perf_counter()
            one @ one
            _wait(device)
            best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def tokens_of(batch: dict[str, Any]) -> tuple[int, int]:
    """The tokens of a batch without and with padding, from its two-dimensional masks."""
    masks = [
        value
        for name, value in batch.items()
        if name.endswith("_mask") and isinstance(value, Tensor) and value.dim() == 2
    ]
    return sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)


class Speedometer:
    """Counts tokens and time between two readings; time inside ``paused`` does not count."""

    def __init__(self) -> None:
        self.clock = time.perf_counter
        self._start = self.clock()
        self._step: int | None = None
        self._counted = [0, 0]

    def begin(self, step: int) -> None:
        """Start counting, before the first step of this run."""
        self._start, self._step, self._counted = self.clock(), step, [0, 0]

    def count(self, pieces: list[dict[str, Any]]) -> None:
        """Add the tokens of this process's pieces of a step."""
        for piece in pieces:
            real, padded = tokens_of(piece)
            self._counted[0] += real
            self._counted[1] += padded

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the clock, for example while a checkpoint is written."""
        stopped = self.clock()
        yield
        self._start += self.clock() - stopped

    def read(self, plan: TrainingPlan | None, step: int, steps: int) -> dict[str, float]:
        """The speed since the last reading, over all processes; every process must call it.

        tokens_per_second: without padding. peak_share: FLOP a second, padding included, divided by
        the ``plan.peak`` of all devices. seconds_left: for the remaining steps, at this speed.
        """
        real, padded = summed(self._counted)
        seconds = max(self.clock() - self._start, 1e-9)
        done = step - self._step if self._step is not None else 0
        self.begin(step)
        logs = {"tokens_per_second": real / seconds}
        if done:
            logs["seconds_left"] = (steps - step) * seconds / done
        if plan is not None:
            rate = plan.flops_per_token * padded / seconds
            logs["peak_share"] = rate / (plan.peak * plan.processes)
        return logs
