"""Reads checkpoints of sequence classifiers, the form in which cross-encoders are published.

Each fault is reported in one line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.checkpoints import (
    check_files,
    check_rows,
    checkpoint_folder,
    load_tokenizer,
    load_weights,
)
from dupmae_toolkit.model.plausible import check_config


def load_classifier(source: str | Path) -> tuple[Any, Any]:
    """``(model, tokenizer)`` of a folder or a hub id: an AutoModelForSequenceClassification.

    In float32 and evaluation mode, from safetensors only, without code from the checkpoint. Raises
    a one-line InputError for a folder that is missing, partial, pickled or corrupt, and for a
    checkpoint without a classifier, whose scores would be random.
    """
    from transformers import AutoModelForSequenceClassification

    folder = checkpoint_folder(source)
    check_files(folder)
    check_config(folder)
    tokenizer = load_tokenizer(folder)
    model, lacking = load_weights(
        folder,
        AutoModelForSequenceClassification,
        "sequence classifier",
        "name a cross-encoder with whole safetensors weights",
    )
    if lacking:
        missing = sorted(lacking)
        raise InputError(
            f"{folder}: {missing[0]} is not among its weights ({len(missing)} are missing), so it "
            "is not a trained cross-encoder; name one"
        )
    check_rows(folder, model, tokenizer)
    return model, tokenizer
