"""Tokens a second, and how much of what the device can do that is."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from dupmae_toolkit.training.running import processes

if TYPE_CHECKING:
    from dupmae_toolkit.training.running.preflight import Plan

#: Dense matrix products of GPUs by their makers' data sheets, in 1e12 FLOP a second: bf16 with
#: float32 sums, and float32 without TF32. The first name that the device's begins with counts.
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


def known_peak(name: str, bf16: bool) -> float | None:
    """FLOP a second of a GPU by its name, or None."""
    for prefix, peaks in PEAKS.items():
        # "A100" must not be taken for an "A10".
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
    """The tokens of a batch's texts, and those with the padding: of its masks of two dimensions."""
    masks = [
        value
        for name, value in batch.items()
        if name.endswith("_mask") and isinstance(value, Tensor) and value.dim() == 2
    ]
    return sum(int(mask.sum()) for mask in masks), sum(mask.numel() for mask in masks)


class Speedometer:
    """Counts tokens between two readings; what is paused does not count as time."""

    def __init__(self) -> None:
        self.clock = time.perf_counter
        self._start = self.clock()
        self._step: int | None = None
        self._counted = [0, 0]

    def begin(self, step: int) -> None:
        """Start counting, before the first step that is made."""
        self._start, self._step, self._counted = self.clock(), step, [0, 0]

    def count(self, pieces: list[dict[str, Any]]) -> None:
        """Add the tokens of the pieces that this process works on in a step."""
        for piece in pieces:
            real, padded = tokens_of(piece)
            self._counted[0] += real
            self._counted[1] += padded

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside: a checkpoint is written, an evaluation made."""
        stopped = self.clock()
        yield
        self._start += self.clock() - stopped

    def read(self, plan: Plan | None, step: int, steps: int) -> dict[str, float]:
        """Since the last reading, over all processes; every process must ask.

        tokens_per_second: without padding. peak_share: FLOP, padding included, over what all
        devices can do by ``plan.peak``. seconds_left: for the steps to come, at this speed.
        """
        real, padded = processes.sums(self._counted)
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
