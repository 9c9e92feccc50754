"""The recipes that come with the package: found by name, listed, and read without YAML.

Their files are the checkout's `recipes/`; `training/recipes` is a link to it, which a build of the
package turns into a folder of files.
"""

from __future__ import annotations

import difflib
import os
import re
from dataclasses import dataclass, fields
from pathlib import Path

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.training.recipe import PretrainRecipe, Recipe

_FOLDER = Path(__file__).with_name("recipes")
#: What ends the name of a recipe's file; names of recipes end in none of these.
_SUFFIXES = (".yaml", ".yml", ".json")
#: The maximum number of names that the message about an unknown name suggests.
_MOST_NEAR = 5


@dataclass(frozen=True, slots=True)
class NamedRecipe:
    """A recipe of the package.

    command: the training that it is for, ``pretrain`` or ``finetune``. about: the first sentence of
    the file's first comment, on one line, without its last stop. output: the folder that it trains
    into, relative to the current folder. text: the file's bytes.
    """

    name: str
    command: str
    about: str
    output: str
    text: bytes


def recipe_names() -> list[str]:
    """The names of the package's recipes, in alphabetical order."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def named_recipes() -> list[NamedRecipe]:
    """The package's recipes, in the order of their names; InputError if it came without them."""
    names = recipe_names()
    if not names:
        raise InputError(
            "this installation has no recipes; the repository's folder recipes/ has them"
        )
    return [_read(name) for name in names]


def recipe_named(name: str, fault: str = "no recipe has this name") -> NamedRecipe:
    """The package's recipe of a name; for others InputError with ``fault`` and near names."""
    names = recipe_names()
    if name in names:
        return _read(name)
    remedy = "`dupmae recipes` lists them"
    if not names:
        remedy = "this installation has no recipes: name a file"
    elif found := _near(name, names):
        remedy = f"did you mean {' or '.join(found)}? `dupmae recipes` lists all"
    raise InputError.at(name or "''", None, fault, remedy)


def by_name(given: str | Path) -> NamedRecipe | None:
    """The package's recipe that ``given`` names, or None if ``given`` is the path of a file.

    It is a path if it has a separator, ends in .yaml, .yml or .json, or is a file in the current
    folder. (A folder is no recipe: trainings may write into one that has a recipe's name.) Raises
    InputError for an unknown name, and for a missing file that is called like a recipe of the
    package.
    """
    text = os.fspath(given)
    # os.path returns False where Path may raise: for names that are too long or contain a NUL.
    exists, is_folder = os.path.exists(text), os.path.isdir(text)
    if not (os.path.dirname(text) or text.lower().endswith(_SUFFIXES)):
        if exists and not is_folder:
            return None
        found = "is a folder" if is_folder else "no such file"
        return recipe_named(text, f"{found}, and no recipe has this name")
    name = _stem(text)
    if not exists and name in recipe_names():
        raise InputError.at(
            text, None, "no such file", f"the recipe that comes with the package is called {name}"
        )
    return None


def check_start(recipe: Recipe) -> None:
    """Refuse a model that is not there and that another recipe of the package makes.

    The recipes of one chain read and write below the current folder, so this is what one sees who
    skipped a step, or began in another folder.
    """
    if os.path.exists(recipe.model):
        return
    for other in map(_read, recipe_names()):
        made = os.path.join(other.output, "final")
        if other.output and os.path.normpath(recipe.model) == os.path.normpath(made):
            raise InputError.at(
                recipe.model,
                None,
                f"no such folder in {os.getcwd()}",
                f"`dupmae {other.command} {other.name}`, run there, makes it; or name another "
                "start with --set model=FOLDER (changes=…)",
            )


def _read(name: str) -> NamedRecipe:
    """Read by line: the package's recipes have each key of the top level on a line of its own."""
    content = (_FOLDER / f"{name}.yaml").read_bytes()
    text = content.decode("utf-8", errors="replace")
    values = dict(re.findall(r"^(\w+):[ \t]*(.*)$", text, flags=re.MULTILINE))
    only_shared = set(values) <= {field.name for field in fields(PretrainRecipe)}
    return NamedRecipe(
        name=name,
        command="pretrain" if only_shared else "finetune",
        about=_first_sentence(text),
        output=values.get("output", ""),
        text=content,
    )


def _first_sentence(text: str) -> str:
    """The first sentence of the comment that a file begins with; commands in it are indented."""
    paragraph = []
    for line in text.splitlines():
        if not re.match(r"# \S", line):
            break
        paragraph.append(line[2:])
    return " ".join(paragraph).partition(". ")[0].rstrip(".:")


def _stem(text: str) -> str:
    """What a path would be called as a name: no folder, no suffix."""
    name = os.path.basename(text)
    stem, suffix = os.path.splitext(name)
    return stem if suffix.lower() in _SUFFIXES else name


def _near(name: str, names: list[str]) -> list[str]:
    """The names that are spelled like ``name``, then those that have all of its words."""
    wanted = _stem(name).lower()
    if wanted in names:
        return [wanted]
    words = [word for word in re.findall(r"[a-z0-9]+", wanted) if len(word) > 2]
    close = difflib.get_close_matches(wanted, names, _MOST_NEAR, 0.75)
    inside = [one for one in names if words and all(word in one for word in words)]
    return list(dict.fromkeys([*close, *inside]))[:_MOST_NEAR]
