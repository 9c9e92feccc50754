"""A training from its recipe to its result: the output folder, what it will take, resuming."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn
from transformers import TrainerCallback

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import make_folder, remove_leftovers, write_json
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import quiet
from dupmae_toolkit.training.data.streams import Batches
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.history import Listen, LogCallback, append, keep_until
from dupmae_toolkit.training.running.preflight import (
    check_share,
    plan_training,
    refuse_what_cannot_fit,
)
from dupmae_toolkit.training.running.processes import Shares
from dupmae_toolkit.training.running.resuming import (
    agreed_checkpoint,
    check_pickles,
    steps_done,
    writing,
)
from dupmae_toolkit.training.running.step_trainer import Load, Save, StepTrainer


def run(
    recipe: Recipe,
    module: nn.Module,
    batches: Batches,
    save: Save,
    load: Load,
    *,
    keep: Save = lambda folder: None,
    resume: bool,
    listen: Listen,
    prepare: Callable[[], None] = lambda: None,
    callbacks: Sequence[TrainerCallback] = (),
    dry_run: bool = False,
) -> Path:
    """Train from the start, or from the last checkpoint; returns the folder of the result.

    ``keep`` writes into each checkpoint on the way, not into the result, what a resume needs beside
    the model. ``prepare`` is called before the first step of a training that starts anew.
    callbacks: Trainer's, called before the log is written. Raises what ``check_output_folder`` raises,
    which a caller asks first, before anything that takes time.

    A ``dry_run`` tells what the training will take, as every training does, and ends there: nothing
    is written.

    ``module`` may be trained by several processes if it says ``many_processes = True``; see
    StepTrainer for what that asks of it. Only the first of them writes, prints and listens; all
    must see the output folder.
    """
    output = Path(recipe.output)
    check_share(recipe, module)
    batches.collate = Shares(batches.collate, recipe.accumulation)
    with contextlib.ExitStack() as stack:
        stack.enter_context(quiet())
        if not dry_run:
            processes.only_main(lambda: _open_output(stack, recipe, resume=resume))
        checkpoint = agreed_checkpoint(output) if resume else None
        batches.skip = steps_done(checkpoint) if checkpoint else 0
        # Trainer makes its folder at once, which a dry run must not.
        folder = tempfile.gettempdir() if dry_run else recipe.output
        trainer = StepTrainer(recipe, module, batches, save, load, keep, folder)
        plan_entry: dict[str, float] = {}
        if batches.skip < recipe.steps:
            first = trainer.look_ahead()
            trainer.plan = plan_training(
                recipe, module, first, batches.collate, bf16=trainer.args.bf16
            )
            plan_entry = {"step": batches.skip, **trainer.plan.entry(recipe.steps - batches.skip)}
            listen(plan_entry)
            refuse_what_cannot_fit(recipe, trainer.plan)
        if dry_run:
            return output
        if processes.is_main():
            with writing(output):
                write_json(output / "recipe.json", asdict(recipe))
                # What was found before the first step is found again where no step is kept.
                keep_until(output, batches.skip if checkpoint else -1)
                if plan_entry:
                    append(output, plan_entry)
            for callback in (*callbacks, LogCallback(output, listen)):
                trainer.add_callback(callback)
        if checkpoint is None:
            prepare()
            processes.same_weights(module)
            trainer.speed.begin(0)
            trainer.train()
        else:
            listen({"step": batches.skip, "resumed": 1.0})
            check_pickles(checkpoint)
            if batches.skip < recipe.steps:
                trainer.speed.begin(batches.skip)
                trainer.train(resume_from_checkpoint=str(checkpoint))
            else:  # Trainer would make one more step before it looks at their number
                trainer._load_from_checkpoint(str(checkpoint))
        trainer.check_finite()
        with writing(output / "final"):
            processes.only_main(lambda: save(output / "final"))
    return output / "final"


def _open_output(stack: contextlib.ExitStack, recipe: Recipe, *, resume: bool) -> None:
    """Hold the output folder alone until the stack is left, and clear what lies about in it."""
    output = make_folder(Path(recipe.output))
    stack.enter_context(exclusive(output))
    check_output_folder(recipe, resume=resume)
    remove_leftovers(output)


def check_output_folder(recipe: Recipe, *, resume: bool) -> None:
    """Raise InputError if the output holds a training already and ``resume`` was not asked for.

    Meets the training's other processes first, of which only the main one looks: it may have begun
    to write there before another asks.
    """
    processes.join()
    output = Path(recipe.output)
    if not processes.is_main() or resume or not output.is_dir():
        return
    if any(output.iterdir()):
        raise InputError(
            f"{output}: holds a training; go on with --resume (resume=True), or remove it"
        )


def check_lengths(lm: Any, recipe: Recipe, *names: str) -> None:
    """Raise InputError for texts longer than the backbone has positions for."""
    room = backbones.positions(lm)
    for name in names:
        if getattr(recipe, name) > room:
            raise InputError(
                f"{name} is {getattr(recipe, name)}; {recipe.model} has positions for {room} tokens"
            )
