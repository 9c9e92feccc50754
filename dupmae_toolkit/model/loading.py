"""Encoders for inference: read without transformers where possible, with it otherwise."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.model.text_encoder import TextEncoder


def load_encoder(
    source: str | Path, *, device: str | None = None, precision: str = "auto", **changes: Any
) -> TextEncoder:
    """An encoder for inference only; it loads seconds faster than a DupMAEEncoder.

    Arguments, vectors and errors are those of ``DupMAEEncoder.from_pretrained``.
    """
    import torch

    from dupmae_toolkit.model.checkpoints import check_files, named_folder
    from dupmae_toolkit.model.lean.encoder import read_lean_encoder
    from dupmae_toolkit.model.plausible import check_config
    from dupmae_toolkit.model.precision import PRECISIONS

    on_cpu = device == "cpu" or (device is None and not torch.cuda.is_available())
    if on_cpu and precision in PRECISIONS:
        folder, name = named_folder(source)
        check_files(folder)
        check_config(folder)
        encoder = read_lean_encoder(folder, name, changes, precision)
        if encoder is not None:
            return encoder
    from dupmae_toolkit.model.encoder import DupMAEEncoder

    return DupMAEEncoder.from_pretrained(source, device=device, precision=precision, **changes)
