"""Runs a training from recipe to result: output folder, preflight, resuming."""

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
from dupmae_toolkit.files import make_folder, remove_leftovers
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
from dupmae_toolkit.training.running.recipe_record import keep_recipe
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
    settle: Callable[[], None] = lambda: None,
    callbacks: Sequence[TrainerCallback] = (),
    dry_run: bool = False,
) -> Path:
    """Train from the start, or from the last checkpoint; returns the folder of the result.

    keep: writes what a resume needs besides the model into each intermediate checkpoint, not into
    the result. prepare: called before the first step of a training that is not resumed. settle:
    called in the main process before the result is written. callbacks: Trainer's, called before the
    log is written. Raises the errors of ``check_output_folder``, which callers should call first,
    before slow work.

    Every training reports its expected time and memory to ``listen``; a ``dry_run`` ends after that
    and writes nothing.

    Several processes may train ``module`` if it has ``many_processes = True``; see StepTrainer for
    the requirements. Only the main process writes, prints and listens; all must see the output
    folder.
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
        # Trainer creates its folder at once, which a dry run must not do.
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
                done = batches.skip if checkpoint else None
                for line in keep_recipe(output, asdict(recipe), done):
                    listen({"step": batches.skip, "warning": line})
                # Without a checkpoint, the entries of step 0 are dropped too: they come again.
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
            else:  # Trainer would do one more step before it checks their number
                trainer._load_from_checkpoint(str(checkpoint))
        trainer.check_finite()
        processes.only_main(settle)
        with writing(output / "final"):
            processes.only_main(lambda: save(output / "final"))
    return output / "final"


def _open_output(stack: contextlib.ExitStack, recipe: Recipe, *, resume: bool) -> None:
    """Lock the output folder until the stack is closed, and remove leftovers from it."""
    output = make_folder(Path(recipe.output))
    stack.enter_context(exclusive(output))
    check_output_folder(recipe, resume=resume)
    remove_leftovers(output)


def check_output_folder(recipe: Recipe, *, resume: bool) -> None:
    """Raise InputError if the output folder holds a training already and ``resume`` is false.

    Joins the other processes first. Only the main process checks, since it may have begun to write
    there before another process gets here.
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
