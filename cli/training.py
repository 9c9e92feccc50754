"""`dupmae pretrain` and `dupmae finetune`."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli.console import if_interrupted, print_json, say
from dupmae_cli.options import JsonOption
from dupmae_cli.recipes import complete_recipe
from dupmae_toolkit import __version__
from dupmae_toolkit.errors import InputError

if TYPE_CHECKING:
    from dupmae_toolkit.training.recipe import Recipe

RecipeArgument = Annotated[
    str,
    typer.Argument(
        metavar="RECIPE",
        help="A recipe: a YAML file, or a name that `dupmae recipes` lists.",
        autocompletion=complete_recipe,
    ),
]
DataOption = Annotated[
    str, typer.Option("--data", help="The file or folder that {data} in the recipe stands for.")
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="KEY=VALUE", help="Override a key of the recipe. Can be repeated."
    ),
]
ResumeOption = Annotated[bool, typer.Option("--resume", help="Continue from the last checkpoint.")]
DryRunOption = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Estimate the time and memory that the training needs, and stop."
    ),
]


def pretrain(
    recipe: RecipeArgument,
    data: DataOption = "",
    set_: SetOption = None,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Pre-train an encoder on plain text, with both decoders of DupMAE.

    The recipe names the model to start from, the texts, and the folder for the output. The trained
    encoder goes to `final` in that folder, and its path is printed: fine-tune it with
    `dupmae finetune`. log.jsonl and the last two checkpoints are kept beside it.

    If interrupted, run the same command with --resume. On several GPUs, torchrun or accelerate
    starts a process for each; the training is the same. docs/training.md explains every key of a
    recipe.

    [bold]Examples:[/bold]

      dupmae pretrain builtin-pretrain --data ~/texts

      dupmae pretrain my.yaml --set steps=2000 --set learning_rate=5e-5 --resume

      torchrun --nproc-per-node 8 --no-python dupmae pretrain my.yaml
    """
    from dupmae_toolkit.training.recipe import PretrainRecipe
    from dupmae_toolkit.training.recipe_files import load_recipe
    from dupmae_toolkit.training.recipe_names import check_start

    loaded = load_recipe(recipe, PretrainRecipe, _changes(set_), data)
    check_start(loaded)
    # Imported late, because it loads torch: errors in the recipe are reported first.
    from dupmae_toolkit.evaluation.measures import mean_ndcg
    from dupmae_toolkit.training.pretrain import pretrain as work

    measured = partial(work, measure=mean_ndcg)
    _train(measured, loaded, recipe, resume=resume, dry_run=dry_run, json=json)


def finetune(
    recipe: RecipeArgument,
    data: DataOption = "",
    set_: SetOption = None,
    resume: ResumeOption = False,
    dry_run: DryRunOption = False,
    json: JsonOption = False,
) -> None:
    """Fine-tune an encoder on queries and the documents that answer them.

    The recipe names the model to start from, the data, and the folder for the output. The trained
    encoder goes to `final` in that folder, and its path is printed: pass it as --model to
    `dupmae index`, measure it with `dupmae beir`, or find hard negatives for a next stage with
    `dupmae mine`. log.jsonl and the last two checkpoints are kept beside it.

    If interrupted, run the same command with --resume. For several GPUs, start it as
    `dupmae pretrain --help` shows. docs/training.md explains every key of a recipe.

    [bold]Examples:[/bold]

      dupmae finetune builtin-finetune --data ~/texts

      dupmae finetune my.yaml --set model=checkpoints/pretrained/final --resume

      dupmae finetune my.yaml --dry-run
    """
    from dupmae_toolkit.training.recipe import FinetuneRecipe
    from dupmae_toolkit.training.recipe_files import load_recipe
    from dupmae_toolkit.training.recipe_names import check_start

    loaded = load_recipe(recipe, FinetuneRecipe, _changes(set_), data)
    check_start(loaded)
    # Imported late, because it loads torch: errors in the recipe are reported first.
    from dupmae_toolkit.evaluation.measures import mean_ndcg
    from dupmae_toolkit.training.finetune import finetune as work

    measured = partial(work, measure=mean_ndcg)
    _train(measured, loaded, recipe, resume=resume, dry_run=dry_run, json=json)


def _changes(given: list[str] | None) -> dict[str, str]:
    changes = {}
    for item in given or []:
        key, found, value = item.partition("=")
        if not found or not key:
            raise InputError(f"--set {item}: write it as KEY=VALUE")
        changes[key] = value
    return changes


def _train(
    work: Callable[..., Path],
    recipe: Recipe,
    given: str,
    *,
    resume: bool,
    dry_run: bool,
    json: bool,
) -> None:
    from dupmae_toolkit.training.running import processes

    if not dry_run:
        if_interrupted(partial(_how_to_resume, recipe))
    estimates: list[dict[str, Any]] = []
    show = _show(recipe, _source(given))

    def listen(entry: dict[str, Any]) -> None:
        if "preflight" in entry:
            estimates.append(entry)
        show(entry)

    try:
        folder = work(recipe, resume=resume, listen=listen, dry_run=dry_run)
    except processes.StoppedElsewhereError as error:
        raise typer.Exit(error.exit_code) from error
    except InputError as error:
        # All processes read the same recipe: one on each machine reports its errors.
        if processes.process_number() and os.environ.get("LOCAL_RANK", "0") != "0":
            raise typer.Exit(error.exit_code) from error
        raise
    if not processes.is_main():
        return
    if dry_run:
        if json:
            print_json(estimates[-1] if estimates else {})
    elif json:
        print_json({"checkpoint": str(folder)})
    else:
        print(folder)


def _how_to_resume(recipe: Recipe) -> str:
    from dupmae_toolkit.training.running.resuming import last_checkpoint

    newest = last_checkpoint(Path(recipe.output))
    return f"--resume continues from {newest}" if newest else "no checkpoint was written yet"


def _source(given: str) -> str:
    """What to say about where a recipe is from, if that is not what was typed; else nothing."""
    from dupmae_toolkit.training.recipe_names import by_name, recipe_names

    if by_name(given):
        return (
            f"recipe   {given}, from dupmae-toolkit {__version__}; relative paths in it start at "
            f"{os.getcwd()}"
        )
    if given in recipe_names():
        return f"recipe   the file {given} in this folder, not the package's recipe of that name"
    return ""


def _show(recipe: Recipe, source: str) -> Callable[[dict[str, Any]], None]:
    """Print what a training tells; before all else ``source``, if it is not empty."""
    first = [source] if source else []

    def listen(entry: dict[str, Any]) -> None:
        while first:
            say(first.pop())
        if "preflight" in entry:
            for line in _estimate(entry):
                say(line)
            return
        words = [_word(key, value) for key, value in entry.items() if key != "step"]
        say(f"step {entry['step']:.0f}/{recipe.steps}  {'  '.join(words)}")

    return listen


def _word(key: str, value: Any) -> str:
    if isinstance(value, str):
        return f"{key}: {value}"
    if key == "tokens_per_second":
        return f"{value:,.0f} tokens/s"
    if key == "peak_share":
        return f"{value:.0%} of peak"
    if key == "seconds_left":
        return f"{_duration(value)} left"
    return f"{key} {value:.4g}"


def _estimate(entry: dict[str, float]) -> list[str]:
    """The lines that show what a training is expected to take, from the preflight's entry."""
    done = f" ({entry['steps_to_go']:.0f} to go)" if entry["step"] else ""
    size = f"{entry['batch_size']:.0f} texts"
    if entry["processes"] > 1:
        size += f" over {entry['processes']:.0f} processes"
    gb = {key: f"{value / 1e9:.2f} GB" for key, value in entry.items() if key.startswith("bytes_")}
    return [
        f"steps    {entry['steps']:,.0f}{done} of {size}, about {entry['tokens_a_step']:,.0f} "
        "tokens a step",
        f"time     about {_duration(entry['estimated_seconds'])}: {entry['flops_a_step']:.3g} FLOP "
        f"a step; a plain matrix product does {entry['product_flops']:.3g} FLOP a second",
        f"memory   {gb['bytes_parameters']} parameters ({entry['parameters']:,.0f}), "
        f"{gb['bytes_gradients']} gradients, {gb['bytes_optimizer']} optimizer, "
        f"{gb['bytes_activations']} for {entry['rows_at_once']:.0f} texts at once; "
        f"{gb['bytes_available']} free",
    ]


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 90 * 60:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
