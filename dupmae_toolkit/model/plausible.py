"""Checks a config.json before transformers builds a model from it.

A checkpoint may be hostile. transformers builds the model that config.json describes before it
reads the weights, so a few digits too many there use up all memory, or take hours.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json

_WIDTHS = ("hidden_size", "dim", "d_model", "n_embd")
#: Sizes of the other dimension of matrices that are as wide as a hidden state.
_ROWS = (
    *_WIDTHS,
    "vocab_size",
    "embedding_size",
    "intermediate_size",
    "hidden_dim",
    "max_position_embeddings",
    "n_positions",
    "type_vocab_size",
)
_LAYERS = ("num_hidden_layers", "n_layers", "num_layers", "n_layer")
#: Matrices up to this many entries are harmless; a wrong shape is reported with the weight's name.
_HARMLESS = 1 << 26
_LAYER_BYTES = 64  # a lower bound: even a layer's entries in a file's header take more
_SIZE = "model*.safetensors"


def check_config(folder: Path) -> None:
    """Raise InputError for a config.json that the folder's weights cannot belong to.

    That is one with sizes beyond the bytes of all weights, or one that names code to download. A
    file that is not a JSON object is ignored here; loading it fails later.
    """
    path = folder / "config.json"
    try:
        config = read_json(path)
    except InputError:
        return
    if not isinstance(config, dict):
        return
    for key, value in _inner(config):
        if key.endswith("_implementation") and re.search("[/:@]", str(value)):
            raise InputError(
                f"{path}: {key} is {value!r}: code from elsewhere is not run; remove the key"
            )
    stored = sum(file.stat().st_size for file in folder.glob(_SIZE))
    widths = [number for key in _WIDTHS if (number := _whole(config, key))]
    width = max(widths, default=1)
    for keys, room in (
        (_ROWS, max(_HARMLESS, 4 * stored) // width),
        (_LAYERS, 64 + stored // _LAYER_BYTES),
    ):
        for key in keys:
            number = _whole(config, key)
            if number is not None and number > room:
                raise InputError(
                    f"{path}: {key} is {number}, more than weights of {stored:,} bytes can have; "
                    "the weights belong to another config.json"
                )


def _inner(config: dict[str, Any]) -> list[tuple[str, Any]]:
    """The keys and values of a config and of the mappings directly inside it."""
    own = list(config.items())
    return own + [pair for _, value in own if isinstance(value, dict) for pair in value.items()]


def _whole(config: dict[str, Any], key: str) -> int | None:
    value = config.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
