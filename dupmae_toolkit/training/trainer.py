"""transformers' Trainer, with our batches, checkpoints, per-step randomness and logs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback
from transformers import TrainingArguments as Arguments

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import write_json
from dupmae_toolkit.model.encoder import has_bf16
from dupmae_toolkit.training.recipe import Recipe, recipe_as_dict
from dupmae_toolkit.training.streams import Batches

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
            save_total_limit=2,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
            dataloader_num_workers=0,
            ignore_data_skip=True,
        )
        super().__init__(model=module, args=arguments, train_dataset=batches)
        self.remove_callback(PrinterCallback)
        self.remove_callback(ProgressCallback)

    def get_train_dataloader(self) -> DataLoader:
        return DataLoader(self.batches, batch_size=None, num_workers=0)

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
            raise DupMAEError(
                f"the loss is {loss.item()} at step {step}; the last checkpoint in "
                f"{self.recipe.output} is good: lower learning_rate, or look at the data"
            )
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(float(value))
        return loss

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        means = {name: sum(values) / len(values) for name, values in self._parts.items()}
        self._parts.clear()
        logs.pop("epoch", None)
        super().log({**logs, **means}, start_time)

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        self._save_module(Path(output_dir or self.recipe.output))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self._load_module(Path(resume_from_checkpoint))


class LogCallback(TrainerCallback):
    """Writes each log entry as a line of ``log.jsonl`` and hands it to a listener."""

    def __init__(self, path: Path, listen: Callable[[dict[str, float]], None]) -> None:
        self.path = path
        self.listen = listen

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        entry = {"step": state.global_step, **(logs or {})}
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")
        self.listen(entry)


def last_checkpoint(folder: Path) -> Path | None:
    """The newest whole checkpoint of a training; a half-written one has no trainer_state.json."""
    found = []
    for path in folder.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and (path / "trainer_state.json").is_file():
            found.append((int(match[1]), path))
    return max(found)[1] if found else None


def run(
    recipe: Recipe,
    module: nn.Module,
    batches: Batches,
    save: Save,
    load: Load,
    *,
    resume: bool,
    listen: Callable[[dict[str, float]], None],
    prepare: Callable[[], None] = lambda: None,
) -> Path:
    """Train from the start, or from the last checkpoint; returns the folder of the result.

    ``prepare`` is called before the first step of a training that starts anew.
    Raises InputError if the output holds a training already and ``resume`` was not asked for.
    """
    output = Path(recipe.output)
    checkpoint = last_checkpoint(output)
    if not resume and output.exists() and any(output.iterdir()):
        raise InputError(f"{output}: holds a training; go on with --resume, or remove it")
    output.mkdir(parents=True, exist_ok=True)
    write_json(output / "recipe.json", recipe_as_dict(recipe))
    trainer = StepTrainer(recipe, module, batches, save, load)
    trainer.add_callback(LogCallback(output / "log.jsonl", listen))
    if resume and checkpoint is not None:
        state = json.loads((checkpoint / "trainer_state.json").read_text("utf-8"))
        batches.skip = int(state["global_step"])
        listen({"step": batches.skip, "resumed": 1.0})
        trainer.train(resume_from_checkpoint=str(checkpoint))
    else:
        prepare()
        trainer.train()
    save(output / "final")
    return output / "final"
