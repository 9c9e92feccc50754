"""`dupmae verify`: check an index for damage, and repair it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    DeviceOption,
    IndexModelOption,
    IndexOption,
    JsonOption,
    Precision,
    PrecisionOption,
    WaitOption,
)
from dupmae_cli.updating import tell_if_interrupted

if TYPE_CHECKING:
    from dupmae_toolkit.index.health.problems import Problem
    from dupmae_toolkit.index.health.repair import Repair


def verify(
    index: IndexOption,
    quick: Annotated[
        bool,
        typer.Option("--quick", help="Check only which files exist, and their sizes."),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild damaged files from intact ones.")
    ] = False,
    model: IndexModelOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    wait: WaitOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Check an index for damage: every file's checksum, and whether files agree.

    Prints a line for each problem. To fix them, run it with --repair.

    With --repair, damaged files are rebuilt from intact ones: Lucene and the stored impacts from
    each other, FAISS and the stored vectors from each other, ids from any copy of them. Vectors
    without an intact copy are encoded again from the texts by the index's own encoder; --model,
    --device and --precision are for this. Files that do not belong to the index are removed. The
    texts and the list of deleted documents have no second copy: if they are lost, the command says
    so. The repair takes effect in one step, and does not disturb running searches.

    The exit code is 0 if the index is undamaged or fully repaired, 1 if it is damaged, and 2 if
    there is no index to check. Other commands that use an index, such as `dupmae search`, end with
    2 if damage prevents what was asked.

    [bold]Examples:[/bold]

      dupmae verify --index indexes/scifact

      dupmae verify --index indexes/scifact --quick --json

      dupmae verify --index indexes/scifact --repair
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.health.verify import verify_index
    from dupmae_toolkit.index.manifest import require_folder

    require_folder(index)
    if repair:
        if quick:
            raise InputError("--repair reads every file: leave out --quick")
        _repair(index, wait, json, model=model, device=device, precision=precision.value)
        return
    if model or device:
        raise InputError("--model and --device are for --repair, which may encode texts again")
    problems = verify_index(index, deep=not quick, progress=console.bar)
    if json:
        console.print_json(
            {"index": str(index), "whole": not problems, "problems": _plain(problems)}
        )
    else:
        for problem in problems:
            print(problem)
    fine = "all files exist and have the right sizes" if quick else "no damage found"
    console.say(f"{index}: {_count(problems) if problems else fine}")
    if problems:
        raise typer.Exit(1)


def _repair(index: Path, wait: float, json: bool, model: str | None, **settings: Any) -> None:
    from dataclasses import asdict

    from dupmae_toolkit.errors import DupMAEError
    from dupmae_toolkit.index.health.repair import repair_index
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.records import Encoder

    def encoder() -> Encoder:
        # Loaded only when needed, because it imports torch.
        from dupmae_toolkit.search.queries import load_encoder

        info = Manifest.load(index).encoder
        return load_encoder(model or info.name, info, remembered=model is None, **settings)

    with contextlib.suppress(DupMAEError):  # the repair reports a damaged manifest itself
        tell_if_interrupted(index)
    done = repair_index(index, encoder, wait=wait, progress=console.bar)
    if json:
        console.print_json(
            {
                "index": str(index),
                "whole": done.whole,
                "found": _plain(done.found),
                "rebuilt": [asdict(each) for each in done.rebuilt],
                "removed": done.removed,
                "remaining": _plain(done.remaining),
            }
        )
    else:
        for line in _lines(done):
            print(line)
    if not done.found:
        result = "no damage found"
    elif done.whole:
        result = f"{_count(done.found)} found; the index is intact now"
    else:
        result = f"{_count(done.found)} found, {_count(done.remaining)} left"
    console.say(f"{index}: {result}")
    if not done.whole:
        raise typer.Exit(1)


def _lines(done: Repair) -> list[str]:
    """A line for each problem found, file removed, file rebuilt, and problem left."""
    lines = [f"found    {problem.path}: {problem.fault}" for problem in done.found]
    lines += [f"removed  {name}" for name in done.removed]
    lines += [f"rebuilt  {each}" for each in done.rebuilt]
    lines += [f"left     {problem}" for problem in done.remaining]
    return lines


def _plain(problems: list[Problem]) -> list[dict[str, str]]:
    return [{"path": each.path, "message": each.message} for each in problems]


def _count(problems: list[Problem]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
