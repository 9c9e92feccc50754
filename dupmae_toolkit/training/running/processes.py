"""The processes of one training, each with its own device; torchrun or accelerate starts them.

Every process draws the same global batch and computes its own rows of it. Gradients are averaged
once a step, after the last backward pass. So the trained module is never wrapped, and may run any
number of passes in a step (gradient caching does).

With ``gather`` and ``batch_mean`` the gradient equals that of one process with the whole batch.
This needs equally many queries in each process, and a loss that is the mean over its own queries
against all documents. The backward pass adds up the processes, so each vector gets the gradients of
all losses.

In a single process, all functions here do nothing or return their input. Every process must make
the same calls in the same order, as with any collective operation.
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

BUCKET = 1 << 24  # gradient values sent at a time


class StoppedElsewhereError(DupMAEError):
    """Another process of the training stopped; its own message says why."""


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
    """Join the process group if torchrun or accelerate started one; may be called again.

    Each process uses the GPU with its local number. Without GPUs the backend is gloo.
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
    """Whether ``found`` is true in any process."""
    if world_size() == 1:
        return found
    flag = torch.tensor([int(found)])
    distributed.all_reduce(flag, distributed.ReduceOp.MAX)
    return bool(flag)


def from_main(number: int) -> int:
    """The main process's ``number``, returned in all processes."""
    if world_size() == 1:
        return number
    received = torch.tensor([number])
    distributed.broadcast(received, 0)
    return int(received)


def summed(numbers: Iterable[float]) -> list[float]:
    """The elementwise sums of all processes' lists, which have equal lengths."""
    local = list(numbers)
    if world_size() == 1 or not local:
        return local
    total = torch.tensor(local, dtype=torch.float64)
    distributed.all_reduce(total)
    return total.tolist()


def only_main(work: Callable[[], None]) -> None:
    """Run ``work`` in the main process; if it fails, every process stops.

    Raises what ``work`` raised in the main process, StoppedElsewhereError in the others.
    """
    failure: BaseException | None = None
    if is_main():
        try:
            work()
        except Exception as error:
            failure = error
    if anywhere(failure is not None):
        raise failure or StoppedElsewhereError("process 0 stopped; see its message")


def heard_once(listen: Callable[[Any], None]) -> Callable[[Any], None]:
    """``listen`` in the main process, and a function that does nothing in the others."""
    return listen if is_main() else lambda entry: None


def same_weights(module: nn.Module) -> None:
    """Copy the main process's parameters and buffers to every process."""
    if world_size() == 1:
        return
    with torch.no_grad():
        for tensor in (*module.parameters(), *module.buffers()):
            distributed.broadcast(tensor, 0)


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Replace each gradient by its mean over the processes; a missing one counts as 0.

    A parameter without a gradient in any process stays without.
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
    """Runs of tensors of one dtype, at most BUCKET values together; a larger tensor is alone."""
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

    The batch is collated as a whole, so that its masks are those of a single process, and split
    into ``processes · accumulation`` pieces of equal size. In each turn, process n computes piece
    ``turn · processes + n``. Every tensor is split along its first dimension.

    examples: those of the first batch, kept for the preflight's probes.
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
    # An example may have several rows: a query's positive and its negatives.
    if value.shape[0] % of:
        raise DupMAEError(f"the batch's {key!r} has {value.shape[0]} rows for {of} examples")
    times = value.shape[0] // of
    return value[start * times : (start + size) * times]


_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """Inside, this process holds the whole batch: ``gather`` involves no other process."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def batch_parts() -> int:
    """Over how many processes a batch is split."""
    return 1 if _alone else world_size()


def own_part() -> int:
    """The number of this process's part of the batch, from 0."""
    return 0 if _alone else process_number()


def gather(tensor: Tensor) -> Tensor:
    """The rows of all processes, in the order of the processes: [n, …] to [processes · n, …].

    Every process must have equally many rows. The gradient of a row is the sum of its gradients
    from all processes' losses.
    """
    return _Gather.apply(tensor) if batch_parts() > 1 else tensor


def batch_mean(tensor: Tensor, counted: Tensor | None = None) -> Tensor:
    """The mean over the rows of all processes, [1, …], with gradient.

    counted: bool [n], the rows that take part; by default all of them. Only the sums and the counts
    of the processes are sent. With a mean per process, a regulariser of the batch's mean, such as
    FLOPS, would depend on the number of devices.
    """
    if counted is None:
        counted = torch.ones(len(tensor), dtype=torch.bool, device=tensor.device)
    weights = counted.to(tensor.dtype)[None]
    # A product, because selecting the counted rows would copy them.
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
