"""`dupmae reproduce`: repeat the command of a card, and compare its results."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption
from dupmae_cli.recording import REPEATABLE, read_by
from dupmae_toolkit.errors import DupMAEError, InputError

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.card_reading import Card
    from dupmae_toolkit.evaluation.reproducing import Outcome

#: The commands that fill a folder.
_FOLDERS = ("beir", "sweep")
#: Nothing that a card names is fetched from the hub.
_OFFLINE = {"HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}


def reproduce(
    context: typer.Context,
    card: Annotated[
        Path,
        typer.Argument(
            metavar="CARD",
            help="A card (card.json or RUN.card.json), or the run or folder that it belongs to.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The folder for what the repeated command writes; it must be new or empty.",
            show_default="one that is removed afterwards",
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Let ir_datasets fetch a data set that the card names by its id, if it is not on "
            "this machine.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Repeat the command of a card, and compare files and figures.

    `dupmae search --queries`, `fuse`, `rerank`, `beir` and `sweep` leave a card beside what they
    write: the command, checksums of what it read and wrote, figures, versions, machine, times.
    The command is repeated with another place for its output; nothing is overwritten. Run this
    in the folder in which the command ran: the card has paths as they were typed.

    Exit code 0: everything is the same, byte for byte; 1: something differs, or a file beside the
    card is not the card's. A card is refused if what its command read has changed, if the command
    is none of these, or if it sets an option that might write elsewhere.

    [bold]Examples:[/bold]

      dupmae reproduce runs/hybrid.trec

      dupmae reproduce runs/scifact/card.json --output runs/again

      dupmae reproduce runs/hybrid.trec.card.json --json
    """
    from dupmae_toolkit.evaluation.card_reading import read_card
    from dupmae_toolkit.evaluation.reproducing import check_inputs, compare, surroundings

    found = read_card(card)
    parsed = _parsed(found, context)
    reads = dict(read_by(parsed.command, parsed.params))
    for each in check_inputs(found, reads):
        if not download and not reads[each].startswith("hf:"):  # that is looked for offline
            raise InputError.at(
                found.path,
                None,
                f"{each} {reads[each]} is no file here; if it is a data set of ir_datasets, "
                "--download lets that fetch what is missing",
            )
        console.say(f"not checked, no such file on this machine: {each} {reads[each]}")
    with _folder(output) as folder:
        whole = parsed.command.name in _FOLDERS
        place = folder if whole else folder / next(iter(found.outputs))
        words = [parsed.command.name, *_given(parsed, place)]
        console.say(f"repeating: dupmae {shlex.join(words)}")
        _repeat(words)
        again = read_card(place)
        outcomes = compare(found, again)
        differ = surroundings(found, again)
    same = all(each.same for each in outcomes)
    if json:
        console.print_json(
            {
                "card": str(found.path),
                "command": ["dupmae", *words],
                "same": same,
                "outcomes": [each.to_dict() for each in outcomes],
                "surroundings": differ,
            }
        )
    else:
        _print(outcomes)
        for line in differ:
            console.say(line)
        count = sum(not each.same for each in outcomes)
        console.say(
            "all the same" if same else f"{count:,} of {len(outcomes):,} differ from the card"
        )
    if not same:
        raise typer.Exit(1)


def _parsed(card: Card, context: Any) -> Any:
    """Click's context of the card's command; InputError for anything that is not to be run."""
    from dupmae_toolkit.evaluation.cards import FOLDER_CARD

    name, *words = card.command

    def refused(why: str) -> InputError:
        return InputError.at(card.path, None, f"its command is not repeated: {why}")

    if name not in REPEATABLE:
        raise refused(f"{name!r} is none of {', '.join(REPEATABLE)}")
    command = context.parent.command.commands[name]
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # where a help or a list would be printed
            parsed = command.make_context(name, list(words), parent=context.parent)
    except (typer.Exit, typer.Abort) as error:
        raise refused("it asks for help or for a list, and writes nothing") from error
    except Exception as error:  # click's, which some versions of Typer ship under another name
        if hasattr(error, "format_message"):
            raise refused(error.format_message()) from error
        raise
    for parameter in command.params:
        value = parsed.params.get(parameter.name)
        if _is_given(parsed, parameter) and not REPEATABLE[name].allows(parameter.name, value):
            raise refused(f"it sets {parameter.opts[0]}, which may write elsewhere")
    if parsed.params.get("output") is None or str(parsed.params["output"]) == "-":
        raise refused("it names no --output")
    if parsed.params.get("query") == "-":
        raise refused("its question came from standard input, and is gone")
    if name == "sweep" and card.path.name != FOLDER_CARD:
        raise refused("it made a whole study; reproduce the study's folder")
    if name not in _FOLDERS and len(card.outputs) != 1:
        raise refused("it writes one file, but the card names others")
    return parsed


def _is_given(parsed: Any, parameter: Any) -> bool:
    source = parsed.get_parameter_source(parameter.name)
    return source is not None and source.name == "COMMANDLINE"


def _given(parsed: Any, output: Path) -> list[str]:
    """The command's words, made anew from what was parsed, with another output.

    Each value is in one word with its option, and arguments come after ``--``, so that no value can
    be taken for an option.
    """
    options: list[str] = [f"--output={output}"]
    arguments: list[str] = []
    for parameter in parsed.command.params:
        if not _is_given(parsed, parameter) or parameter.name in ("output", "json"):
            continue
        value = parsed.params[parameter.name]
        values = value if isinstance(value, list | tuple) else [value]
        if parameter.param_type_name == "argument":
            arguments += [_text(each) for each in values]
        elif isinstance(value, bool):
            options.append((parameter.opts if value else parameter.secondary_opts)[0])
        else:
            name = next(each for each in parameter.opts if each.startswith("--"))
            options += [f"{name}={_text(each)}" for each in values]
    return [*options, *(["--", *arguments] if arguments else [])]


def _text(value: Any) -> str:
    return str(getattr(value, "value", value))


@contextlib.contextmanager
def _folder(output: Path | None) -> Iterator[Path]:
    """The folder for the new output; a temporary one if none is named."""
    if output is None:
        with tempfile.TemporaryDirectory(prefix="dupmae-reproduce-") as temporary:
            yield Path(temporary, "again")
        return
    if output.exists() and (not output.is_dir() or any(output.iterdir())):
        raise InputError.at(output, None, "exists and is not empty; name a new folder")
    yield output.absolute()


def _repeat(words: list[str]) -> None:
    """Run a command of this toolkit in a process of its own, without a shell."""
    # -P: no module is taken from the current folder, which may hold what came with the card.
    command = [sys.executable, "-P", "-m", "dupmae_toolkit", *words]
    shown = sys.stderr.isatty()
    done = subprocess.run(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if shown else subprocess.PIPE,
        env=os.environ | _OFFLINE,
        check=False,
    )
    if done.returncode:
        last = (done.stderr or b"").decode("utf-8", "replace").strip().split("\n")[-1]
        why = last.removeprefix("dupmae: ") or f"exit code {done.returncode}"
        raise DupMAEError(f"the repeated command failed: {why}")


def _print(outcomes: list[Outcome]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for name in ("", "before", "now", "", ""):
        table.add_column(name, overflow="fold")
    for each in outcomes:
        cells = [_shown(each.before), _shown(each.now), "same" if each.same else "differs"]
        table.add_row(*map(Text, (each.name, *cells, each.detail)))
    console.screen().print(table)


def _shown(value: str | float | None) -> str:
    if value is None:
        return "nothing"
    return value[:12] if isinstance(value, str) else f"{value:.6f}"
