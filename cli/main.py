"""The application: it runs the commands and turns every error into one line and an exit code."""

from __future__ import annotations

import inspect
import io
import os
import re
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup

from dupmae_cli import console, recording
from dupmae_cli.beir import beir
from dupmae_cli.choose import choose
from dupmae_cli.compare import compare
from dupmae_cli.demo import demo
from dupmae_cli.diagnose import diagnose
from dupmae_cli.doctor import doctor
from dupmae_cli.encode import encode
from dupmae_cli.eval import evaluate
from dupmae_cli.explain import explain
from dupmae_cli.export import export
from dupmae_cli.fuse import fuse
from dupmae_cli.import_ import import_
from dupmae_cli.index import index
from dupmae_cli.info import info
from dupmae_cli.lookup import derive_lookup
from dupmae_cli.mine import mine
from dupmae_cli.prune import prune
from dupmae_cli.recipes import recipes
from dupmae_cli.report import report
from dupmae_cli.reproduce import reproduce
from dupmae_cli.rerank import rerank
from dupmae_cli.search import search
from dupmae_cli.sweep import sweep
from dupmae_cli.teach import teach
from dupmae_cli.training import finetune, pretrain
from dupmae_cli.tune import tune
from dupmae_cli.updating import add, compact, delete
from dupmae_cli.verify import verify
from dupmae_toolkit import __version__
from dupmae_toolkit.errors import DupMAEError, InputError, printable

PROGRAM = "dupmae"

#: The commands by name, in the order in which the help lists them.
COMMANDS: dict[str, Callable[..., None]] = {
    "demo": demo,
    "encode": encode,
    "index": index,
    "info": info,
    "add": add,
    "delete": delete,
    "compact": compact,
    "prune": prune,
    "verify": verify,
    "export": export,
    "import": import_,
    "search": search,
    "explain": explain,
    "fuse": fuse,
    "rerank": rerank,
    "eval": evaluate,
    "compare": compare,
    "tune": tune,
    "beir": beir,
    "sweep": sweep,
    "report": report,
    "reproduce": reproduce,
    "diagnose": diagnose,
    "choose": choose,
    "pretrain": pretrain,
    "finetune": finetune,
    "recipes": recipes,
    "mine": mine,
    "teach": teach,
    "derive-lookup": derive_lookup,
    "doctor": doctor,
}

# The exit codes that shells give to a process ended by Ctrl-C or by SIGTERM: 128 + the signal.
_INTERRUPTED = 130
_TERMINATED = 143


def _without_flag_types(parameters: list[Any]) -> list[Any]:
    """Hide the type of flags in the help: Typer shows `<bool>`, but a flag takes no value."""
    for parameter in parameters:
        if getattr(parameter, "is_flag", False):
            parameter.metavar = ""
    return parameters


#: On more cores, threads that sleep were not measured.
_FEW_CORES = 4
#: Of a line in the help, with room for a backslash in 80 columns.
_EXAMPLE_WIDTH = 75
#: The commands whose OUTPUT may be standard output.
_WRITE_STDOUT = ("search", "fuse", "rerank")


class _Command(TyperCommand):
    def invoke(self, ctx: Any) -> Any:
        recording.enter(ctx)
        # What goes into a program must not hold a line that a library prints.
        asked, output = ctx.params.get("format"), ctx.params.get("output")
        for_programs = asked not in (None, "table") or str(output) == "-"
        if str(output) == "-" and ctx.command.name not in _WRITE_STDOUT:
            raise InputError("--output -: standard output is not taken here; name another place")
        if not (ctx.params.get("json") or for_programs):
            return super().invoke(ctx)
        with console.results_alone():
            return super().invoke(ctx)

    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))


class _Group(TyperGroup):
    def get_params(self, ctx: Any) -> list[Any]:
        return _without_flag_types(super().get_params(ctx))


app = typer.Typer(
    name=PROGRAM,
    cls=_Group,
    help=(
        "Train DupMAE encoders, and index, search and evaluate their dense and lexical vectors.\n\n"
        "Start with `dupmae demo`, which needs no data. `dupmae COMMAND --help` explains a command "
        "and shows examples. `dupmae doctor` checks this machine."
    ),
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback(invoke_without_command=True)
def application(
    version: bool = typer.Option(False, "--version", "-V", help="Print the version and stop."),
    debug: bool = typer.Option(
        False, "--debug", help="Print a traceback with an error. Can be given anywhere."
    ),
    quiet: bool = typer.Option(
        False, "--quiet", "-q", help="Print results and errors alone. Can be given anywhere."
    ),
) -> None:
    """The options of the application itself."""
    if version:
        print(f"{PROGRAM} {__version__}")
        raise typer.Exit


def _flowing(text: str | None) -> str:
    """Help whose paragraphs are single lines, so that they fill a terminal of any width.

    Examples are indented; those that are too long go on after a backslash, as a shell takes them.
    """
    paragraphs = [each.replace("\n", " ") for each in inspect.cleandoc(text or "").split("\n\n")]
    return "\n\n".join(_broken(each) if each.startswith("  ") else each for each in paragraphs)


def _broken(example: str) -> str:
    lines = [""]
    word = r"""(?:[^\s"']|"[^"]*"|'[^']*')+"""
    option = rf"-\S+ (?!-){word}"  # with its value
    for piece in re.findall(f"{option}|{word}", example):
        if len(f"  {lines[-1]} {piece}") > _EXAMPLE_WIDTH:
            lines.append("  ")
        lines[-1] += f" {piece}" if lines[-1].strip() else piece
    return "  " + " \\\n  ".join(lines)


for _name, _command in COMMANDS.items():
    app.command(_name, cls=_Command, help=_flowing(_command.__doc__))(_command)


def main(arguments: list[str] | None = None, program: str = PROGRAM) -> None:
    """Run the command line and exit; ``program``: the name that usage lines show.

    0: done, 1: failed, 2: refused, 130: interrupted, 143: ended by SIGTERM.
    """
    _wait_asleep()
    words = list(sys.argv[1:] if arguments is None else arguments)
    options = words[: words.index("--")] if "--" in words else words
    debug, quiet = "--debug" in options, "--quiet" in options or "-q" in options
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not every terminal can show every character
            stream.reconfigure(errors="replace")
    kept = [word for word in options if word not in ("--debug", "--quiet", "-q")]
    words = kept + words[len(options) :]
    with (
        console.quiet(quiet),
        console.terminating() as terminated,
        console.plain_warnings(),
    ):
        code = _run(words, debug, terminated, program)
    sys.exit(code)


def _wait_asleep() -> None:
    """On few cores, let the threads of torch and FAISS wait asleep, unless the user chose.

    They spin by default, which keeps each other and every other process from the cores.
    """
    from dupmae_toolkit.machine import cores

    if (cores() or _FEW_CORES + 1) <= _FEW_CORES:
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _run(
    words: list[str], debug: bool, terminated: Sequence[int] = (), program: str = PROGRAM
) -> int:
    console.if_interrupted()
    recording.begin(words)
    if program != PROGRAM and words and words[0] in ("--install-completion", "--show-completion"):
        # Completion is installed for a command by its name, and `python` is not ours.
        return _refuse(f"completion is for the command `{PROGRAM}`: run `{PROGRAM} {words[0]}`", 2)
    try:
        code = app(words, prog_name=program, standalone_mode=False) or 0
        sys.stdout.flush()  # here, where a closed pipe can be handled
        # Some versions of Typer return a code where others raise.
        return _ended(terminated) if code == _INTERRUPTED else code
    except (typer.Abort, KeyboardInterrupt):
        return _ended(terminated)
    except BrokenPipeError:
        # The reader closed the pipe, as `head` does; Python must not complain at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except DupMAEError as error:
        if debug:
            traceback.print_exc()
        return _refuse(str(error), error.exit_code)
    except Exception as error:
        # A usage error is click's, but some versions of Typer ship click under another name.
        if hasattr(error, "format_message"):
            context = getattr(error, "ctx", None)
            if type(error).__name__ == "NoArgsIsHelpError":
                return 2  # the help has been printed
            command = context.command_path if context else program
            hint = ""
            # A text such as "-fast" is read as -f with the value "ast".
            glued = any(re.match(r"-[A-Za-z]{2}", word) for word in words)
            if glued or type(error).__name__ == "NoSuchOption":
                hint = " An argument that begins with a dash goes after -- at the end."
                takes = getattr(getattr(context, "command", None), "params", ())
                named = any(each.name == "index" or each.metavar == "SOURCE" for each in takes)
                if named and re.search(r": (--index|-i)\b", error.format_message()):
                    hint = " The index is named without an option."
                if command.endswith(" delete"):
                    hint = " Ids that begin with a dash go after -- at the end, or into a --file."
            fault = error.format_message().rstrip().replace("Value error, ", "")
            if "unexpected extra argument" in fault:
                hint = " Put a question, and a name with blanks, in quotes."
            if type(error).__name__ == "MissingParameter" and "'--index'" in fault:
                hint = f" Name the index with --index {_first_folder(words) or 'DIR'}."
            if unknown := re.search(r"'([^']*)' is not one of (.*)", fault, re.DOTALL):
                hint = _meant(unknown[1], re.findall(r"'([^']*)'", unknown[2])) or hint
            stop = "" if fault.endswith((".", "!", "?")) else "."
            return _refuse(f"{fault}{stop}{hint} See `{command} --help`.", 2)
        if debug:
            raise
        text = " ".join(str(error).split()) or "no message"
        return _refuse(f"{type(error).__name__}: {text} (--debug shows where)", 1)


def _meant(value: str, choices: Sequence[str]) -> str:
    """A hint that names the choice closest to ``value``; "" if none is close."""
    import difflib

    close = difflib.get_close_matches(value.casefold(), choices, 1)
    return f" Did you mean {close[0]}?" if close else ""


def _first_folder(words: list[str]) -> str | None:
    """The first argument of a command that is a folder, as an index is."""
    return next((word for word in words[1:] if os.path.isdir(word)), None)


def _ended(terminated: Sequence[int]) -> int:
    if terminated:
        return _refuse(console.interrupted("ended by SIGTERM"), _TERMINATED)
    return _refuse(console.interrupted(), _INTERRUPTED)


def _refuse(message: str, code: int) -> int:
    print(f"{PROGRAM}: {printable(' '.join(message.split()))}", file=sys.stderr)
    return code
