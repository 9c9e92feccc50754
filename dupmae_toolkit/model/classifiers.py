"""Reading a sequence classifier's checkpoint, as cross-encoders are published, with one line each
for what can be wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.checkpoints import (
    check_files,
    check_shapes,
    checkpoint_folder,
    first_line,
    load_tokenizer,
    quiet,
)


def load_classifier(source: str | Path) -> tuple[Any, Any]:
    """``(model, tokenizer)`` of a folder or a hub id: an AutoModelForSequenceClassification.

    In float32 and evaluation mode, from safetensors only, without code from the checkpoint. Raises
    InputError, one line, for what is missing, partial, pickled or corrupt, and for a checkpoint
    without a classifier, whose scores would be random numbers.
    """
    import torch
    from transformers import AutoModelForSequenceClassification

    folder = checkpoint_folder(source)
    check_files(folder)
    tokenizer = load_tokenizer(folder)
    try:
        with quiet(), torch.random.fork_rng(devices=[]):
            model, loading = AutoModelForSequenceClassification.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise InputError(
            f"{folder}: cannot be loaded as a sequence classifier ({first_line(error)}); name a "
            "cross-encoder with whole safetensors weights"
        ) from error
    check_shapes(folder, loading)
    missing = sorted(loading["missing_keys"])
    if missing:
        raise InputError(
            f"{folder}: {missing[0]} is not among its weights ({len(missing)} are missing), so it "
            "is no trained cross-encoder; name one"
        )
    rows = model.get_input_embeddings().weight.shape[0]
    if len(tokenizer) > rows:
        raise InputError(
            f"{folder}: the tokenizer knows {len(tokenizer)} tokens and the model only {rows}; "
            "use the tokenizer that the model was trained with"
        )
    return model.float().eval(), tokenizer
