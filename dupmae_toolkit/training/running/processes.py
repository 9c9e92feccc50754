"""The processes of one training: torchrun or accelerate starts them, each with its own device.

Every process draws the same global batch and works on its own rows of it. Gradients are averaged
once a step, after the last backward pass. So the trained module is never wrapped, and may run as
many passes in a step as it likes (gradient caching does).

``gather`` and ``batch_mean`` give the gradient of one process that holds the whole batch, provided
that each process has as many queries and takes the mean over its own queries against all documents.
The backward pass sums over the processes, so a vector gets its gradient from the losses of all.

In a single process everything here is the identity. Every process must make the same calls in the
same order, as with any collective operation.
"""

from __future__ import annotations

import atexit
import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.autograd.function import once_differentiable

from dupmae_toolkit.errors import DupMAEError

BUCKET = 1 << 24  # numbers that are sent at a time


class StoppedElsewhereError(DupMAEError):
    """Another process of the training stopped, and says why."""


def world_size() -> int:
    """How many processes train together."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_world_size()
    return 1


def process_number() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if world_size() > 1 else 0


def is_main() -> bool:
    """Whether this is the process that writes and prints."""
    return process_number() == 0


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
    if world_size() == 1:
        return found
    flag = torch.tensor([int(found)])
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


def from_main(number: int) -> int:
    """The main process's number, in all of them."""
    if world_size() == 1:
        return number
    told = torch.tensor([number])
    distributed.broadcast(told, 0)
    return int(told)


def summed(numbers: Iterable[float]) -> list[float]:
    """The sums over the processes of as many numbers in each."""
    local = list(numbers)
    if world_size() == 1 or not local:
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
    """``listen`` in the main process; in the others a function that does nothing."""
    return listen if is_main() else lambda entry: None


def same_weights(module: nn.Module) -> None:
    """Give every process the main one's parameters and buffers."""
    if world_size() == 1:
        return
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; one that is missing counts as 0.

    A parameter that has no gradient anywhere keeps none.
    """
    if world_size() == 1:
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
        flat /= world_size()
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
    ``processes · accumulation`` pieces of equal size. In each turn the process numbered n works on
    piece ``turn · processes + n``. Every tensor is cut along its first dimension.

    examples: those of the first batch, kept so that the preflight can try some of them.
    """

    def __init__(self, collate: Callable[[list[Any]], Any], accumulation: int) -> None:
        self.collate = collate
        self.accumulation = accumulation
        self.examples: list[Any] = []

    def __call__(self, examples: list[Any]) -> list[dict[str, Tensor]]:
        self.examples = self.examples or examples
        batch = self.collate(examples)
        pieces = world_size() * self.accumulation
        if pieces == 1:
            return [batch]
        size = len(examples) // pieces
        starts = [
            (turn * world_size() + process_number()) * size for turn in range(self.accumulation)
        ]
        return [
            {key: _rows(value, start, size, len(examples), key) for key, value in batch.items()}
            for start in starts
        ]


def _rows(value: Tensor, start: int, size: int, of: int, key: str) -> Tensor:
    # A text may have several rows: a query's positive and its negatives.
    if value.shape[0] % of:
        raise DupMAEError(f"the batch's {key!r} has {value.shape[0]} rows for {of} examples")
    times = value.shape[0] // of
    return value[start * times : (start + size) * times]


_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process holds the whole batch: the others are not asked for parts of it."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def batch_parts() -> int:
    """Over how many processes a batch lies."""
    return 1 if _alone else world_size()


def own_part() -> int:
    """Which part of the batch is this process's, from 0."""
    return 0 if _alone else process_number()


def gather(tensor: Tensor) -> Tensor:
    """The rows of all processes, one process after the other: [n, …] to [processes · n, …].

    Every process must have as many rows. The gradient of a row is the sum of what all processes'
    losses say about it.
    """
    return _Gather.apply(tensor) if batch_parts() > 1 else tensor


def batch_mean(tensor: Tensor, counted: Tensor | None = None) -> Tensor:
    """The mean over the rows of all processes, [1, …], with gradient.

    counted: bool [n], the rows that take part; by default all of them. Only the processes' sums
    and the numbers of their rows travel. A regulariser of the batch's mean, such as FLOPS, would
    depend on the number of devices if each took its own.
    """
    if counted is None:
        counted = torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    weights = counted.to(tensor.dtype)[None]
    # A product: the rows that are counted would be copied if they were picked.
    total = (weights @ tensor.reshape(len(tensor), -1)).view(1, *tensor.shape[1:])
    number = gather(weights.sum(dim=1))
    return gather(total).sum(dim=0, keepdim=True) / number.sum().clamp(min=1)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        tensor = tensor.contiguous()
        parts = [torch.empty_like(tensor) for _ in range(batch_parts())]
        distributed.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total.chunk(batch_parts())[own_part()]
