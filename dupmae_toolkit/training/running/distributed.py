"""Batches that lie on several processes: gathering them, with the gradient of one large batch.

A training that averages its gradients over the processes (as DDP does) gets here the gradient of
one process that holds the whole batch, provided that each process has as many queries and takes
the mean over its own queries against all documents. What a vector owes to the losses of the other
processes comes back to it in the backward pass, which sums over the processes.

In a single process everything here is the identity. Every process must make the same calls in the
same order, as with any collective operation.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from dupmae_toolkit.training.running import processes

_alone = False


@contextlib.contextmanager
def alone() -> Iterator[None]:
    """In here a batch is this process's own and whole: nobody else is asked for a part of it."""
    global _alone
    before, _alone = _alone, True
    try:
        yield
    finally:
        _alone = before


def world_size() -> int:
    """Over how many processes a batch lies."""
    return 1 if _alone else processes.world()


def rank() -> int:
    """Which part of the batch is this process's, from 0."""
    return 0 if _alone else processes.rank()


def gather(tensor: Tensor) -> Tensor:
    """The rows of all processes, one process after the other: [n, …] to [processes · n, …].

    Every process must have as many rows. The gradient of a row is the sum of what all processes'
    losses say about it.
    """
    return _Gather.apply(tensor) if world_size() > 1 else tensor


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
        parts = [torch.empty_like(tensor) for _ in range(world_size())]
        dist.all_gather(parts, tensor)
        return torch.cat(parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total)
        return total.chunk(world_size())[rank()]
