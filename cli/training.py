"""`dupmae pretrain` and `dupmae finetune`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from dupmae_cli.console import print_json, say

from dupmae_toolkit.errors import InputError

if TYPE_CHECKING:
    from dupmae_toolkit.training.recipe import Recipe

RECIPE = Annotated[Path, typer.Argument(help="A recipe in YAML; see the folder recipes/.")]
DATA = Annotated[
    str, typer.Option("--data", help="The folder that {data} in the recipe stands for.")
]
SET = Annotated[
    list[str] | None, typer.Option("--set", help="KEY=VALUE overrides a key; may be repeated.")
]
RESUME = Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint.")]
JSON = Annotated[bool, typer.Option("--json", help="Print the result as JSON on stdout.")]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command()(pretrain)
    app.command()(finetune)


def pretrain(
    recipe: RECIPE, data: DATA = "", set_: SET = None, resume: RESUME = False, json: JSON = False
) -> None:
    """Pre-train an encoder with both decoders on plain text.

    [bold]Examples:[/bold]

      dupmae pretrain recipes/builtin-pretrain.yaml --data ~/texts

      dupmae pretrain my.yaml --set steps=2000 --set learning_rate=5e-5 --resume
    """
    from dupmae_toolkit.training.recipe import PretrainRecipe, load_recipe

    loaded = load_recipe(recipe, PretrainRecipe, _changes(set_), data)
    # Only now, because it loads torch: what is wrong with the recipe is said at once.
    from dupmae_toolkit.evaluation.measures import mean_ndcg
    from dupmae_toolkit.training.pretrain import pretrain as work

    _report(work(loaded, resume=resume, listen=_tell(loaded), measure=mean_ndcg), json)


def finetune(
    recipe: RECIPE, data: DATA = "", set_: SET = None, resume: RESUME = False, json: JSON = False
) -> None:
    """Fine-tune an encoder on pairs of queries and documents.

    [bold]Examples:[/bold]

      dupmae finetune recipes/builtin-finetune.yaml --data ~/texts

      dupmae finetune my.yaml --set model=checkpoints/pretrained/final --resume
    """
    from dupmae_toolkit.training.recipe import FinetuneRecipe, load_recipe

    loaded = load_recipe(recipe, FinetuneRecipe, _changes(set_), data)
    # Only now, because it loads torch: what is wrong with the recipe is said at once.
    from dupmae_toolkit.evaluation.measures import mean_ndcg
    from dupmae_toolkit.training.finetune import finetune as work

    _report(work(loaded, resume=resume, listen=_tell(loaded), measure=mean_ndcg), json)


def _changes(given: list[str] | None) -> dict[str, str]:
    changes = {}
    for item in given or []:
        key, found, value = item.partition("=")
        if not found or not key:
            raise InputError(f"--set {item}: write it as KEY=VALUE")
        changes[key] = value
    return changes


def _tell(recipe: Recipe) -> Callable[[dict[str, Any]], None]:
    def listen(entry: dict[str, Any]) -> None:
        words = [_word(key, value) for key, value in entry.items() if key != "step"]
        say(f"step {entry['step']:.0f}/{recipe.steps}  {'  '.join(words)}")

    return listen


def _word(key: str, value: Any) -> str:
    return f"{key}: {value}" if isinstance(value, str) else f"{key} {value:.4g}"


def _report(folder: Path, json: bool) -> None:
    if json:
        print_json({"checkpoint": str(folder)})
    else:
        print(folder)
