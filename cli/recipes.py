"""`dupmae recipes`: the training recipes that come with the package."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption

if TYPE_CHECKING:
    from dupmae_toolkit.training.recipe_names import NamedRecipe


def complete_recipe(incomplete: str) -> list[str]:
    """The names that a shell offers for what is typed so far."""
    from dupmae_toolkit.training.recipe_names import recipe_names

    return [name for name in recipe_names() if name.startswith(incomplete)]


NameArgument = Annotated[
    str | None,
    typer.Argument(metavar="[NAME]", help="The recipe to print.", autocompletion=complete_recipe),
]


def recipes(name: NameArgument = None, json: JsonOption = False) -> None:
    """List the training recipes, or print one of them to change.

    Without a NAME, prints a line for each recipe: its name, the command that it is for, and what
    it trains. With a NAME, prints that recipe unchanged. `dupmae pretrain` and `dupmae finetune`
    take a name or the path of your own file. Relative paths in a recipe start at the folder in
    which you start the training.

    [bold]Examples:[/bold]

      dupmae recipes

      dupmae recipes pretrain-beir > my.yaml

      dupmae pretrain my.yaml --data texts.jsonl
    """
    from dupmae_toolkit.training.recipe_names import named_recipes, recipe_named

    if name is not None:
        found = recipe_named(name)
        if json:
            console.print_json(_described(found) | {"text": found.text.decode("utf-8")})
        else:
            _print_bytes(found.text)
        return
    known = named_recipes()
    if json:
        console.print_json({"recipes": [_described(one) for one in known]})
        return
    name_width = max(len(one.name) for one in known)
    command_width = max(len(one.command) for one in known)
    for one in known:
        print(f"{one.name:<{name_width}}  {one.command:<{command_width}}  {one.about}")


def _described(recipe: NamedRecipe) -> dict[str, str]:
    return {"name": recipe.name, "command": recipe.command, "about": recipe.about}


def _print_bytes(content: bytes) -> None:
    """Print bytes that no encoding or line end of the stream may change."""
    stream = getattr(sys.stdout, "buffer", None)
    if stream is None:  # some notebooks have a stdout of text only
        print(content.decode("utf-8"), end="")
    else:
        sys.stdout.flush()
        stream.write(content)
