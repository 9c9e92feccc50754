"""Estimates the cost of a training before it starts: steps, time and memory.

Nothing is looked up by a model's name. One batch of one example and one of two, at the recipe's
maximum length, run forward and backward. The FLOP of their products (by
``torch.utils.flop_counter``) and the bytes kept for the backward pass are counted. Both grow
linearly, so two runs give the constant part and the cost per example.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.pretraining_losses import CHUNK
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.measuring import (
    TrainingPlan,
    known_peak,
    lengthen,
    measured_product,
    probe,
    tokens_of,
)
from dupmae_toolkit.training.running.processes import Shares, StoppedElsewhereError

LENGTHS = ("max_length", "query_length", "document_length")
#: Measured: the share of a plain matrix product's speed that a whole training step reaches.
EFFICIENCY = {"cpu": 0.5, "cuda": 0.4}


def check_share(recipe: Recipe, module: Any) -> None:
    """Raise InputError if a batch cannot be split equally among the processes."""
    world = processes.world_size()
    if world > 1 and not getattr(module, "many_processes", False):
        raise InputError("this training runs in one process; start it without torchrun")
    if recipe.batch_size % (world * recipe.accumulation):
        pieces = f"{world} processes" + (
            f" times {recipe.accumulation} pieces" if recipe.accumulation > 1 else ""
        )
        raise InputError(
            f"batch_size {recipe.batch_size} cannot be shared equally among {pieces}; "
            f"set it to a multiple of {world * recipe.accumulation}"
        )


def memory_knobs(recipe: Recipe) -> str:
    """The recipe's keys that save memory, worded for a message."""
    names = ["batch_size", *(name for name in LENGTHS if hasattr(recipe, name))]
    ways = f"lower {', '.join(names[:-1])} or {names[-1]}"
    if hasattr(recipe, "chunk_size"):
        return f"{ways}, or set a small chunk_size"
    return f"{ways}, or raise accumulation"


def refuse_what_cannot_fit(recipe: Recipe, plan: TrainingPlan) -> None:
    """Raise InputError if the free memory is too small, naming the keys to change."""
    short = plan.bytes_needed > plan.bytes_available
    if not processes.anywhere(short):
        return
    if not short:
        raise StoppedElsewhereError("another process has too little memory; see its message")
    fitting = plan.rows_that_fit
    what = f"at most {fitting} at once would fit" if fitting else "not even one would fit"
    raise InputError(
        f"{plan.rows} texts at once need about {plan.bytes_needed / 1e9:.1f} GB beside the model "
        f"and {plan.bytes_available / 1e9:.1f} GB are free: {what}; {memory_knobs(recipe)}"
    )


def plan_training(
    recipe: Recipe, module: nn.Module, first: list[dict[str, Any]], share: Shares, *, bf16: bool
) -> TrainingPlan:
    """Plan a training of ``module``, which is on its device already.

    first: this process's pieces of the first batch. share: collated it and has kept its examples.
    Raises InputError at once if gradients and optimizer state alone do not fit.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    device = trained[0].device
    pieces = processes.world_size() * recipe.accumulation
    rows = recipe.batch_size // pieces
    gradients = sum(p.numel() * p.element_size() for p in trained)
    settings = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "processes": processes.world_size(),
        "rows": rows,
        "parameters": sum(p.numel() for p in module.parameters()),
        "bytes_parameters": sum(p.numel() * p.element_size() for p in module.parameters()),
        "bytes_gradients": gradients,
        "bytes_optimizer": 2 * gradients,  # AdamW keeps two moments
        "bytes_available": available_bytes(device),
    }
    real, padded = (sum(counts) for counts in zip(*map(tokens_of, first), strict=True))
    unknown = dict.fromkeys(("tokens_a_step", "flops_a_step", "flops_per_token"), 0.0)
    unknown |= {"product": 1.0, "peak": 1.0, "efficiency": 1.0}
    nothing = {"bytes_working": 0, "bytes_constant": 0.0, "bytes_a_row": 0.0}
    bare = TrainingPlan(**settings, **unknown, **nothing)  # type: ignore[arg-type]
    refuse_what_cannot_fit(recipe, bare)
    heard = [_by_all_teachers(example, recipe) for example in (share.examples * 2)[:2]]
    long = [lengthen(example, 8 * _longest(recipe)) for example in heard]
    (flops_1, bytes_1, _), (flops_2, bytes_2, tokens) = (
        probe(module, share.collate(long[:count]), recipe.steps, device, bf16) for count in (1, 2)
    )
    vocabulary = max((p.shape[0] for p in trained if p.dim() == 2), default=1)
    constant = max(0.0, 2 * bytes_1 - bytes_2)
    chunk_size = getattr(recipe, "chunk_size", 0)
    if chunk_size:
        # The vectors of all rows are kept, but the activations of one chunk only.
        with _without_chunks(recipe):
            batches = [share.collate(long[:count]) for count in (1, 2)]
            one, two = (probe(module, b, recipe.steps, device, bf16)[1] for b in batches)
        texts_of_row = max(len(v) for k, v in batches[0].items() if k.endswith("_mask"))
        constant += (two - one) * min(rows, -(-chunk_size // texts_of_row))
    a_token = max(flops_2 - flops_1, flops_2 / 2) / max(1.0, tokens / 2)
    product = measured_product(device, bf16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return TrainingPlan(
        **settings,  # type: ignore[arg-type]
        tokens_a_step=real * processes.world_size(),
        flops_a_step=a_token * padded * processes.world_size(),
        flops_per_token=a_token,
        product=product,
        peak=known_peak(name, bf16) or product,
        efficiency=EFFICIENCY.get(device.type, 0.4),
        # A chunk of logits and their softmax, freed when the loss is computed.
        bytes_working=2 * 4 * min(CHUNK, tokens * rows * vocabulary // 2),
        bytes_constant=constant,
        bytes_a_row=max(bytes_2 - bytes_1, 0.0),
    )


@contextlib.contextmanager
def _without_chunks(recipe: Any) -> Iterator[None]:
    chunk_size, recipe.chunk_size = recipe.chunk_size, 0
    try:
        yield
    finally:
        recipe.chunk_size = chunk_size


def _by_all_teachers(example: Any, recipe: Any) -> Any:
    """The example with all teachers on that some source uses: the first may use few of them."""
    return example._replace(scales=recipe.largest_scales) if hasattr(example, "scales") else example


def _longest(recipe: Recipe) -> int:
    return max(getattr(recipe, name) for name in LENGTHS if hasattr(recipe, name))


def available_bytes(device: torch.device) -> int:
    """Memory that a process can still get: of its GPU, or its share of the machine's.

    On Linux the smaller of the machine's available memory and what the control group leaves;
    elsewhere the machine's total memory, or 1 << 62 if that is unknown.
    """
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return free + held
    found = [value for value in (_machine_bytes(), _group_bytes()) if value is not None]
    neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if processes.world_size() > 1 else 1
    return (min(found) if found else 1 << 62) // max(1, neighbours)


def _machine_bytes(meminfo: Path = Path("/proc/meminfo")) -> int | None:
    try:
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None


def _group_bytes(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """What the control group (version 2 or 1) still allows. Inactive file cache counts as free."""
    for limit, used, cache in (
        ("memory.max", "memory.current", "inactive_file"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes", "total_inactive_file"),
    ):
        try:
            total, now = int((root / limit).read_text()), int((root / used).read_text())
            stat = (root / limit).with_name("memory.stat").read_text().split()
            spare = int(stat[stat.index(cache) + 1]) if cache in stat else 0
        except (OSError, ValueError, IndexError):
            continue
        return max(0, total - now + spare)
    return None
