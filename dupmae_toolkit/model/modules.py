"""Reads a sentence-transformers folder: what its modules.json and the files beside it say.

Only files are read here: no weights, no code. Types are compared by name and never imported. A
module that is not known by name is refused, because leaving it out would give other vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json

#: The file of a sentence-transformers folder that lists its modules.
MODULES = "modules.json"
#: The files of BGE-M3's layer that gives tokens their weights; the first that is there is read.
SPARSE_FILES = ("sparse_linear.safetensors", "sparse_linear.pt")
#: sentence-transformers' names of poolings, by the keys of older folders, in the order in which
#: these are joined.
POOLINGS = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
ACTIVATIONS = ("Identity", "Tanh", "ReLU", "GELU", "SiLU", "Sigmoid")
#: SpladePooling's names: what it applies before a logarithm. Ours include the logarithm.
_SPLADE_ACTIVATIONS = {"relu": "log1p_relu", "log1p_relu": "log1p_log1p_relu"}
_SETTINGS = "sentence_bert_config.json"
#: Where older folders keep the same settings.
_OLDER_SETTINGS = "sentence_*_config.json"
_OVERALL = "config_sentence_transformers.json"
_QUERY_PROMPTS = ("query",)
_DOCUMENT_PROMPTS = ("document", "passage", "passages", "corpus")
_ENCODES = ("Transformer", "MLMTransformer")
_SIMILARITIES = {"cosine": True, "dot": False, "dot_product": False}


@dataclass(frozen=True, slots=True)
class Layer:
    """A Dense module: activation(W · x + b). folder: where its weights are."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str


@dataclass(frozen=True, slots=True)
class Modules:
    """A sentence-transformers folder.

    folder: of the text model. pooling: as in EncoderInfo. steps: after the pooling, each a Layer,
    or None for scaling to length one. normalize: whether vectors are scaled to length one at the
    end, by a module or because their similarity is the cosine. said: whether the similarity is
    stated; sentence-transformers takes the cosine where it is not. activation: of a SPLADE model's
    logits; "" for a model of dense vectors. lower: whether texts are lower-cased first.
    """

    root: Path
    folder: Path
    pooling: str = "none"
    include_prompt: bool = True
    steps: tuple[Layer | None, ...] = ()
    normalize: bool = False
    said: bool = True
    activation: str = ""
    lower: bool = False
    max_length: int | None = None
    query_max_length: int | None = None
    prefix: str = ""
    query_prefix: str = ""


def read_modules(root: Path) -> Modules:
    """What a folder with a modules.json says; InputError for what is unknown or not supported."""
    entries = _listed(root)
    (first, folder), *rest = entries
    if first not in _ENCODES:
        raise _refused(root, f"begins with the module {first}", "only text models are supported")
    settings = _settings(folder)
    overall = _mapping(root / _OVERALL)
    task = settings.get("transformer_task", "feature-extraction")
    values: dict[str, Any] = _lengths(folder, settings) | _prompts(root, overall)
    values["lower"] = settings.get("do_lower_case") is True
    kinds = [kind for kind, _ in rest]
    if first == "MLMTransformer" or task == "fill-mask":
        if kinds != ["SpladePooling"]:
            raise _refused(
                root,
                f"a masked LM followed by {', '.join(kinds) or 'nothing'}",
                "only SpladePooling is supported after one",
            )
        if overall.get("similarity_fn_name") not in (None, "dot", "dot_product"):
            raise _refused(
                root,
                f"its similarity is {overall['similarity_fn_name']!r}",
                "lexical vectors are compared by inner products; only dot is supported",
            )
        return Modules(root, folder, activation=_splade(rest[0][1]), **values)
    if task != "feature-extraction":
        raise _refused(root, f"its text model is used for {task!r}", "name an encoder")
    if not kinds or kinds[0] != "Pooling":
        raise _refused(
            root, f"no Pooling after {first}", "name an encoder of one dense vector for each text"
        )
    config = _mapping(rest[0][1] / "config.json", needed=True)
    values["pooling"] = _pooling(rest[0][1], config)
    values["include_prompt"] = config.get("include_prompt", True) is not False
    steps: list[Layer | None] = []
    for kind, place in rest[1:]:
        if kind == "Normalize":
            steps.append(None)
        elif kind == "Dense":
            steps.append(_layer(place))
        elif kind != "Dropout":  # does nothing outside training
            raise _refused(
                root,
                f"has the module {kind}, which is not known here",
                "leaving it out would give other vectors; Transformer, Pooling, Dense, Normalize, "
                "or a masked LM and SpladePooling are supported",
            )
    ends_normalized = bool(steps) and steps[-1] is None
    said = overall.get("similarity_fn_name")
    if said is not None and said not in list(_SIMILARITIES):
        raise _refused(
            root,
            f"its similarity is {said!r}",
            "an index ranks by inner products; only dot and cosine are supported",
        )
    cosine = True if said is None else _SIMILARITIES[said]
    return Modules(
        root,
        folder,
        steps=tuple(steps[:-1] if ends_normalized else steps),
        normalize=ends_normalized or cosine,
        said=ends_normalized or said is not None,
        **values,
    )


def _listed(root: Path) -> list[tuple[str, Path]]:
    """The kinds of the modules, by the last part of their types, and their folders."""
    path = root / MODULES
    entries = read_json(path)
    if not isinstance(entries, list) or not entries:
        raise InputError.at(path, None, "not a list of modules", "copy the whole folder again")
    found = []
    for entry in sorted(entries, key=lambda each: _index(path, each)):
        kind, name = entry.get("type"), entry.get("path", "")
        if not isinstance(kind, str) or not isinstance(name, str):
            raise InputError.at(path, None, f"{entry!r} names no type and path")
        if not kind.startswith("sentence_transformers."):
            raise InputError.at(
                path,
                None,
                f"the module {kind!r} is code of its own, which is not run",
                "name a model of sentence-transformers' own modules",
            )
        place = PurePosixPath(name)
        if place.is_absolute() or ".." in place.parts or "\\" in name or "\0" in name:
            raise InputError.at(path, None, f"{name!r} is not a folder within it")
        found.append((kind.rsplit(".", 1)[-1], root / place))
    return found


def _index(path: Path, entry: Any) -> int:
    index = entry.get("idx") if isinstance(entry, dict) else None
    if not isinstance(index, int):
        raise InputError.at(path, None, f"{entry!r} is no module with an idx")
    return index


def _settings(folder: Path) -> dict[str, Any]:
    """The settings of the text model; older folders have them under the name of its family."""
    path = folder / _SETTINGS
    older = sorted(folder.glob(_OLDER_SETTINGS))
    return _mapping(path if path.exists() or not older else older[0])


def _mapping(path: Path, needed: bool = False) -> dict[str, Any]:
    if not path.exists() and not needed:
        return {}
    if not path.exists():
        raise InputError.at(path, None, "no such file", "copy the whole folder again")
    values = read_json(path)
    if not isinstance(values, dict):
        raise InputError.at(path, None, "not a JSON object", "copy the whole folder again")
    return values


def _lengths(folder: Path, settings: Mapping[str, Any]) -> dict[str, int | None]:
    """Where texts are cut; None: at what the text model has positions for.

    Newer folders state it in tokenizer_config.json alone.
    """
    whole = settings.get("max_seq_length")
    if whole is None:
        whole = _mapping(folder / "tokenizer_config.json").get("model_max_length")
    if isinstance(whole, float) and whole.is_integer():
        whole = int(whole)
    found: dict[str, int | None] = {}
    for key, own in (("max_length", "document_length"), ("query_max_length", "query_length")):
        length = settings.get(own)
        length = whole if length is None else length
        if length is not None and (not isinstance(length, int) or length < 1):
            raise InputError(f"{folder}: texts are cut at {length!r} tokens; give a whole number")
        found[key] = length
    return found


def _prompts(root: Path, overall: Mapping[str, Any]) -> dict[str, Any]:
    """The prompts of queries and documents, as sentence-transformers chooses them."""
    prompts = overall.get("prompts") or {}
    if not isinstance(prompts, dict) or not all(isinstance(v, str) for v in prompts.values()):
        raise InputError.at(root / _OVERALL, None, "prompts is not a mapping of names to texts")
    default = overall.get("default_prompt_name")
    if default is not None and default not in list(prompts):
        raise InputError.at(
            root / _OVERALL, None, f"the default prompt {default!r} is not among its prompts"
        )

    def chosen(names: tuple[str, ...]) -> str:
        for name in names:
            if name in prompts:
                return prompts[name]
        return "" if default is None else prompts[default]

    return {"prefix": chosen(_DOCUMENT_PROMPTS), "query_prefix": chosen(_QUERY_PROMPTS)}


def _pooling(folder: Path, config: Mapping[str, Any]) -> str:
    modes = config.get("pooling_mode")
    if modes is None:
        modes = [name for key, name in POOLINGS.items() if config.get(key)] or ["mean"]
    modes = [modes] if isinstance(modes, str) else modes
    known = list(POOLINGS.values())
    if not isinstance(modes, list) or not modes or any(mode not in known for mode in modes):
        raise InputError.at(
            folder / "config.json",
            None,
            f"the pooling {modes!r} is not known here",
            f"{', '.join(known)} are supported",
        )
    return "+".join(modes)


def _layer(folder: Path) -> Layer:
    path = folder / "config.json"
    config = _mapping(path, needed=True)
    inputs, outputs = config.get("in_features"), config.get("out_features")
    if not isinstance(inputs, int) or not isinstance(outputs, int) or min(inputs, outputs) < 1:
        raise InputError.at(path, None, f"a Dense from {inputs!r} to {outputs!r} numbers")
    names = {config.get(f"module_{side}_name") for side in ("input", "output")}
    if config.get("use_residual") or not names <= {None, "sentence_embedding"}:
        raise InputError.at(path, None, "a Dense with a residual or with names is not supported")
    stated = str(config.get("activation_function", "torch.nn.modules.activation.Tanh"))
    name = stated.rsplit(".", 1)[-1]
    if not stated.startswith("torch.nn.modules.") or name not in ACTIVATIONS:
        raise InputError.at(
            path,
            None,
            f"the activation {stated!r} is not known here",
            f"torch's {', '.join(ACTIVATIONS)} are supported",
        )
    return Layer(folder, inputs, outputs, config.get("bias", True) is not False, name)


def _splade(folder: Path) -> str:
    path = folder / "config.json"
    config = _mapping(path, needed=True)
    strategy = config.get("pooling_strategy", "max")
    activation = config.get("activation_function", "relu")
    if strategy != "max" or activation not in list(_SPLADE_ACTIVATIONS):
        raise InputError.at(
            path,
            None,
            f"SpladePooling by {strategy!r} of {activation!r} is not supported",
            f"the maximum of one of {', '.join(_SPLADE_ACTIVATIONS)} is",
        )
    return _SPLADE_ACTIVATIONS[activation]


def _refused(root: Path, fault: str, remedy: str) -> InputError:
    return InputError.at(root / MODULES, None, fault, remedy)
