"""Which recipe each step of a training ran by.

``recipe.json`` holds the recipe of the steps to come. If a training goes on with another one,
``recipe-changes.json`` lists what changed and after which step:
``{"changes": [{"step": 8, "changed": {"seed": {"before": 1, "after": 7}}}], "recipe": {…}}``, with
the recipe after the last of them.
"""

from __future__ import annotations

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
    record = _read(folder / CHANGES) if (folder / CHANGES).exists() else {"changes": []}
    changes = record.get("changes") if isinstance(record, dict) else None
    before = record.get("recipe", _read(folder / RECIPE)) if isinstance(record, dict) else None
    if not isinstance(before, dict) or not isinstance(changes, list):
        (folder / CHANGES).unlink(missing_ok=True)
        write_json(folder / RECIPE, recipe)
        return [f"{folder}: what the recipe of the first {step:,} steps was cannot be read there"]
    kept = [change for change in changes if change["step"] < step]
    for change in reversed(changes[len(kept) :]):
        before |= {name: values["before"] for name, values in change["changed"].items()}
    names = [name for name in recipe if name not in _NO_CHANGE]
    changed = {
        name: {"before": before.get(name), "after": recipe[name]}
        for name in names
        if before.get(name) != recipe[name]
    }
    if changed:
        kept.append({"step": step, "changed": changed})
    if changes or kept:
        write_json(folder / CHANGES, {"changes": kept, "recipe": recipe})
    write_json(folder / RECIPE, recipe)
    if not changed:
        return []
    told = ", ".join(
        f"{name} {_shown(values['before'])} → {_shown(values['after'])}"
        for name, values in changed.items()
    )
    return [f"the recipe changes after step {step:,}: {told}; recorded in {folder / CHANGES}"]


def _read(path: Path) -> Any:
    """The content of a JSON file; None if there is none."""
    try:
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 2] + " …"
