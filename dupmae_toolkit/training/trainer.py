"""transformers' Trainer, with our batches, checkpoints, per-step randomness and logs."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import make_folder, remove_leftovers, replace_folder, write_json
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.model import backbones
from dupmae_toolkit.model.checkpoints import quiet
from dupmae_toolkit.model.precision import has_bf16
from dupmae_toolkit.training.history import Listen, LogCallback, keep_until
from dupmae_toolkit.training.recipe import Recipe, recipe_as_dict
from dupmae_toolkit.training.resuming import (
    check_pickles,
    continuing,
    last_checkpoint,
    steps_done,
    whole_checkpoints,
)
from dupmae_toolkit.training.streams import Batches

KEPT = 2  # checkpoints

#: Saves the model into a folder.
Save = Callable[[Path], None]
#: Loads the model's weights from a folder that ``Save`` wrote.
Load = Callable[[Path], None]


class StepTrainer(Trainer):
    """Trains a module whose forward takes a batch and the share of steps done, and returns parts.

    forward(batch, step, steps) -> (loss, {name: float}). Each step seeds torch with the recipe's
    seed and the step's number, so dropout after a resume is what it would have been without.
    """

    def __init__(
        self, recipe: Recipe, module: nn.Module, batches: Batches, save: Save, load: Load
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.batches = batches
        self._save_module = save
        self._load_module = load
        self._parts: dict[str, list[float]] = {}
        bf16 = recipe.precision == "bf16" or (
            recipe.precision == "auto" and has_bf16("cuda" if torch.cuda.is_available() else "cpu")
        )
        arguments = Arguments(
            output_dir=recipe.output,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size,
            learning_rate=recipe.learning_rate,
            warmup_steps=round(recipe.warmup * recipe.steps),
            weight_decay=recipe.weight_decay,
            max_grad_norm=recipe.max_grad_norm,
            lr_scheduler_type="linear",
            seed=recipe.seed,
            bf16=bf16,
            use_cpu=not torch.cuda.is_available(),
            logging_steps=recipe.log_every,
            logging_nan_inf_filter=False,
            save_steps=recipe.save_every,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
            ignore_data_skip=True,
        )
        # More devices than one would each get a part of a batch, and its negatives with it.
        arguments._n_gpu = min(1, arguments.n_gpu)
        super().__init__(model=module, args=arguments, train_dataset=batches)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None, num_workers=0)

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        try:
            return super().training_step(*arguments, **options)
        except torch.cuda.OutOfMemoryError as error:
            raise DupMAEError(
                f"the device has no memory left at step {self.state.global_step}; lower batch_size "
                "or the lengths of the recipe"
            ) from error

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        step = self.state.global_step
        torch.manual_seed(self.recipe.seed * 1_000_003 + step)
        loss, parts = model(inputs, step, self.recipe.steps)
        if not torch.isfinite(loss):
            raise self._diverged(f"the loss is {loss.item()} at step {step}")
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._parts.items()}
        self._parts.clear()
        super().log({**logs, **means}, start_time)

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """The checkpoint as Trainer writes it, but whole or not at all."""
        output = Path(self.recipe.output)
        name = f"checkpoint-{self.state.global_step}"
        self.check_finite()
        try:
            with replace_folder(output / name) as temporary:
                self.args.output_dir = str(temporary)
                super()._save_checkpoint(model, trial)
                for path in (temporary / name).iterdir():
                    path.rename(temporary / path.name)
                (temporary / name).rmdir()
        except (OSError, RuntimeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise DupMAEError(f"{output / name}: cannot be written ({reason})") from error
        finally:
            self.args.output_dir = self.recipe.output
        for path in whole_checkpoints(output)[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)

    def check_finite(self) -> None:
        """Raise DupMAEError rather than save weights that are none."""
        for name, weight in self.module.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self._diverged(f"{name} is not finite after step {self.state.global_step}")

    def _diverged(self, what: str) -> DupMAEError:
        good = last_checkpoint(Path(self.recipe.output))
        rest = f"go on from {good} with --resume and" if good else "begin again with"
        return DupMAEError(f"{what}; {rest} a lower learning_rate, or look at the data")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self._save_module(Path(output_dir or self.recipe.output))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with continuing(resume_from_checkpoint):
            self._load_module(Path(resume_from_checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Nothing: every step seeds torch itself."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Take up the optimizer's state, but with the rates that the recipe says now."""
        decays = [group["weight_decay"] for group in self._groups()]
        with continuing(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)
        if checkpoint is None:
            return
        for group, decay in zip(self._groups(), decays, strict=True):
            group["weight_decay"] = decay
        scheduler: Any = self.lr_scheduler
        if self.recipe.learning_rate not in scheduler.base_lrs:
            scheduler.base_lrs = [self.recipe.learning_rate] * len(scheduler.base_lrs)
            for group, change in zip(self._groups(), scheduler.lr_lambdas, strict=True):
                group["initial_lr"] = self.recipe.learning_rate
                group["lr"] = self.recipe.learning_rate * change(scheduler.last_epoch)

    def _groups(self) -> list[dict[str, Any]]:
        return self.optimizer.param_groups if self.optimizer is not None else []


def run(
    recipe: Recipe,
    module: nn.Module,
    batches: Batches,
    save: Save,
    load: Load,
    *,
    resume: bool,
    listen: Listen,
    prepare: Callable[[], None] = lambda: None,
    callbacks: Sequence[TrainerCallback] = (),
) -> Path:
    """Train from the start, or from the last checkpoint; returns the folder of the result.

    ``prepare`` is called before the first step of a training that starts anew. ``check_output``
    says the same sooner, before anything that takes time. callbacks: Trainer's, called before the
    log is written.
    """
    output = make_folder(Path(recipe.output))
    with exclusive(output), quiet():
        check_output(recipe, resume=resume)
        remove_leftovers(output)
        checkpoint = last_checkpoint(output) if resume else None
        batches.skip = steps_done(checkpoint) if checkpoint else 0
        write_json(output / "recipe.json", recipe_as_dict(recipe))
        # What was found before the first step is found again where no step is kept.
        keep_until(output, batches.skip if checkpoint else -1)
        trainer = StepTrainer(recipe, module, batches, save, load)
        for callback in (*callbacks, LogCallback(output, listen)):
            trainer.add_callback(callback)
        if checkpoint is None:
            prepare()
            trainer.train()
        else:
            listen({"step": batches.skip, "resumed": 1.0})
            check_pickles(checkpoint)
            if batches.skip < recipe.steps:
                trainer.train(resume_from_checkpoint=str(checkpoint))
            else:  # Trainer would make one more step before it looks at their number
                trainer._load_from_checkpoint(str(checkpoint))
        trainer.check_finite()
        save(output / "final")
    return output / "final"


def check_output(recipe: Recipe, *, resume: bool) -> None:
    """Raise InputError if the output holds a training already and ``resume`` was not asked for."""
    output = Path(recipe.output)
    if not resume and output.is_dir() and any(output.iterdir()):
        raise InputError(f"{output}: holds a training; go on with --resume, or remove it")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("training runs in one process; start it without torchrun or accelerate")


def check_lengths(lm: Any, recipe: Recipe, *names: str) -> None:
    """Raise InputError for texts longer than the backbone has positions for."""
    room = backbones.positions(lm)
    for name in names:
        if getattr(recipe, name) > room:
            raise InputError(
                f"{name} is {getattr(recipe, name)}; {recipe.model} has positions for {room} tokens"
            )
