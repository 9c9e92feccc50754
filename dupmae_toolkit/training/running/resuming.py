"""The checkpoints of a training: which are complete, and whether resuming from them is safe."""

from __future__ import annotations

import contextlib
import json
import pickle
import re
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.training.running import processes
from dupmae_toolkit.training.running.processes import StoppedElsewhereError

_STATE = "trainer_state.json"
_PICKLES = ("optimizer.pt", "scheduler.pt")


def whole_checkpoints(folder: Path) -> list[Path]:
    """The complete checkpoints of a training, oldest first."""
    found = []
    for path in folder.glob("checkpoint-*"):
        match = re.fullmatch(r"checkpoint-(\d+)", path.name)
        if match and _global_step(path) == int(match[1]):
            found.append((int(match[1]), path))
    return [path for _, path in sorted(found)]


def last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint of a training."""
    return next(iter(reversed(whole_checkpoints(folder))), None)


def agreed_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint that the main process sees; the same in every process."""
    last = last_checkpoint(folder) if processes.is_main() else None
    step = processes.from_main(steps_done(last) if last else -1)
    return folder / f"checkpoint-{step}" if step >= 0 else None


def steps_done(checkpoint: Path) -> int:
    """The number of steps done when a checkpoint was written."""
    return int(checkpoint.name.rpartition("-")[2])


@contextlib.contextmanager
def continuing(checkpoint: object) -> Iterator[None]:
    """Turn errors in reading a checkpoint into a one-line InputError."""
    try:
        yield
    except DupMAEError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        RuntimeError,
        EOFError,
        SafetensorError,
        pickle.UnpicklingError,
    ) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{checkpoint}: this training cannot go on from it ({reason}); if the recipe is the "
            "one that it began with, remove the folder and resume from the one before"
        ) from error


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn errors in writing into a one-line DupMAEError that says how to resume the training."""
    try:
        yield
    except StoppedElsewhereError:
        raise
    except (OSError, RuntimeError, SafetensorError, DupMAEError) as error:
        reason = " ".join(str(error).split())[:200]
        raise DupMAEError(
            f"{path}: cannot be written ({reason}); make room there and go on with --resume "
            "(resume=True)"
        ) from error


def check_pickles(checkpoint: Path) -> None:
    """Refuse optimizer states that contain anything but tensors and plain values.

    Trainer's optimizer.pt and scheduler.pt are pickles, which can run code if they are loaded
    without ``weights_only``, as some versions of Trainer do. Here no code runs, and tensors are
    only memory-mapped.
    """
    for name in _PICKLES:
        path = checkpoint / name
        with continuing(path):
            torch.load(path, map_location="cpu", weights_only=True, mmap=True)


def _global_step(checkpoint: Path) -> int | None:
    """The step in a checkpoint's state file, which is written last; None if that is unreadable."""
    try:
        return int(json.loads((checkpoint / _STATE).read_text("utf-8"))["global_step"])
    except (OSError, ValueError, LookupError, TypeError, OverflowError, RecursionError):
        return None
