"""What a training will take, before it starts: steps, time and memory.

Nothing is looked up by a model's name. One text, then two, as long as the recipe allows, go through
the network and back, while the products are counted (``torch.utils.flop_counter``'s formulas) and
the tensors that are kept for the backward pass are weighed. Both grow linearly with the texts, so
the two give what a text costs and what there is without any.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.losses import CHUNK
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.free_memory import available_bytes
from dupmae_toolkit.training.running.probing import lengthen, probe
from dupmae_toolkit.training.running.processes import Shares, StoppedElsewhereError
from dupmae_toolkit.training.running.speed import known_peak, measured_product, tokens_of

LENGTHS = ("max_length", "query_length", "document_length")
#: Share of a plain matrix product's speed that a whole training step was seen to reach.
EFFICIENCY = {"cpu": 0.5, "cuda": 0.4}
#: On top of what is kept: gradients of activations, and the allocator's waste.
MARGIN = 1.25


@dataclass(frozen=True, slots=True)
class Plan:
    """Of one training. Bytes are of one process; FLOP and tokens of all.

    tokens_a_step: without padding, by the first batch. flops_per_token: forward and backward,
    padding counted. product: FLOP a second of a matrix product, measured. peak: of one device by
    its data sheet, else the measured product. rows: texts or pairs that are worked on at once.
    bytes_working: what comes and goes within a pass.
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
        """Beside the parameters, which are there already."""
        return self.bytes_gradients + self.bytes_optimizer + self.bytes_activations

    @property
    def rows_that_fit(self) -> int:
        rest = self.bytes_available - self.bytes_gradients - self.bytes_optimizer
        rest -= self.bytes_working
        return max(0, int((rest / MARGIN - self.bytes_constant) / max(1.0, self.bytes_a_row)))

    def seconds(self, steps: int) -> float:
        """An estimate for so many steps."""
        return steps * self.flops_a_step / (self.product * self.efficiency * self.processes)

    def entry(self, steps: int) -> dict[str, float]:
        """The entry of the log, for a training that has so many steps to go."""
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


def check_share(recipe: Recipe, module: Any) -> None:
    """Raise InputError where a batch cannot be shared among the processes that were started."""
    world = processes.world()
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
    """What to turn for less memory."""
    names = ["batch_size", *(name for name in LENGTHS if hasattr(recipe, name))]
    ways = f"lower {', '.join(names[:-1])} or {names[-1]}"
    if hasattr(recipe, "chunk_size"):
        return f"{ways}, or set a small chunk_size"
    return f"{ways}, or raise accumulation"


def refuse_what_cannot_fit(recipe: Recipe, plan: Plan) -> None:
    """Raise InputError if the memory that is free will not do, naming the knobs."""
    short = plan.bytes_needed > plan.bytes_available
    if not processes.anywhere(short):
        return
    if not short:
        raise StoppedElsewhereError("another process has too little memory; it says so")
    fitting = plan.rows_that_fit
    what = f"at most {fitting} at once would fit" if fitting else "not even one would fit"
    raise InputError(
        f"{plan.rows} texts at once need about {plan.bytes_needed / 1e9:.1f} GB beside the model "
        f"and {plan.bytes_available / 1e9:.1f} GB are free: {what}; {memory_knobs(recipe)}"
    )


def examine(
    recipe: Recipe, module: nn.Module, first: list[dict[str, Any]], share: Shares, *, bf16: bool
) -> Plan:
    """Plan a training of ``module``, which lies on its device.

    first: this process's pieces of the first batch. share: collates, and has the examples.
    Raises InputError at once where gradients and optimizer alone have no room.
    """
    trained = [p for p in module.parameters() if p.requires_grad]
    device = trained[0].device
    pieces = processes.world() * recipe.accumulation
    rows = recipe.batch_size // pieces
    gradients = sum(p.numel() * p.element_size() for p in trained)
    settings = {
        "steps": recipe.steps,
        "batch_size": recipe.batch_size,
        "processes": processes.world(),
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
    bare = Plan(**settings, **unknown, **nothing)  # type: ignore[arg-type]
    refuse_what_cannot_fit(recipe, bare)
    long = [lengthen(example, 8 * _longest(recipe)) for example in (share.examples * 2)[:2]]
    (flops_1, bytes_1, _), (flops_2, bytes_2, tokens) = (
        probe(module, share.collate(long[:count]), recipe.steps, device, bf16) for count in (1, 2)
    )
    vocabulary = max((p.shape[0] for p in trained if p.dim() == 2), default=1)
    constant = max(0.0, 2 * bytes_1 - bytes_2)
    chunk_size = getattr(recipe, "chunk_size", 0)
    if chunk_size:
        # Of all rows their vectors stay; of the chunk that is worked on, everything.
        with _without_chunks(recipe):
            batches = [share.collate(long[:count]) for count in (1, 2)]
            one, two = (probe(module, b, recipe.steps, device, bf16)[1] for b in batches)
        texts_of_row = max(len(v) for k, v in batches[0].items() if k.endswith("_mask"))
        constant += (two - one) * min(rows, -(-chunk_size // texts_of_row))
    a_token = max(flops_2 - flops_1, flops_2 / 2) / max(1.0, tokens / 2)
    product = measured_product(device, bf16)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else ""
    return Plan(
        **settings,  # type: ignore[arg-type]
        tokens_a_step=real * processes.world(),
        flops_a_step=a_token * padded * processes.world(),
        flops_per_token=a_token,
        product=product,
        peak=known_peak(name, bf16) or product,
        efficiency=EFFICIENCY.get(device.type, 0.4),
        # A chunk of logits and their softmax, which are gone again when the loss is there.
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


def _longest(recipe: Recipe) -> int:
    return max(getattr(recipe, name) for name in LENGTHS if hasattr(recipe, name))
