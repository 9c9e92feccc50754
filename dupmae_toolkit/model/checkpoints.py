"""Reads checkpoints of masked language models and classifiers; each fault is reported in one line.

A checkpoint is an ordinary transformers folder with safetensors weights. Pickled weights (``.bin``)
can run code when they are read, so they are never opened.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.hub import quietly, why_not
from dupmae_toolkit.model.modules import MODULES, read_modules
from dupmae_toolkit.model.plausible import check_config

BUILTIN = Path(__file__).parent / "builtin"
#: Files to download: no code, no weights of other frameworks, and no pickles but BGE-M3's small
#: layer, which is read without unpickling it. Of the folders within,
#: only those of sentence-transformers' modules, such as 1_Pooling.
_WANTED = ["*.json", "*.txt", "*.model", "*.safetensors", "sparse_linear.pt"]
_SUBFOLDERS = ["[!0-9]*/*", "[0-9][!_]*/*"]
_WEIGHTS = ("model.safetensors", "model.safetensors.index.json")
_VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "*.model")
_LFS_POINTER = b"version https://git-lfs"


def load_masked_lm(source: str | Path, *, fresh_head: bool = False) -> tuple[Any, Any, bool]:
    """Load ``(lm, tokenizer, has_mlm_head)`` from a folder or a hub id.

    ``lm`` is the ``AutoModelForMaskedLM`` of the checkpoint in float32, in evaluation mode;
    ``tokenizer`` its ``AutoTokenizer``. Names with and without the architecture's prefix, the old
    ``gamma`` and ``beta`` of LayerNorm, poolers and extra buffers are all accepted.
    ``has_mlm_head`` is False if the checkpoint lacks any weight of the head (it was fine-tuned from
    ``AutoModel``): the encoder is then complete, but the head must not be used. With
    ``fresh_head=True`` a missing head is initialised for training, the same way each time, and
    counts as present.

    The network is used only for a hub id that is not on the machine. Raises a one-line InputError
    for a folder that is missing, partial, pickled, corrupt, or not a masked language model.
    """
    from transformers import AutoModelForMaskedLM

    folder = checkpoint_folder(source)
    check_files(folder)
    check_config(folder)
    lm, missing = _load_weights(
        folder,
        AutoModelForMaskedLM,
        "masked language model",
        "name a checkpoint of BERT's kind with whole safetensors weights",
    )
    tokenizer = _load_tokenizer(folder)
    _check_rows(folder, lm, tokenizer)
    prefix = f"{lm.base_model_prefix}."
    body = sorted(name for name in missing if name.startswith(prefix))
    if body:
        raise InputError(
            f"{folder}: {len(body)} of the encoder's weights are missing ({body[0]} is the first); "
            f"the checkpoint is partial or not of the type {lm.config.model_type!r} that its "
            "config.json states"
        )
    return lm, tokenizer, fresh_head or not missing


def load_text_model(folder: Path) -> tuple[Any, Any]:
    """``(model, tokenizer)`` of a folder: its AutoModel in float32, in evaluation mode.

    A pooler may be missing: nothing here uses one. Raises a one-line InputError for a folder that
    is missing, partial, pickled or corrupt, and for a model with a decoder.
    """
    from transformers import AutoModel

    check_files(folder)
    check_config(folder)
    if (folder / "adapter_config.json").exists():
        raise InputError(
            f"{folder}: an adapter to another model; merge it into that model (PEFT's "
            "merge_and_unload) and save the whole"
        )
    model, missing = _load_weights(
        folder, AutoModel, "text encoder", "name a checkpoint with whole safetensors weights"
    )
    if model.config.is_encoder_decoder:
        raise InputError(
            f"{folder}: a {model.config.model_type} with a decoder, which is not supported; name "
            "an encoder"
        )
    lacking = sorted(name for name in missing if "pooler." not in name)
    if lacking:
        raise InputError(
            f"{folder}: {len(lacking)} of the encoder's weights are missing ({lacking[0]} is the "
            f"first); the checkpoint is partial or not of the type {model.config.model_type!r} "
            "that its config.json states"
        )
    tokenizer = _load_tokenizer(folder)
    if not tokenizer.is_fast:
        raise InputError(f"{folder}: its tokenizer has no fast version; save one with it")
    _check_rows(folder, model, tokenizer)
    return model, tokenizer


def load_classifier(source: str | Path) -> tuple[Any, Any]:
    """``(model, tokenizer)`` of a folder or a hub id: an AutoModelForSequenceClassification.

    Cross-encoders are published as such. In float32 and evaluation mode. Raises a one-line
    InputError for a folder that is missing, partial, pickled or corrupt, and for a checkpoint
    without a classifier, whose scores would be random.
    """
    from transformers import AutoModelForSequenceClassification

    if str(source) == "builtin":
        raise InputError(f"{source} is an encoder; name a cross-encoder's folder or hub id")
    folder = checkpoint_folder(source)
    check_files(folder)
    check_config(folder)
    tokenizer = _load_tokenizer(folder)
    model, lacking = _load_weights(
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
    _check_rows(folder, model, tokenizer)
    return model, tokenizer


def _load_tokenizer(folder: Path) -> Any:
    """The fast tokenizer of a checkpoint folder; InputError if there is none."""
    from transformers import AutoTokenizer

    hint = "copy tokenizer.json and tokenizer_config.json of the base model beside the weights"
    # Without a vocabulary file, transformers makes up a tokenizer of special tokens only.
    if not _has_vocabulary(folder):
        raise InputError(f"{folder}: has no tokenizer; {hint}")
    try:
        with quiet():
            tokenizer = AutoTokenizer.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        raise InputError(
            f"{folder}: the tokenizer cannot be loaded ({first_line(error)}); {hint}"
        ) from error
    if set(tokenizer.get_vocab()) <= set(tokenizer.all_special_tokens):
        raise InputError(f"{folder}: the tokenizer has no vocabulary; {hint}")
    return tokenizer


def named_folder(source: str | Path) -> tuple[Path, str]:
    """The folder of a source (``builtin``, a folder or a hub id), and its name in manifests.

    A folder's name is its absolute path, so that an index can find its encoder again.
    """
    if str(source) == "builtin":
        if not (BUILTIN / "model.safetensors").exists():
            raise InputError("model 'builtin' is not part of this installation; name a folder")
        return BUILTIN, "builtin"
    folder = checkpoint_folder(source)
    path = Path(source).expanduser()
    return folder, str(path.resolve()) if path.is_dir() else str(source).rstrip(os.sep)


def checkpoint_folder(source: str | Path) -> Path:
    """The folder of a checkpoint: the given one, or that of a hub id in the hub's cache.

    The network is used only for what the cache does not hold.
    """
    path = Path(os.path.expanduser(source))
    # os.path returns False where Path may raise: for names that are too long or contain a NUL.
    if os.path.isdir(path):
        return path
    if os.path.exists(path):
        raise InputError(f"{path}: is a file; name the folder that holds the checkpoint")
    if not _is_hub_id(source):
        raise InputError(f"{path}: no such folder; name a checkpoint's folder or a hub id")
    return _hub_folder(str(source))


def _is_hub_id(source: str | Path) -> bool:
    from huggingface_hub.utils import HFValidationError, validate_repo_id

    if isinstance(source, Path):
        return False
    try:
        validate_repo_id(source)
    except HFValidationError:
        return False
    return True


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download

    options: dict[str, Any] = {"allow_patterns": _WANTED, "ignore_patterns": _SUBFOLDERS}
    with contextlib.suppress(Exception):
        cached = Path(snapshot_download(name, local_files_only=True, **options))
        if (cached / MODULES).is_file():
            text_model = read_modules(cached).folder
        else:
            text_model = cached
        check_files(text_model)
        if _has_vocabulary(text_model):
            return cached
    try:
        with quietly():
            return Path(snapshot_download(name, **options))
    except Exception as error:
        raise InputError(
            f"{name}: no such folder, not in the hub's cache on this machine, and not downloaded "
            f"({why_not(error)}); name a checkpoint's folder"
        ) from error


def check_files(folder: Path) -> None:
    """Refuse a folder that is clearly not a checkpoint, before transformers fails on it."""
    if not (folder / "config.json").is_file():
        raise InputError(
            f"{folder}: no config.json; a checkpoint is a folder with config.json, "
            "model.safetensors and a tokenizer"
        )
    weights = sorted(folder.glob("model*.safetensors"))
    if not any((folder / name).is_file() for name in _WEIGHTS):
        pickled = sorted(folder.glob("*.bin"))
        if pickled:
            raise InputError(
                f"{folder}: only pickled weights ({pickled[0].name}), which can run code and are "
                "never read; convert them to safetensors (save_pretrained with "
                "safe_serialization=True, on a machine where you trust them)"
            )
        raise InputError(f"{folder}: no model.safetensors; the checkpoint has no weights")
    for path in weights:
        with path.open("rb") as file:
            if file.read(len(_LFS_POINTER)) == _LFS_POINTER:
                raise InputError(f"{path}: a git-lfs pointer, not the weights; run: git lfs pull")


def _has_vocabulary(folder: Path) -> bool:
    return any(path for name in _VOCABULARIES for path in folder.glob(name))


def _load_weights(folder: Path, kind: Any, what: str, remedy: str) -> tuple[Any, set[str]]:
    """The model in float32, evaluation mode, and the names of the weights that the folder lacks.

    kind: one of transformers' Auto classes. Reads safetensors only, and runs no code of the
    checkpoint. Missing weights are drawn at random with a fixed seed. Raises a one-line InputError
    if the folder cannot be loaded as a ``what``, with the ``remedy``, and for wrong shapes.
    """
    import torch

    try:
        # Missing weights are drawn at random: the same ones each time.
        with quiet(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            model, loading = kind.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:
        raise InputError(
            f"{folder}: cannot be loaded as a {what} ({first_line(error)}); {remedy}"
        ) from error
    _check_shapes(folder, loading)
    return model.float().eval(), set(loading["missing_keys"])


def _check_rows(folder: Path, model: Any, tokenizer: Any) -> None:
    """Refuse a tokenizer with more tokens than the model has rows."""
    rows = model.get_input_embeddings().weight.shape[0]
    known = max(len(tokenizer), max(tokenizer.get_vocab().values()) + 1)
    if known > rows:
        raise InputError(
            f"{folder}: the tokenizer knows {known} tokens and the model only {rows}; "
            "use the tokenizer that the model was trained with"
        )


def _check_shapes(folder: Path, loading: dict[str, Any]) -> None:
    """Refuse weights of other shapes than the config's. loading: transformers' loading info."""
    for name, found, expected in loading["mismatched_keys"]:
        raise InputError(
            f"{folder}: {name} has the shape {tuple(found)} where config.json asks for "
            f"{tuple(expected)}; the weights belong to another config.json"
        )


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' progress bars and warnings: real faults are raised in one line."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()


def first_line(error: BaseException) -> str:
    """The first sentence of an error, at most 200 characters; its type if it has no message."""
    text = " ".join(str(error).split())
    text = text.split(". ")[0].rstrip(".:")
    return text[:200] or type(error).__name__
