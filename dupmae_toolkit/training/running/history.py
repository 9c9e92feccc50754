"""The log of a training: ``log.jsonl``, an entry every ``log_every`` steps."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from dupmae_toolkit.files import atomic_file
from dupmae_toolkit.training.running.resuming import writing

LOG = "log.jsonl"
#: Called with each entry of the log, and with events before the first step. Values are numbers;
#: ``warning`` is a sentence.
Listen = Callable[[dict[str, Any]], None]


class LogCallback(TrainerCallback):
    """Writes each log entry as a line of ``log.jsonl`` and hands it to a listener."""

    def __init__(self, folder: Path, listen: Listen) -> None:
        self.folder = folder
        self.listen = listen

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        entry = {"step": state.global_step, **(logs or {})}
        entry.pop("epoch", None)  # the streams have no end
        append(self.folder, entry)
        self.listen(entry)


def append(folder: Path, entry: dict[str, Any]) -> None:
    """Add an entry to a training's log; DupMAEError if it cannot be written."""
    line = json.dumps({key: _finite(value) for key, value in entry.items()}) + "\n"
    with writing(folder / LOG), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(line)


def history(folder: Path) -> list[dict[str, float]]:
    """The entries of a training's log; a last line that a killed process cut off is left out."""
    path = folder / LOG
    if not path.exists():
        return []
    entries = []
    for line in path.read_text("utf-8").splitlines():
        try:
            entries.append(json.loads(line))
        except ValueError:
            break
    return entries


def first_loss(folder: Path) -> float | None:
    """The first loss in a training's log."""
    found = (entry.get("loss") for entry in history(folder))
    return next((loss for loss in found if loss is not None), None)


def keep_until(folder: Path, step: int) -> None:
    """Drop the entries after ``step``: a training that resumes there writes them again."""
    if (folder / LOG).exists():
        kept = [entry for entry in history(folder) if entry["step"] <= step]
        with atomic_file(folder / LOG) as temporary:
            text = "".join(json.dumps(entry) + "\n" for entry in kept)
            temporary.write_text(text, encoding="utf-8")


def _finite(value: Any) -> Any:
    """JSON has no infinity and no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
