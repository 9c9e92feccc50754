"""Checks that recipes share; each raises InputError in one line.

`recipe_files.load_recipe` refuses unknown, missing and wrongly typed keys; each class's
``__post_init__`` in `recipe.py` checks the values.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable
from typing import Any

from dupmae_toolkit.errors import InputError


def typed(name: str, value: Any, wanted: str) -> Any:
    """``value`` converted to the annotation ``wanted``; YAML reads 1e-4 as a string."""
    try:
        if wanted == "float" and not isinstance(value, bool):
            return float(value)
        if wanted == "int" and int(value) == value and not isinstance(value, bool):
            return int(value)
        if wanted == "str" and isinstance(value, str):
            return value
        if wanted == "bool" and isinstance(value, bool):
            return value
        if wanted.startswith("dict") and all(isinstance(key, str) for key in value):
            floats = wanted.endswith("float]")
            return {k: typed(k, v, "float") if floats else v for k, v in value.items()}
        if wanted.startswith("list"):
            return value
    except (TypeError, ValueError, AttributeError, OverflowError):
        pass
    raise InputError(f"{name} is {value!r}; a value of type {wanted} is needed")


def refuse_unknown(given: Iterable[Any], known: Iterable[str], what: str = "key") -> None:
    """Refuse the first of ``given`` that is not known, and name the closest known one."""
    known = list(known)
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise InputError(f"unknown {what} {key!r}; {hint}")


def at_least(thing: Any, least: int, *names: str) -> None:
    """Refuse attributes that are below ``least``, infinite or NaN."""
    for name in names:
        if not least <= getattr(thing, name) < math.inf:
            raise InputError(f"{name} is {getattr(thing, name)}; at least {least} is needed")


def three_weights(name: str, value: Any) -> list[float]:
    """``value`` as three weights of dense, lexical and bm25, or as none: the empty list."""
    try:
        weights = [typed(name, weight, "float") for weight in value]
        good = isinstance(value, list) and len(weights) in (0, 3)
    except (InputError, TypeError):
        good, weights = False, []
    if not good or not all(0 <= weight < math.inf for weight in weights):
        raise InputError(
            f"{name} is {value!r}; give three numbers of 0 or more: dense, lexical, bm25"
        )
    if weights and not any(weights[:2]):
        raise InputError(
            f"{name} is {value!r}; without dense and lexical there is nothing to learn"
        )
    return weights


def fraction(thing: Any, name: str) -> None:
    """Refuse an attribute outside [0, 1]."""
    if not 0 <= getattr(thing, name) <= 1:
        raise InputError(f"{name} is {getattr(thing, name)}; give a share between 0 and 1")


def one_of(thing: Any, name: str, choices: tuple[str, ...]) -> None:
    """Refuse an attribute that is none of ``choices``."""
    if getattr(thing, name) not in choices:
        raise InputError(f"{name} is {getattr(thing, name)!r}; choose one of {list(choices)}")
