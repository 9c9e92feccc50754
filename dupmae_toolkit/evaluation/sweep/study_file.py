"""Reads a study's YAML; every error is one line, with the file, the line and the key.

encoders: {builtin: builtin, mine: trained/final}
indexes:  {flat: Flat, small: {faiss: "PQ48", bm25: false}}
scores:   {dense: dense, hybrid: hybrid, heavy: "@80,1,1.5^0.5", rrf: {fusion: rrf}}
collections:
  scifact: {path: "{data}/scifact.zip", split: test}
baseline: builtin.flat.dense
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, TypeVar

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.candidates import parse_settings
from dupmae_toolkit.evaluation.measures import (
    DEFAULT_MEASURES,
    parse_measures,
    split_measures,
)
from dupmae_toolkit.evaluation.significance import check_means
from dupmae_toolkit.evaluation.sweep.study import (
    NO_CHOICE,
    Study,
    StudyCollection,
    StudyEncoder,
    StudyIndex,
    StudyScore,
)
from dupmae_toolkit.search.answers import MODES
from dupmae_toolkit.training.recipe_checks import at_least, refuse_unknown, typed
from dupmae_toolkit.training.recipe_files import fill, read_yaml_lines

#: Keys by which a file would ask for a choice.
_CHOOSING = ("choose", "chosen", "select", "best", "tune", "pick", "winner", "rule", "guards")
#: What a text stands for in place of a mapping, by kind of entry.
_SHORT = {StudyEncoder: "model", StudyIndex: "faiss", StudyCollection: "path"}
_AXES: Mapping[str, type] = {
    "encoders": StudyEncoder,
    "indexes": StudyIndex,
    "scores": StudyScore,
    "collections": StudyCollection,
}
_KEYS = (*_AXES, "baseline", "lucene_bm25", "measures", "k")

E = TypeVar("E", StudyEncoder, StudyIndex, StudyScore, StudyCollection)


def load_study(path: str | Path, data: str = "") -> Study:
    """Read a study. ``{data}`` in its strings stands for ``data``.

    Relative paths are relative to the current folder. Raises InputError for a file that is none.
    """
    return _Reader(Path(path), data).study()


class _Reader:
    """One file that is read."""

    def __init__(self, path: Path, data: str) -> None:
        self._path, self._data = path, data
        self._values, self._lines = read_yaml_lines(path, "study")

    @contextlib.contextmanager
    def _at(self, *keys: Any) -> Iterator[None]:
        """Give the place to an error: the line of the last of the keys that is in the file."""
        try:
            yield
        except RecursionError as error:
            raise InputError.at(self._path, None, "nested too deeply") from error
        except InputError as error:
            if error.path == str(self._path):
                raise
            names = tuple(map(str, keys))
            found = [n for n in range(len(names), 0, -1) if names[:n] in self._lines]
            line = self._lines[names[: found[0]]] if found else None
            place = f"{'.'.join(names)}: " if names else ""
            raise InputError.at(self._path, line, f"{place}{error}") from error

    def study(self) -> Study:
        values = self._values
        with self._at():
            if not isinstance(values, dict):
                raise InputError("a study is a mapping of keys to values")
        for key in values:
            with self._at(key):
                if key in _CHOOSING:
                    raise InputError(NO_CHOICE)
                refuse_unknown([key], _KEYS)
        given: dict[str, Any] = {
            name: self._entries(name, kind) for name, kind in _AXES.items() if name in values
        }
        with self._at():
            for name in ("encoders", "scores", "collections"):
                if name not in given:
                    raise InputError(f"the key {name!r} is missing")
        for name, wanted in (("baseline", "str"), ("lucene_bm25", "bool"), ("k", "int")):
            if name in values:
                with self._at(name):
                    given[name] = typed(name, values[name], wanted)
        with self._at("measures"):
            given["measures"] = _measures(values.get("measures", list(DEFAULT_MEASURES)))
        sha256 = hashlib.sha256(self._path.read_bytes()).hexdigest()
        study = Study(**given, path=str(self._path), sha256=sha256)
        with self._at("k"):
            at_least(study, 1, "k")
        for score in study.scores:
            for axis in ("encoders", "indexes"):
                with self._at("scores", score.name, axis):
                    known = [each.name for each in getattr(study, axis)]
                    refuse_unknown(getattr(score, axis), known, f"name in {axis}")
        return study

    def _entries(self, axis: str, kind: type[E]) -> tuple[E, ...]:
        entries = self._values[axis]
        with self._at(axis):
            if not isinstance(entries, dict) or not entries:
                raise InputError("give a mapping of names to entries")
        made: list[E] = []
        for name, item in entries.items():
            with self._at(axis, name):
                made.append(self._entry(axis, kind, name, item))
                if name.casefold() in {each.name.casefold() for each in made[:-1]}:
                    raise InputError("two names differ in their case alone, as files may not")
        return tuple(made)

    def _entry(self, axis: str, kind: type[E], name: Any, item: Any) -> E:
        if isinstance(item, str):
            item = _score_of(item) if kind is StudyScore else {_SHORT[kind]: item}
        if item is None:
            item = {}
        if not isinstance(item, dict):
            raise InputError(f"{item!r} is neither a text nor a mapping of keys to values")
        known = {each.name: each for each in fields(kind) if each.name != "name"}
        values: dict[str, Any] = {}
        for key, value in item.items():
            with self._at(axis, name, key):
                if key in _CHOOSING:
                    raise InputError(NO_CHOICE)
                refuse_unknown([key], known)
                values[key] = _checked(key, fill(value, self._data), str(known[key].type))
        for key, entry in known.items():
            if entry.default is MISSING and key not in values:
                raise InputError(f"the key {key!r} is missing")
        return kind(name=name, **values)


def _measures(value: Any) -> tuple[str, ...]:
    names = split_measures(value) if isinstance(value, str) else value
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{value!r} is no list of measures, such as [nDCG@10, R@100]")
    found = tuple(map(str, parse_measures(names)))
    check_means(found)
    return found


def _score_of(text: str) -> dict[str, Any]:
    """A score as `dupmae choose` writes it, without the model, or by its mode alone."""
    if text in MODES:
        return {"mode": text}
    found = parse_settings(f"score{text}") if text.startswith(("@", "^")) else None
    if found is None or found.model != "score":
        raise InputError(f"{text!r}: write a mode ({', '.join(MODES)}), or @70,1.5,1.5^0.5")
    settings = {"plain": found.plain, "weights": list(found.weights or ())}
    return settings | ({} if found.idf_power is None else {"idf_power": found.idf_power})


def _checked(key: str, value: Any, wanted: str) -> Any:
    if wanted.startswith("tuple"):
        if not isinstance(value, list):
            raise InputError(f"{key} is {value!r}; a list is needed")
        return tuple(typed(key, each, "float" if "float" in wanted else "str") for each in value)
    return typed(key, value, wanted.removesuffix(" | None"))
