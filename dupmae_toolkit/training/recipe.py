"""Training recipes: YAML files whose keys are the fields of these classes."""

from __future__ import annotations

import difflib
from dataclasses import MISSING, asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeVar

from dupmae_toolkit.errors import InputError


@dataclass(slots=True)
class Source:
    """One source of training texts.

    path: JSON lines (``title``, ``text``), a BEIR folder or zip; any corpus.
    kind: of fine-tuning pairs; ``title`` (title against text), ``sentence`` (a sentence against the
        rest of its own text, title included), ``beir`` (the judged pairs of ``split``).
        Pre-training takes title and text and does not look at it.
    weight: how often batches come from it, relative to the other sources.
    """

    path: str
    kind: str = "title"
    weight: float = 1.0
    split: str = "train"


@dataclass(slots=True)
class Recipe:
    """What both kinds of training share.

    model: a folder, a hub id, or ``builtin``. output: the checkpoint's folder.
    fresh_head: give a model without a masked-LM head a new one.
    encoder: fields of DupMAEConfig to set in the checkpoint.
    warmup: share of the steps in which the learning rate rises, before it falls linearly to 0.
    save_every, log_every: in steps; the last two checkpoints are kept.
    precision: auto (bf16 where the hardware has it), fp32 or bf16.
    """

    model: str
    output: str
    data: list[Source]
    steps: int
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    seed: int = 1
    fresh_head: bool = False
    encoder: dict[str, Any] = field(default_factory=dict)
    save_every: int = 100
    log_every: int = 10
    precision: str = "auto"


@dataclass(slots=True)
class PretrainRecipe(Recipe):
    """Pre-training: losses on the encoder, the CLS decoder and the bag of words.

    preset: ``official`` or ``paper``. settings: fields of PreTrainingConfig that override it.
    max_length: tokens of a text.
    head_steps: so many steps come before, in which a fresh head alone learns the bag of words with
        ``head_learning_rate``; untaught it would pull a good backbone apart.
    """

    preset: str = "official"
    settings: dict[str, Any] = field(default_factory=dict)
    max_length: int = 128
    head_steps: int = 0
    head_learning_rate: float = 2e-3


@dataclass(slots=True)
class FinetuneRecipe(Recipe):
    """Fine-tuning on pairs.

    query_length, document_length: tokens.
    losses: name -> weight, of ``joint``, ``lexical``, ``dense`` (in-batch cross-entropy on that
        score), ``teacher_lexical``, ``teacher_dense`` (KL from the teacher's scores in the batch),
        ``teacher_vector`` (1 - cosine between the dense vector and the teacher's).
    dense_scale: what cosines are multiplied with before a softmax.
    teacher: folder or hub id of a dense model, mean pooling, frozen; empty for none.
    teacher_scale: what the teacher's cosines are multiplied with.
    flops_query, flops_document: weights of the FLOPS regulariser at the end of its ramp.
    flops_ramp: share of the steps over which they rise, quadratically.
    active_terms: before the first step the head's bias is shifted until a text has that many active
        terms, since the bag-of-words softmax does not see a constant; 0 leaves it.
    unigram_prior: the share of each term's log document frequency that is subtracted from the bias
        before the first step; see calibration.py.
    """

    query_length: int = 48
    document_length: int = 128
    losses: dict[str, float] = field(default_factory=lambda: {"joint": 1.0})
    dense_scale: float = 20.0
    teacher: str = ""
    teacher_scale: float = 20.0
    flops_query: float = 0.0
    flops_document: float = 0.0
    flops_ramp: float = 0.5
    active_terms: int = 0
    unigram_prior: float = 0.0


R = TypeVar("R", bound=Recipe)


def load_recipe(
    path: str | Path, kind: type[R], changes: dict[str, str] | None = None, data: str = ""
) -> R:
    """Read a recipe. ``{data}`` in its strings stands for ``data``; ``changes`` override keys.

    Raises InputError for a file that is no recipe, and for keys and values that do not fit.
    """
    import yaml

    path = Path(path)
    try:
        values = yaml.safe_load(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a recipe") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        raise InputError.at(path, None if line is None else line + 1, "not YAML") from error
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys to values")
    for key, text in (changes or {}).items():
        *parents, last = key.split(".")
        target = values
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise InputError(f"--set {key}: {parent} has no keys of its own")
        target[last] = yaml.safe_load(text)
    return _build(path, kind, _fill(values, data, path))


def _fill(value: Any, data: str, path: Path) -> Any:
    if isinstance(value, str) and "{data}" in value:
        if not data:
            raise InputError(f"{path}: uses {{data}}; give the folder with --data")
        return value.replace("{data}", data)
    if isinstance(value, dict):
        return {key: _fill(item, data, path) for key, item in value.items()}
    if isinstance(value, list):
        return [_fill(item, data, path) for item in value]
    return value


def _build(path: Path, kind: type[R], values: dict[str, Any]) -> R:
    known = {f.name: f for f in fields(kind)}
    _refuse_unknown(path, values, list(known))
    for name, entry in known.items():
        needed = entry.default is MISSING and entry.default_factory is MISSING
        if needed and values.get(name) in (None, "", []):
            raise InputError(f"{path}: the key {name!r} is missing")
    sources = values["data"]
    if not isinstance(sources, list):
        raise InputError(f"{path}: data is a list of sources, each with a path")
    values = dict(values)
    values["data"] = [_source(path, item) for item in sources]
    for name in values:
        values[name] = _typed(path, name, values[name], str(known[name].type))
    recipe = kind(**values)
    for name in ("steps", "batch_size", "save_every", "log_every"):
        if getattr(recipe, name) < 1:
            raise InputError(f"{path}: {name} must be at least 1")
    return recipe


def _source(path: Path, item: Any) -> Source:
    if isinstance(item, str):
        return Source(item)
    names = [f.name for f in fields(Source)]
    if not isinstance(item, dict) or "path" not in item:
        raise InputError(f"{path}: each source under data needs a path")
    _refuse_unknown(path, item, names)
    return Source(**item)


def _typed(path: Path, name: str, value: Any, wanted: str) -> Any:
    try:
        if wanted == "float":
            return float(value)
        if wanted == "int" and int(value) == value and not isinstance(value, bool):
            return int(value)
        if wanted == "str" and isinstance(value, str):
            return value
        if wanted == "bool" and isinstance(value, bool):
            return value
        if wanted.startswith("dict[str, float]"):
            return {str(key): float(item) for key, item in value.items()}
        if wanted.startswith(("dict", "list")):
            return value
    except (TypeError, ValueError, AttributeError):
        pass
    raise InputError(f"{path}: {name} is {value!r}; a value of type {wanted} is needed")


def _refuse_unknown(path: Path, values: dict[str, Any], known: list[str]) -> None:
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known are {', '.join(known)}"
            raise InputError(f"{path}: unknown key {key!r}{hint}")


def recipe_as_dict(recipe: Recipe) -> dict[str, Any]:
    """The whole recipe, defaults included, as it is written beside the checkpoint."""
    return asdict(recipe)
