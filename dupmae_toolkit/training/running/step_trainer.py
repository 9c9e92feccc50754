"""transformers' Trainer with this project's batches, checkpoints, per-step seeds and logs."""

from __future__ import annotations

import itertools
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer
from transformers import TrainingArguments as Arguments

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.files import replace_folder
from dupmae_toolkit.model.precision import takes_bf16
from dupmae_toolkit.training.data.streams import Batches
from dupmae_toolkit.training.recipe import Recipe
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.history import first_loss
from dupmae_toolkit.training.running.measuring import Speedometer, TrainingPlan
from dupmae_toolkit.training.running.preflight import memory_knobs
from dupmae_toolkit.training.running.resuming import (
    continuing,
    steps_done,
    whole_checkpoints,
    writing,
)

KEPT = 2  # checkpoints
#: A training has blown up if a loss is so many times the first one (or 1, if that is larger).
BLOWN_UP = 100

#: Saves the model, or other state of a training, into a folder.
Save = Callable[[Path], None]
#: Loads the model's weights from a folder that ``Save`` wrote.
Load = Callable[[Path], None]


class StepTrainer(Trainer):
    """Trains a module with forward(batch, step, steps) -> (loss, {part: float}).

    Each step seeds torch with the recipe's seed and the step's number, so dropout after a resume is
    the same as without an interruption.

    A batch may be computed in pieces: by several processes, and one after another in each
    (``accumulation``). The step's gradient is the mean of the pieces'. A module whose loss is a
    plain mean over texts, or whose negatives come from all processes, needs nothing more. If a part
    is a mean over other items, such as masked tokens, the module has ``counts(batch) -> {part:
    number of items}``, and its forward takes ``scales`` as a fourth argument: a factor for each
    part, so that the mean over the pieces is the mean over the whole batch even if pieces hold
    unequal numbers of items.
    """

    def __init__(
        self,
        recipe: Recipe,
        module: nn.Module,
        batches: Batches,
        save: Save,
        load: Load,
        keep: Save,
        folder: str,
    ) -> None:
        self.recipe = recipe
        self.module = module
        self.batches = batches
        self._save_module = save
        self._load_module = load
        self._keep = keep
        self.plan: TrainingPlan | None = None
        self.speed = Speedometer()
        self._parts: dict[str, list[float]] = {}
        self._scales: Iterator[dict[str, float]] = itertools.repeat({})
        self._seen: Iterator[dict[str, Any]] | None = None
        self._piece = 0
        self._fine = True
        # The first loss; of a training that goes on, the log's.
        self._first = first_loss(Path(recipe.output)) if batches.skip else None
        self._sound = batches.skip - 1  # the last step after which the weights gave a sound loss
        bf16 = takes_bf16(recipe.precision, "cuda" if torch.cuda.is_available() else "cpu")
        arguments = Arguments(
            output_dir=folder,
            max_steps=recipe.steps,
            per_device_train_batch_size=recipe.batch_size
            // (recipe.accumulation * processes.world_size()),
            gradient_accumulation_steps=recipe.accumulation,
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
            log_level="error",
            log_level_replica="error",
            remove_unused_columns=False,
            dataloader_num_workers=0,
            ignore_data_skip=True,
        )
        # With several devices Trainer would split each batch, and the negatives with it.
        arguments._n_gpu = min(1, arguments.n_gpu)
        super().__init__(model=module, args=arguments, train_dataset=batches)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)
        # Keep autocast, but not the wrapper that averages gradients after each backward pass: this
        # class averages them once a step.
        prepare = self.accelerator.prepare_model
        self.accelerator.prepare_model = lambda model, **options: prepare(
            model, **{**options, "evaluation_mode": True}
        )

    def look_ahead(self) -> list[dict[str, Any]]:
        """This process's pieces of the first batch, which the training will still use."""
        pieces = self._pieces()
        first = list(itertools.islice(pieces, self.recipe.accumulation))
        self._seen = itertools.chain(first, pieces)
        return first

    def _pieces(self) -> Iterator[dict[str, Any]]:
        for pieces in DataLoader(self.batches, batch_size=None, num_workers=0):
            yield from pieces

    def get_train_dataloader(self) -> Any:
        return _Endless(self._seen or self._pieces())

    def get_batch_samples(self, *arguments: Any, **options: Any) -> Any:
        samples, count = super().get_batch_samples(*arguments, **options)
        self.speed.count(samples)
        self._scales = iter(self._weigh(samples))
        self._piece = 0
        return samples, count

    def _weigh(self, pieces: list[dict[str, Any]]) -> list[dict[str, float]]:
        """The factors (``scales``) for each piece's parts; see the class."""
        counts_of: Any = getattr(self.module, "counts", None)
        number = len(pieces) * processes.world_size()
        if counts_of is None or number == 1:
            return [{} for _ in pieces]
        counts = [counts_of(piece) for piece in pieces]
        names = list(counts[0])
        totals = processes.summed(sum(count[name] for count in counts) for name in names)
        return [
            {
                name: number * count[name] / max(total, 1)
                for name, total in zip(names, totals, strict=True)
            }
            for count in counts
        ]

    def training_step(self, *arguments: Any, **options: Any) -> Tensor:
        try:
            loss = super().training_step(*arguments, **options)
        except torch.cuda.OutOfMemoryError as error:
            raise DupMAEError(
                f"the device has no memory left at step {self.state.global_step}; "
                f"{memory_knobs(self.recipe)}"
            ) from error
        if self.accelerator.sync_gradients:
            # All processes must stop together, or the others would wait for this one for ever.
            if processes.anywhere(not self._fine):
                raise self._diverged(
                    f"the loss is not finite, or has blown up, at step {self.state.global_step + 1}"
                )
            self._sound = self.state.global_step
            processes.average_gradients(self.module.parameters())
        return loss

    def compute_loss(  # type: ignore[override]
        self,
        model: nn.Module,
        inputs: dict[str, Any],
        return_outputs: bool = False,
        num_items_in_batch: Any = None,
    ) -> Tensor:
        step, scales = self.state.global_step, next(self._scales)
        piece = self._piece * processes.world_size() + processes.process_number()
        self._piece += 1
        # The piece's number is in the upper bits: no two pieces may draw the same dropout.
        torch.manual_seed((self.recipe.seed * 1_000_003 + step) ^ (piece << 53))
        if scales:
            loss, parts = model(inputs, step, self.recipe.steps, scales)
        else:
            loss, parts = model(inputs, step, self.recipe.steps)
        if fault := self._fault(loss.item()):
            if processes.world_size() == 1:
                raise self._diverged(f"{fault} at step {step + 1}")
            self._fine = False
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value) * scales.get(name, 1.0))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._parts.items()}
        self._parts.clear()
        totals = processes.summed(means.values())
        means = {n: t / processes.world_size() for n, t in zip(means, totals, strict=True)}
        if "loss" in logs:
            means |= self.speed.read(self.plan, self.state.global_step, self.recipe.steps)
        super().log({**logs, **means}, start_time)

    def store_flos(self) -> None:
        """Do nothing: Trainer's count supports only its own models, and syncs the processes."""

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Write the checkpoint as Trainer does, but atomically."""
        self.check_finite()
        with self.speed.paused():
            processes.only_main(lambda: self._write_checkpoint(model, trial))

    def _write_checkpoint(self, model: nn.Module, trial: Any) -> None:
        output = Path(self.recipe.output)
        name = f"checkpoint-{self.state.global_step}"
        try:
            with writing(output / name), replace_folder(output / name) as temporary:
                self.args.output_dir = str(temporary)
                super()._save_checkpoint(model, trial)
                for path in (temporary / name).iterdir():
                    path.rename(temporary / path.name)
                (temporary / name).rmdir()
        finally:
            self.args.output_dir = self.recipe.output
        for path in whole_checkpoints(output)[:-KEPT]:
            shutil.rmtree(path, ignore_errors=True)

    def check_finite(self) -> None:
        """Raise DupMAEError if a weight is NaN or infinite; such weights are not saved."""
        for name, weight in self.module.named_parameters():
            if not bool(torch.isfinite(weight).all()):
                raise self._diverged(f"{name} is not finite after step {self.state.global_step}")

    def _fault(self, loss: float) -> str:
        """What is wrong with a loss; "" if nothing is."""
        if not math.isfinite(loss):
            return f"the loss is {loss}"
        if self._first is None:
            self._first = loss
        if loss > BLOWN_UP * max(1.0, self._first):
            return f"the loss is {loss:.3g}, after {self._first:.3g} at first,"
        return ""

    def _diverged(self, what: str) -> DupMAEError:
        """The error of a training that cannot go on, with the way back.

        Only a checkpoint whose weights gave a sound loss afterwards is good: an update may ruin
        weights that are still finite, and they are then written before the next loss is known.
        """
        found = whole_checkpoints(Path(self.recipe.output))
        good = [path for path in found if steps_done(path) <= self._sound]
        ruined = " and ".join(path.name for path in found if path not in good)
        rest = f"remove {ruined}, which may be ruined, and " if ruined else ""
        if good:
            rest += f"go on from {good[-1]} with --resume (resume=True) and"
        else:
            rest += "begin again with"
        return DupMAEError(f"{what}; {rest} a lower learning_rate, or check the data")

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        folder = Path(output_dir or self.recipe.output)
        self._save_module(folder)
        self._keep(folder)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        with continuing(resume_from_checkpoint):
            self._load_module(Path(resume_from_checkpoint))

    def _load_rng_state(self, checkpoint: str | None) -> None:
        """Do nothing: every step seeds torch itself."""

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        """Load the optimizer's state, but with the recipe's current rate and weight decay."""
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


class _Endless:
    """A stand-in for Trainer's data loader: iterable, without a length."""

    def __init__(self, pieces: Iterator[dict[str, Any]]) -> None:
        self.pieces = pieces

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return self.pieces
