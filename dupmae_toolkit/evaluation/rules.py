"""The rule by which a candidate is chosen, in a YAML file that is written before any figure.

modes: [hybrid, dense]     # rankings to measure; the first decides
sets:
  scifact: {path: scifact.zip, split: train}
  health: {kind: pairs, path: questions.jsonl.xz, sample: 1000, seed: 15}
  demonstration: {kind: demonstration}
guards:
  - {set: demonstration, least: first}
tie: 0.001
"""

from __future__ import annotations

import hashlib
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import parse_measures
from dupmae_toolkit.search.answers import MODES
from dupmae_toolkit.training.recipe_checks import at_least, one_of, refuse_unknown, typed
from dupmae_toolkit.training.recipe_files import read_yaml

KINDS = ("beir", "pairs", "demonstration")
#: The name of the mean over all sets, where a set is named.
MEAN = "mean"
#: What a guard's bound may be: the figure of the first candidate.
FIRST = "first"
#: Fewer topics tell candidates apart by chance.
LEAST_TOPICS = 1000


@dataclass(frozen=True, slots=True)
class SetRule:
    """One development set.

    kind: ``beir`` (a folder or zip), ``pairs`` (JSON lines of title and text), or
    ``demonstration``, whose questions come with the package. path: below the folder of data. split:
    of a BEIR data set. development: its only split, though named a test, is for development.
    sample: how many topics to draw, by ``seed``; 0: all.
    """

    name: str
    kind: str = "beir"
    path: str = ""
    split: str = ""
    development: bool = False
    sample: int = 0
    seed: int = 1
    skip_invalid: bool = False

    def __post_init__(self) -> None:
        named = isinstance(self.name, str) and self.name.replace("-", "_").isidentifier()
        if not named or self.name == MEAN:
            raise InputError(
                f"set {self.name!r}: a name is a text of letters, digits, - and _ that begins with "
                f"no digit, and is not {MEAN!r}"
            )
        one_of(self, "kind", KINDS)
        at_least(self, 0, "sample")
        if (self.kind == "demonstration") == bool(self.path):
            raise InputError(
                f"set {self.name}: kind {self.kind} "
                + ("has no path" if self.path else "needs a path, below the folder of data")
            )
        if (self.kind == "beir") != bool(self.split):
            raise InputError(
                f"set {self.name}: kind {self.kind} "
                + ("has no split" if self.split else "needs a split")
            )
        for key in ("development", "skip_invalid"):
            if getattr(self, key) and self.kind != "beir":
                raise InputError(f"set {self.name}: {key} is for kind beir")
        if self.seed != 1 and not self.sample:
            raise InputError(f"set {self.name}: seed is for sample, which is not given")


@dataclass(frozen=True, slots=True)
class Guard:
    """A figure that a candidate must reach to be chosen.

    set: a set's name, or ``mean``. mode: by default the one that decides. least: a number, or
    ``first``: the first candidate's figure. slack: how far below it is still enough.
    """

    set: str
    least: float | str = FIRST
    mode: str = ""
    slack: float = 0.0

    def __post_init__(self) -> None:
        if self.least != FIRST:
            object.__setattr__(self, "least", typed("least", self.least, "float"))
            at_least(self, 0, "least")
        at_least(self, 0, "slack")

    def __str__(self) -> str:
        bound = f"that of the first candidate{f' − {self.slack:g}' if self.slack else ''}"
        if self.least != FIRST:
            bound = f"{float(self.least) - self.slack:g}"
        return f"{self.mode} on {self.set} at least {bound}"


@dataclass(frozen=True, slots=True)
class Rule:
    """How to choose; see the module's example.

    modes: the rankings to measure, of which the first decides. tie: the first candidate is chosen
    of those whose mean is at most so far below the best. least_topics: of all sets together.
    sha256: of the file, hexadecimal.
    """

    sets: tuple[SetRule, ...]
    modes: tuple[str, ...] = ("hybrid",)
    measure: str = "nDCG@10"
    guards: tuple[Guard, ...] = ()
    tie: float = 0.0
    least_topics: int = LEAST_TOPICS
    sha256: str = ""

    def __post_init__(self) -> None:
        if len(parse_measures([self.measure])) != 1:
            raise InputError(f"measure {self.measure!r} is several; name one")
        at_least(self, 0, "tie")
        at_least(self, 1, "least_topics")
        names = [each.name for each in self.sets]
        if not names:
            raise InputError("sets: names no development set")
        if not self.modes or len(set(self.modes)) < len(self.modes):
            raise InputError("modes: name at least one, each once")
        refuse_unknown(self.modes, MODES, "mode")
        for guard in self.guards:
            refuse_unknown([guard.set], [*names, MEAN], "set of a guard")
            refuse_unknown([guard.mode], self.modes, "mode of a guard")


def load_rule(path: str | Path) -> Rule:
    """Read a rule. Raises InputError for a file that is none, with the file's name."""
    path = Path(path)
    values = read_yaml(path, "rule")
    try:
        if not isinstance(values, dict):
            raise InputError("a rule is a mapping of keys to values")
        rule = _rule(values, hashlib.sha256(path.read_bytes()).hexdigest())
    except InputError as error:
        raise InputError.at(path, None, str(error)) from error
    return rule


def _rule(values: dict[str, Any], sha256: str) -> Rule:
    refuse_unknown(values, [f.name for f in fields(Rule) if f.name != "sha256"])
    modes = values.get("modes", ["hybrid"])
    sets, guards = values.get("sets"), values.get("guards", [])
    if not isinstance(modes, list) or not all(isinstance(mode, str) for mode in modes):
        raise InputError("modes is a list of modes")
    if not isinstance(sets, dict):
        raise InputError("sets is a mapping of names to development sets")
    if not isinstance(guards, list):
        raise InputError("guards is a list")
    simple = {
        name: typed(name, values[name], kind)
        for name, kind in (("measure", "str"), ("tie", "float"), ("least_topics", "int"))
        if name in values
    }
    return Rule(
        sets=tuple(_made(SetRule, f"set {name}", item, name=name) for name, item in sets.items()),
        modes=tuple(modes),
        guards=tuple(
            _made(Guard, f"guard {n}", {"mode": (modes or [""])[0]} | _mapping(item, f"guard {n}"))
            for n, item in enumerate(guards, 1)
        ),
        sha256=sha256,
        **simple,
    )


def _mapping(item: Any, what: str) -> dict[str, Any]:
    if not isinstance(item, dict):
        raise InputError(f"{what} is not a mapping of keys to values")
    return item


def _made(kind: Any, what: str, item: Any, **given: Any) -> Any:
    """An object of the dataclass ``kind`` from a YAML mapping, with types checked."""
    values = _mapping(item, what)
    known = {f.name: f for f in fields(kind) if f.name not in given}
    try:
        refuse_unknown(values, known)
        for name, entry in known.items():
            if entry.default is MISSING and name not in values:
                raise InputError(f"the key {name!r} is missing")
        types = {name: str(known[name].type) for name in values}
        checked = {  # unions check themselves
            name: value if "|" in types[name] else typed(name, value, types[name])
            for name, value in values.items()
        }
        return kind(**given, **checked)
    except InputError as error:
        raise InputError(f"{what}: {error}") from error
