"""An encoder's weights: their hash, their stored form, and the separate file of the projection."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn

from dupmae_toolkit.errors import InputError

#: A checkpoint's file for weights that transformers' model does not have.
EXTRA_WEIGHTS = "dupmae.safetensors"
PROJECTION = "dense_projection.weight"


class NewWeightsWarning(UserWarning):
    """Weights that an encoder uses are new: random numbers until a training changes them."""


def warn_new(source: object, what: str) -> None:
    """Warn that ``what`` of the encoder of ``source`` is not among its weights."""
    warnings.warn(
        f"{source}: its {what} is new, drawn at random; its vectors mean nothing until it is "
        "trained",
        NewWeightsWarning,
        stacklevel=3,
    )


@contextmanager
def to_be_trained() -> Iterator[None]:
    """No NewWeightsWarning within: what is new is trained now."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NewWeightsWarning)
        yield


def hash_weights(weights: Mapping[str, Tensor]) -> str:
    """SHA-256 over names, shapes and float32 values of all weights; independent of storage."""
    digest = hashlib.sha256()
    for key, value in sorted(weights.items()):
        array = value.detach().float().contiguous().cpu()
        digest.update(f"{key}{tuple(array.shape)}".encode())
        digest.update(memoryview(array.view(-1).numpy()))  # type: ignore[arg-type]
    return digest.hexdigest()


def stored_weights(module: nn.Module, half: bool) -> dict[str, Tensor]:
    """The weights to store in a checkpoint: as they are or, if ``half``, in float16.

    Tied weights stay one tensor under several names, so that they are written once.
    """
    cast: dict[tuple[int, torch.Size], Tensor] = {}
    state = {}
    for key, value in module.state_dict().items():
        place = value.data_ptr(), value.shape
        if place not in cast:
            cast[place] = value.detach().to(torch.float16 if half else value.dtype)
        state[key] = cast[place]
    return state


def load_projection(projection: nn.Linear, path: Path) -> None:
    """Read the projection of [CLS]; InputError if the file is missing, damaged or does not fit."""
    from safetensors import SafetensorError

    try:
        projection.load_state_dict({"weight": read_projection(path)})
    except (SafetensorError, OSError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{path}: the projection of [CLS] cannot be loaded ({reason}); copy the whole "
            "checkpoint"
        ) from error


def read_projection(path: Path) -> Tensor:
    """The projection of [CLS], float32 [d, H]."""
    from safetensors.torch import load_file

    return load_file(path)[PROJECTION].float()


def save_projection(projection: nn.Linear, path: Path, half: bool) -> None:
    """Write the projection of [CLS] as safetensors."""
    from safetensors.torch import save_file

    weight = projection.weight.detach().contiguous()
    save_file({PROJECTION: weight.half() if half else weight}, path)
