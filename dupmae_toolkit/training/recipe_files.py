"""Reads a recipe's YAML into its class; every error is one line.

Only the YAML that recipes need: small, each key once, and nothing that expands when it is read.
"""

from __future__ import annotations

from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe import PretrainRecipe, Recipe
from dupmae_toolkit.training.recipe_checks import refuse_unknown, typed
from dupmae_toolkit.training.recipe_names import NamedRecipe, by_name
from dupmae_toolkit.training.sources import DataSource, TeacherSource

#: Limits far above any real recipe, which has hundreds of bytes and tens of values.
MAX_BYTES = 1 << 20
MAX_VALUES = 100_000

R = TypeVar("R", bound=Recipe)


def load_recipe(
    path: str | Path, kind: type[R], changes: dict[str, str] | None = None, data: str = ""
) -> R:
    """Read a recipe. ``{data}`` in its strings stands for ``data``; ``changes`` override keys.

    path: a file, or the name of one of the package's recipes; `recipe_names.by_name` says which it
    is. Relative paths in a recipe are relative to the current folder in both cases.

    Raises InputError for a file that is not a recipe, and for unknown keys and wrong values.
    """
    named = by_name(path)
    if named is None:
        path = Path(path)
        values = read_yaml(path)
    else:
        _check_command(named, kind)
        path = named.name
        values = _load_yaml(named.text.decode("utf-8"), path, lines=True)
    if not isinstance(values, dict):
        raise InputError(f"{path}: a recipe is a mapping of keys to values")
    for key, text in (changes or {}).items():
        _set(values, key, text)
    try:
        return _build(kind, fill(values, data))
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply") from error
    except InputError as error:
        raise InputError(f"{path}: {error}") from error


def _check_command(named: NamedRecipe, kind: type[Recipe]) -> None:
    wanted = "pretrain" if issubclass(kind, PretrainRecipe) else "finetune"
    if named.command != wanted:
        raise InputError.at(
            named.name,
            None,
            f"this recipe is for `dupmae {named.command}`, not for `dupmae {wanted}`",
            "`dupmae recipes` says which recipe is for which",
        )


def _set(values: dict[str, Any], key: str, text: str) -> None:
    *parents, last = key.split(".")
    place: Any = values
    for parent in parents:
        if isinstance(place, list):
            place = place[_entry_number(key, parent, place)]
        else:
            place = place.setdefault(parent, {})
        if not isinstance(place, dict | list):
            raise InputError(f"--set {key} (changes=…): {parent} has no keys of its own")
    value = _load_yaml(text, f"--set {key}={text} (changes=…)")
    place[_entry_number(key, last, place) if isinstance(place, list) else last] = value


def _entry_number(key: str, name: str, entries: list[Any]) -> int:
    """The index into a list for one part of a key, which counts from 1 as messages do."""
    if name.isdecimal() and 1 <= int(name) <= len(entries):
        return int(name) - 1
    raise InputError(
        f"--set {key} (changes=…): a list of {len(entries)} has no entry {name!r}; count from 1"
    )


def fill(value: Any, data: str) -> Any:
    """The value of YAML with ``data`` for ``{data}`` in all its strings.

    Raises InputError if a string has ``{data}`` and ``data`` is empty.
    """
    if isinstance(value, str) and "{data}" in value:
        if not data:
            raise InputError("uses {data}; give the folder with --data (data=…)")
        return value.replace("{data}", data)
    if isinstance(value, dict):
        return {key: fill(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [fill(item, data) for item in value]
    return value


def _build(kind: type[R], values: dict[str, Any]) -> R:
    known = {f.name: f for f in fields(kind)}
    refuse_unknown(values, known)
    if values.get("epochs"):
        values = {"steps": 0, **values}
    for name, entry in known.items():
        needed = entry.default is MISSING and entry.default_factory is MISSING
        if needed and (values.get(name) is None or values[name] in ("", [])):
            raise InputError(f"the key {name!r} is missing")
    if not isinstance(values["data"], list):
        raise InputError("data is a list of sources, each with a path")
    values = dict(values)
    values["data"] = [_source(i, item) for i, item in enumerate(values["data"], start=1)]
    if "teachers" in values:
        if not isinstance(values["teachers"], list):
            raise InputError("teachers is a list, each with a kind")
        values["teachers"] = [
            _entry(TeacherSource, f"teacher {i}", item)
            for i, item in enumerate(values["teachers"], start=1)
        ]
    return kind(**_check_types(kind, values))


def _source(number: int, item: Any) -> DataSource:
    name = f"source {number} under data"
    if isinstance(item, str):
        item = {"path": item}
    if not isinstance(item, dict) or not item.get("path"):
        raise InputError(f"{name}: has no path")
    return _entry(DataSource, name, item)


E = TypeVar("E", DataSource, TeacherSource)


def _entry(kind: type[E], name: str, item: Any) -> E:
    try:
        if not isinstance(item, dict):
            raise InputError("is not a mapping of keys to values")
        refuse_unknown(item, [f.name for f in fields(kind)])
        return kind(**_check_types(kind, item))
    except InputError as error:
        raise InputError(f"{name}: {error}") from error


def _check_types(kind: type, values: dict[str, Any]) -> dict[str, Any]:
    types = {f.name: str(f.type) for f in fields(kind)}
    return {name: typed(name, value, types[name]) for name, value in values.items()}


def _load_yaml(text: str, source: str, *, lines: bool = False) -> Any:
    """The value of a YAML text. ``source`` names it in messages, with line numbers if ``lines``.

    Raises InputError for tags that would make Python objects, for a key that appears twice in a
    mapping, and for more than ``MAX_VALUES`` values after aliases are expanded.
    """
    if len(text) > MAX_BYTES:
        raise InputError(f"{source}: {len(text):,} characters are too many for a recipe")
    try:
        loader = _Loader(text)
        try:
            value = loader.get_single_data()
        finally:
            loader.dispose()
        _check_size(value)
    except yaml.YAMLError as error:
        line = _line(error) if lines else None
        raise InputError.at(source, line, f"not YAML ({_reason(error)})") from error
    except (ValueError, TypeError, RecursionError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{source}: {error}") from error
        raise InputError(f"{source}: not YAML ({_reason(error)})") from error
    return value


def read_yaml(path: Path, what: str = "recipe") -> Any:
    """The value of a small YAML file; see ``_load_yaml``. what: the kind of file, for messages."""
    return _load_yaml(_read_text(path, what), str(path), lines=True)


def read_yaml_lines(path: Path, what: str) -> tuple[Any, dict[tuple[str, ...], int]]:
    """What ``read_yaml`` gives, and the line of every key, by the keys that lead to it."""
    text = _read_text(path, what)
    value = _load_yaml(text, str(path), lines=True)
    found: dict[tuple[str, ...], int] = {}
    loader = _Loader(text)
    try:
        left: list[tuple[tuple[str, ...], Any]] = [((), loader.get_single_node())]
    finally:
        loader.dispose()
    seen = set()  # what an alias stands for is looked through where it is written, once
    while left:
        place, node = left.pop()
        if not isinstance(node, yaml.MappingNode) or id(node) in seen:
            continue
        seen.add(id(node))
        for key, item in node.value:
            if isinstance(key, yaml.ScalarNode):
                inner = (*place, key.value)
                found[inner] = key.start_mark.line + 1
                left.append((inner, item))
    return value, found


def _read_text(path: Path, what: str) -> str:
    try:
        with path.open("rb") as file:
            return file.read(MAX_BYTES + 1).decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a {what}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not YAML (not UTF-8: {error.reason})") from error


class _Loader(yaml.SafeLoader):
    """A SafeLoader that refuses a repeated key; SafeLoader itself keeps the last value."""

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value if isinstance(node, yaml.MappingNode) else ():
            if not isinstance(key, yaml.ScalarNode):
                continue
            fault = "appears twice" if key.value in seen else ""
            if key.tag.endswith(":merge"):  # nested merges expand while they are read
                fault = "merges mappings, which recipes do not allow: write the keys out"
            if fault:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:80]!r} {fault}", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _check_size(value: Any) -> None:
    """Refuse too many values, aliases expanded: a few lines of them can make billions."""
    left, found = [value], 0
    while left:
        one = left.pop()
        found += 1
        if found > MAX_VALUES:
            raise InputError(f"more than {MAX_VALUES:,} values, aliases expanded: no recipe")
        if isinstance(one, dict):
            left.extend(one.values())
        elif isinstance(one, list):
            left.extend(one)


def _line(error: BaseException) -> int | None:
    mark = getattr(error, "problem_mark", None)
    return None if mark is None else mark.line + 1


def _reason(error: BaseException) -> str:
    text = getattr(error, "problem", None) or getattr(error, "reason", None) or str(error)
    return " ".join(str(text).split())[:200]
