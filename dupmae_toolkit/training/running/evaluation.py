"""Evaluation during a training: held-out losses, active terms, retrieval, collapse.

It does not change the training: modes of modules and random states are restored afterwards.
"""

from __future__ import annotations

import contextlib
import itertools
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import TrainerCallback

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.training.data.streams import Batches
from dupmae_toolkit.training.fitted_score import FittedScore
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running.history import Listen, append
from dupmae_toolkit.training.running.processes import alone
from dupmae_toolkit.training.running.retrieval import Measure, SmallCollection, evaluate_retrieval
from dupmae_toolkit.training.sources import DataSource

#: If this share of the vocabulary is active in a text, its lexical vector carries no information.
NEARLY_ALL = 0.95
_ACTIVE = ("active", "active_document", "active_query")


class HeldOut:
    """The first batches of held-out sources, the same ones at each call.

    The texts are read once and kept, since finding the held-out share of a large corpus means
    reading all of it. They are collated anew each time, since tensors are far larger than texts.
    make, collate: see Batches.
    """

    def __init__(
        self,
        sources: list[DataSource],
        recipe: Recipe,
        make: Callable[[DataSource, random.Random], Iterator[Any]],
        collate: Callable[[list[Any]], dict[str, Tensor]],
    ) -> None:
        self._stream = Batches(sources, recipe.batch_size, recipe.seed, make, list)
        self._count = recipe.eval_batches
        self._collate = collate
        self._batches: list[list[Any]] = []

    def __call__(self) -> Iterator[dict[str, Tensor]]:
        self._batches = self._batches or list(itertools.islice(self._stream, self._count))
        return map(self._collate, self._batches)


class Evaluation(TrainerCallback):
    """Evaluates a training every ``eval_every`` steps, and warns of a collapse as soon as it shows.

    module: what the trainer trains; forward(batch, step, steps) -> (loss, parts).
    held_out: returns the batches to compute losses on, the same ones at each call; or None. fitted:
    the joint score, if it is not the plain one.
    Entries go to the log and to the listener: the means of the loss and of its parts as ``eval_…``,
    and the results of ``evaluate_retrieval``.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        encoder: DupMAEEncoder,
        listen: Listen,
        *,
        held_out: Callable[[], Iterator[dict[str, Tensor]]] | None = None,
        measure: Measure | None = None,
        fitted: FittedScore | None = None,
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.encoder = encoder
        self.listen = listen
        self.held_out = held_out
        self.measure = measure
        self.fitted = fitted
        self.collection: SmallCollection | None = None
        if recipe.eval_every and recipe.eval_collection:
            if measure is None:
                raise InputError("eval_collection needs a function that measures rankings")
            self.collection = SmallCollection.open(recipe.eval_collection, recipe.eval_split)
        self._warned: set[str] = set()

    @property
    def active(self) -> bool:
        return bool(self.recipe.eval_every) and (self.held_out or self.collection) is not None

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if self.active and state.global_step == 0:
            self.evaluate(0)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        step = state.global_step
        if self.active and (step % self.recipe.eval_every == 0 or step == self.recipe.steps):
            self.evaluate(step)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        self._look_for_collapse(state.global_step, logs or {})

    def evaluate(self, step: int) -> dict[str, float]:
        """Evaluate everything, write the entry to the log and return it."""
        entry: dict[str, float] = {"step": step}
        with untouched(self.module):
            if self.held_out is not None:
                entry |= self._losses(step)
            if self.collection is not None and self.measure is not None:
                searched = self.encoder, self.collection, self.measure
                entry |= evaluate_retrieval(*searched, self.fitted)
        self._write(entry)
        self._look_for_collapse(step, entry)
        return entry

    def _losses(self, step: int) -> dict[str, float]:
        assert self.held_out is not None
        self.module.eval()
        found: dict[str, list[float]] = {}
        for batch in self.held_out():
            device = self.encoder.device
            batch = {k: v.to(device) if isinstance(v, Tensor) else v for k, v in batch.items()}
            # Only this process evaluates: it holds the whole batch, and the others wait.
            with torch.no_grad(), self.encoder.autocast(), alone():
                loss, parts = self.module(batch, step, self.recipe.steps)
            for name, value in {"loss": loss, **parts}.items():
                found.setdefault(f"eval_{name}", []).append(float(value))
        return {name: sum(values) / len(values) for name, values in found.items()}

    def _look_for_collapse(self, step: int, entry: dict[str, Any]) -> None:
        size = self.encoder.vocabulary_size
        for key in _ACTIVE:
            value = entry.get(key)
            if not isinstance(value, int | float):
                continue
            fault = collapse(value, size)
            if not fault:
                self._warned -= {f"{key} all", f"{key} none"}
                continue
            collapsed = f"{key} all" if value > 1 else f"{key} none"
            if collapsed not in self._warned:
                self._warned.add(collapsed)
                self._write({"step": step, "warning": f"{key} is {value:.4g} of {size}: {fault}"})

    def _write(self, entry: dict[str, Any]) -> None:
        append(Path(self.recipe.output), entry)
        self.listen(entry)


def collapse(active: float, size: int) -> str:
    """What is wrong with ``active`` terms of ``size`` in a text on average; "" if nothing is."""
    if active >= NEARLY_ALL * size:
        return (
            "nearly every term is active, so the lexical vectors barely distinguish texts; "
            "in fine-tuning, raise the FLOPS weight or set active_terms"
        )
    if active < 1:
        return (
            "hardly any term is active, so the lexical vectors are empty; lower the FLOPS weight, "
            "or begin again with active_terms"
        )
    return ""


@contextlib.contextmanager
def untouched(module: nn.Module) -> Iterator[None]:
    """Restore the modes of all modules and all random states afterwards."""
    modes = {part: part.training for part in module.modules()}
    python, arrays = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng():
            yield
    finally:
        random.setstate(python)
        np.random.set_state(arrays)
        for part, mode in modes.items():
            part.training = mode
