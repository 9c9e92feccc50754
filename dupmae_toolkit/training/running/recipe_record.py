"""Which recipe each step of a training ran by.

``recipe.json`` holds the recipe of the steps to come. If a training goes on with another one,
``recipe-changes.json`` lists what changed and after which step:
``{"changes": [{"step": 8, "changed": {"seed": {"before": 1, "after": 7}}}], "recipe": {…}}``, with
the recipe after the last of them.
"""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

from dupmae_toolkit.files import write_json

RECIPE, CHANGES = "recipe.json", "recipe-changes.json"
#: What a training may be moved to without a difference to it.
_NO_CHANGE = ("output",)
_LONGEST = 40  # characters of a value in a message


def keep_recipe(folder: Path, recipe: dict[str, Any], step: int | None) -> list[str]:
    """Write the recipe, and what it changes, into a training's folder; what is to be told of it.

    step: how many steps were done by the recipes before; None: the training begins. Later steps are
    run again, so changes that were made for them are forgotten.
    """
    recipe = json.loads(json.dumps(recipe))
    if step is None:
        (folder / CHANGES).unlink(missing_ok=True)
        write_json(folder / RECIPE, recipe)
        return []
    # The record is one file, so that a kill leaves it whole; recipe.json repeats a part of it.
    told = []
    record: Any = {"changes": [], "recipe": _read(folder / RECIPE)}
    if (folder / CHANGES).exists():
        record = _read(folder / CHANGES)
        if not _is_record(record):
            damaged = folder / f"{CHANGES}.damaged"
            (folder / CHANGES).rename(damaged)
            told.append(f"{damaged}: which recipes the first {step:,} steps ran by is not readable")
            record = {"changes": [], "recipe": _read(folder / RECIPE)}
    changes, before = record["changes"], record["recipe"]
    if not isinstance(before, dict):
        write_json(folder / RECIPE, recipe)
        fault = f"{folder / RECIPE}: the recipe of the first {step:,} steps is not readable"
        return [*told, fault]
    kept = [change for change in changes if change["step"] < step]
    for change in reversed(changes[len(kept) :]):
        before |= {name: values["before"] for name, values in change["changed"].items()}
    # A field that the recipe did not have is one of a later version, with its default.
    names = [name for name in recipe if name in before and name not in _NO_CHANGE]
    changed = {
        name: {"before": before[name], "after": recipe[name]}
        for name in names
        if _forgiving(before[name], recipe[name]) != recipe[name]
    }
    if changed:
        kept.append({"step": step, "changed": changed})
    if changes or kept:
        write_json(folder / CHANGES, {"changes": kept, "recipe": recipe})
    write_json(folder / RECIPE, recipe)
    if changed:
        each = ", ".join(
            f"{name} {_shown(values['before'])} → {_shown(values['after'])}"
            for name, values in changed.items()
        )
        told.append(
            f"the recipe changes after step {step:,}: {each}; recorded in {folder / CHANGES}"
        )
    return told


def _forgiving(before: Any, after: Any) -> Any:
    """``before`` with the keys of its items that only ``after`` has, if these are empty there.

    Such a key of a source or a teacher is one of a later version, with its default.
    """
    if not (isinstance(before, list) and isinstance(after, list)):
        return before
    pairs = itertools.zip_longest(before, after)
    return [
        {key: value for key, value in new.items() if not value and key not in old} | old
        if isinstance(old, dict) and isinstance(new, dict)
        else old
        for old, new in pairs
    ][: len(before)]


def _is_record(value: Any) -> bool:
    """Whether a value is what ``keep_recipe`` writes into ``CHANGES``."""
    if not (isinstance(value, dict) and isinstance(value.get("recipe"), dict)):
        return False
    changes = value.get("changes")
    return isinstance(changes, list) and all(
        isinstance(change, dict)
        and isinstance(change.get("step"), int)
        and isinstance(change.get("changed"), dict)
        and all(isinstance(each, dict) and "before" in each for each in change["changed"].values())
        for change in changes
    )


def _read(path: Path) -> Any:
    """The content of a JSON file; None if there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …"
