"""`dupmae verify`: look for damage in an index, and repair it."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.index import IndexFolder, Json
from dupmae_cli.updating import Wait, tell_if_interrupted

if TYPE_CHECKING:
    from dupmae_toolkit.index.health.repair import Repair
    from dupmae_toolkit.index.problems import Problem


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("verify")(verify)


def verify(
    index: IndexFolder,
    quick: Annotated[
        bool, typer.Option("--quick", help="Look at names and sizes only, not into the files.")
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Rebuild what is damaged from what is whole.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option("--model", help="For --repair; default: the encoder that the index names."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    wait: Wait = 60.0,
    json: Json = False,
) -> None:
    """Look for damage: every file's checksum, and whether the parts of the index agree.

    With --repair, what is damaged is rebuilt from what is whole, in one step that searches under
    way do not notice: Lucene and the stored impacts from each other, FAISS from the stored vectors
    and back, ids from wherever they stand; files that do not belong there are removed. Vectors that
    stand nowhere any more are encoded again from the texts, by the index's own encoder. Texts, and
    which documents were deleted, stand in one place only: what is lost of these is told.

    Ends with 0 when the index is whole, as it was or after the repair, with 1 when it was looked at
    and is not, and with 2 when there is no index to look at. Whatever uses an index (`dupmae
    search`, `dupmae add`) ends with 2 where damage is in its way: it could not do what was asked.

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
        _repair(index, wait, json, model=model, device=device, precision=precision)
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
    depth = "files stand with their sizes" if quick else "no damage found"
    console.say(f"{index}: {_count(problems) if problems else depth}")
    if problems:
        raise typer.Exit(1)


def _repair(index: Path, wait: float, json: bool, model: str | None, **settings: Any) -> None:
    from dataclasses import asdict

    from dupmae_toolkit.errors import DupMAEError
    from dupmae_toolkit.index.health.repair import repair_index
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.records import Encoder

    def encoder() -> Encoder:
        # Only when it is needed, because it loads torch.
        from dupmae_toolkit.search.queries import load_encoder

        info = Manifest.load(index).encoder
        return load_encoder(model or info.name, info, remembered=model is None, **settings)

    with contextlib.suppress(DupMAEError):  # a repair tells what is wrong with a manifest
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
        said = "no damage found"
    elif done.whole:
        said = f"{_count(done.found)} found; the index is whole now"
    else:
        said = f"{_count(done.found)} found, {_count(done.remaining)} left"
    console.say(f"{index}: {said}")
    if not done.whole:
        raise typer.Exit(1)


def _lines(done: Repair) -> list[str]:
    """What happened, a line each: found, removed, rebuilt, left."""
    lines = [f"found    {problem.path}: {problem.fault}" for problem in done.found]
    lines += [f"removed  {name}" for name in done.removed]
    lines += [f"rebuilt  {each}" for each in done.rebuilt]
    lines += [f"left     {problem}" for problem in done.remaining]
    return lines


def _plain(problems: list[Problem]) -> list[dict[str, str]]:
    return [{"path": each.path, "message": each.message} for each in problems]


def _count(problems: list[Problem]) -> str:
    return "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
