"""The processes of one training: torchrun or accelerate starts them, each with its own device.

Every process draws the same global batch and works on its own rows of it. Gradients are averaged
once a step, after the last backward pass, so the module that is trained is never wrapped and may
run as many passes as it likes in a step (gradient caching does).
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, distributed, nn

from dupmae_toolkit.errors import DupMAEError

BUCKET = 1 << 24  # numbers that are sent at a time


class StoppedElsewhereError(DupMAEError):
    """Another process of the training stopped, and says why."""


def world() -> int:
    """How many processes train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if world() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return rank() == 0


def join() -> None:
    """Meet the other processes, if torchrun or accelerate started any; may be called again.

    Each process takes the GPU of its number on this machine; without GPUs they talk by gloo.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) < 2 or distributed.is_initialized():
        return
    backend = "gloo"
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())
        backend = "cpu:gloo,cuda:nccl"
    distributed.init_process_group(backend)
    atexit.register(_leave)


def _leave() -> None:
    if distributed.is_initialized():
        distributed.destroy_process_group()


def anywhere(found: bool) -> bool:
    """Whether something was found in any of the processes."""
    if world() == 1:
        return found
    flag = torch.tensor([int(found)])
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


def from_main(number: int) -> int:
    """The main process's number, in all of them."""
    if world() == 1:
        return number
    told = torch.tensor([number])
    distributed.broadcast(told, 0)
    return int(told)


def sums(numbers: Iterable[float]) -> list[float]:
    """The sums over the processes of as many numbers in each."""
    local = list(numbers)
    if world() == 1 or not local:
        return local
    total = torch.tensor(local, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.tolist()


def only_main(work: Callable[[], None]) -> None:
    """Let the main process do something; if it fails there, every process stops.

    Raises what ``work`` raised in the main process, StoppedElsewhereError in the others.
    """
    failure: BaseException | None = None
    if is_main():
        try:
            work()
        except Exception as error:
            failure = error
    if anywhere(failure is not None):
        raise failure or StoppedElsewhereError("process 0 stopped; it says why")


def heard_once(listen: Callable[[Any], None]) -> Callable[[Any], None]:
    """``listen`` in the main process; in the others what is said is said already."""
    return listen if is_main() else lambda entry: None


def same_weights(module: nn.Module) -> None:
    """Give every process the main one's parameters and buffers."""
    if world() == 1:
        return
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; one that is missing counts as 0.

    A parameter that has no gradient anywhere keeps none.
    """
    if world() == 1:
        return
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    if not trained:
        return
    there = torch.tensor([int(parameter.grad is not None) for parameter in trained])
    distributed.all_reduce(there, distributed.ReduceOp.MAX)
    gradients: list[Tensor] = []
    for parameter, found in zip(trained, there.tolist(), strict=True):
        if found:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            gradients.append(parameter.grad)
    for bucket in _buckets(gradients):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        distributed.all_reduce(flat)
        flat /= world()
        for gradient, part in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(part.view_as(gradient))


def _buckets(tensors: list[Tensor]) -> Iterable[list[Tensor]]:
    """Neighbours of one dtype, about BUCKET numbers together."""
    bucket: list[Tensor] = []
    for tensor in tensors:
        full = sum(held.numel() for held in bucket) + tensor.numel() > BUCKET
        if bucket and (full or tensor.dtype != bucket[0].dtype):
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


class Shares:
    """Collates a global batch and keeps this process's rows of it, in pieces.

    The batch is collated as a whole, so its masks are those of a single process, and cut into
    ``world · accumulation`` pieces of equal size. Piece ``turn · world + rank`` is this process's
    in its turn. Every tensor is cut along its first dimension.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], accumulation: int) -> None:
        self.collate = collate
        self.accumulation = accumulation
        self.examples: list[Any] = []  #: of the first batch, for who wants to try some out

    def __call__(self, examples: list[Any]) -> list[dict[str, Tensor]]:
        self.examples = self.examples or examples
        batch = self.collate(examples)
        pieces = world() * self.accumulation
        if pieces == 1:
            return [batch]
        size = len(examples) // pieces
        return [
            {
                key: _rows(value, (turn * world() + rank()) * size, size, len(examples), key)
                for key, value in batch.items()
            }
            for turn in range(self.accumulation)
        ]


def _rows(value: Tensor, start: int, size: int, of: int, key: str) -> Tensor:
    # A text may have several rows: a query's positive and its negatives.
    if value.shape[0] % of:
        raise DupMAEError(f"the batch's {key!r} has {value.shape[0]} rows for {of} examples")
    times = value.shape[0] // of
    return value[start * times : (start + size) * times]
