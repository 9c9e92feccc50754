"""The application: gathers the commands, and turns every error into one line and an exit code."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Sequence

import typer

from dupmae_cli import (
    console,
    demo,
    doctor,
    encode,
    eval,
    index,
    mining,
    searching,
    teaching,
    training,
    updating,
    verify,
)
from dupmae_toolkit import __version__
from dupmae_toolkit.errors import DupMAEError

# As shells count a process that Ctrl-C ended, and one that SIGTERM did.
_INTERRUPTED = 130
_TERMINATED = 143

app = typer.Typer(
    name="dupmae",
    help="Train DupMAE encoders, index both their vectors, search, and evaluate.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def application(
    version: bool = typer.Option(False, "--version", help="Print the version and stop."),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks. Allowed anywhere."),
) -> None:
    """Train DupMAE encoders, index both their vectors, search, and evaluate."""
    if version:
        print(f"dupmae {__version__}")
        raise typer.Exit


for group in (
    demo,
    encode,
    index,
    updating,
    verify,
    searching,
    eval,
    training,
    mining,
    teaching,
    doctor,
):
    group.register(app)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit.

    0: done, 1: failed, 2: refused, 130: interrupted, 143: ended by SIGTERM.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    debug = "--debug" in words
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every terminal can show every text
            stream.reconfigure(errors="replace")
    words = [word for word in words if word != "--debug"]
    with console.terminating() as terminated:
        code = _run(words, debug, terminated)
    sys.exit(code)


def _run(words: list[str], debug: bool, terminated: Sequence[int] = ()) -> int:
    console.if_interrupted()
    try:
        code = app(words, prog_name="dupmae", standalone_mode=False) or 0
        sys.stdout.flush()  # here, where a reader that went away can be handled
        # Some versions of Typer end with a code where others raise.
        return _ended(terminated) if code == _INTERRUPTED else code
    except (typer.Abort, KeyboardInterrupt):
        return _ended(terminated)
    except BrokenPipeError:
        # The reader of our output went away, as `head` does; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DupMAEError as error:
        if debug:
            traceback.print_exc()
        return _refuse(str(error), error.exit_code)
    except Exception as error:
        # Usage errors are click's, which Typer carries under another name in some versions.
        if hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            if type(error).__name__ == "NoArgsIsHelpError":
                return 2  # the help has been printed
            command = context.command_path if context else "dupmae"
            hint = ""
            if type(error).__name__ == "NoSuchOption":
                hint = " What begins with a dash and is no option goes after -- at the end."
                if command.endswith(" delete"):
                    hint = " Ids that begin with a dash go after -- at the end, or into a --file."
            return _refuse(f"{error.format_message()}{hint} See `{command} --help`.", 2)
        if debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        return _refuse(f"{type(error).__name__}: {text} (--debug shows where)", 1)


def _ended(terminated: Sequence[int]) -> int:
    if terminated:
        return _refuse(console.interrupted("ended by SIGTERM"), _TERMINATED)
    return _refuse(console.interrupted(), _INTERRUPTED)


def _refuse(message: str, code: int) -> int:
    print(f"dupmae: {' '.join(message.split())}", file=sys.stderr)
    return code
