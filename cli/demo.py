"""`dupmae demo`: index, search and measure the documentation that comes with Python."""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption, ModelOption
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.demo.report import DemoReport

_INDEX = Path("indexes/demo")
_NAMES = {"lucene-bm25": "Lucene's BM25"}


def demo(
    index: Annotated[
        Path, typer.Option("--index", "-i", help="The folder for the index.")
    ] = _INDEX,
    model: ModelOption = "builtin",
    questions: Annotated[
        int | None, typer.Option(help="The number of questions to ask.", show_default="all")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Index the documentation of this Python, search it, and measure every mode.

    The documents are the thousands of docstrings in the standard library of the
    Python that runs this. The questions, with graded judgements, come with the
    package. Nothing is downloaded.

    The index stays in the folder of --index, and a second run uses it again. The
    last line printed is a command to search it yourself.

    [bold]Examples:[/bold]

      dupmae demo

      dupmae demo --index /tmp/demo --questions 40

      dupmae demo --model my-model --index indexes/demo-my-model --json
    """
    from dupmae_toolkit.demo.demonstration import run_demo

    console.if_interrupted(lambda: console.kept(index))
    report = run_demo(
        index, model, console.bar, questions=questions, note=_silent if json else console.say
    )
    if json:
        console.print_json(report.to_dict())
        return
    _show_examples(report)
    _show_measures(report)
    _show_times(report)
    print(f"\nSearch it yourself:\n  {_hint(index, model)}")


_QUESTION = "how do I read a file line by line"


def _hint(index: Path, model: str) -> str:
    """A command to try next."""
    # An index names its encoder, but a name may not be enough to find a folder of the user's.
    words = ["--index", str(index)] + (["--model", model] if model != "builtin" else [])
    return f'{_program()} search {shlex.join(words)} "{_QUESTION}"'


def _program() -> str:
    """The shell command that runs this program: ``dupmae`` if it is on the PATH, else its path."""
    path = sys.argv[0]
    if os.path.basename(path) != "dupmae":  # as in `python -m dupmae_toolkit`
        path = os.path.join(os.path.dirname(sys.executable), "dupmae")
    if not os.path.exists(path):
        return shlex.join([sys.executable, "-m", "dupmae_toolkit"])
    found = shutil.which("dupmae")
    if found and os.path.samefile(found, path):
        return "dupmae"
    return shlex.quote(path if os.path.dirname(path) else os.path.join(os.curdir, path))


def _silent(message: str) -> None:
    """Print no notes, for ``--json``."""


def _show_examples(report: DemoReport) -> None:
    """Print how the questions were chosen, and each hit's rank, score, id and start of its text."""
    from dupmae_cli.hits import clean

    width = shutil.get_terminal_size().columns
    shown = len(report.examples)
    shown_are = "question" if shown == 1 else f"{shown} questions"
    print(
        f"\nThe {shown_are}, of {report.questions}, with the best-graded hits. "
        f"The table below measures all {report.questions}."
    )
    for question, hits in report.examples:
        print(f"\n{question}")
        ids = max(len(hit.id) for hit in hits)
        for hit in hits:
            line = f"{hit.rank:>3}  {hit.score:8.2f}  {clean(hit.id):<{ids}}  "
            text, room = clean(hit.text), max(24, width - len(line))
            print(line + (text if len(text) <= room else f"{text[: room - 2]} …"))


def _show_measures(report: DemoReport) -> None:
    from rich.table import Table

    print(f"\n{report.questions} questions, {report.judgements} judgements")
    table = Table(box=None, pad_edge=False, padding=(0, 1))
    table.add_column("mode", no_wrap=True)
    for name in next(iter(report.modes.values())).measures:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("ms per question", justify="right", no_wrap=True)
    for mode, found in report.modes.items():
        values = [f"{value:.3f}" for value in found.measures.values()]
        table.add_row(_NAMES.get(mode, mode), *values, f"{found.milliseconds:.1f}")
    console.screen().print(table)
    if report.missing:
        console.say(
            f"this Python does not document {len(report.missing)} of the judged names; they are "
            f"left out, and so are {len(report.dropped)} questions that have no other answer"
        )


def _show_times(report: DemoReport) -> None:
    encoding, indexing = report.seconds["encoding"], report.seconds["indexing"]
    if encoding is None or indexing is None:
        documents = counted(report.documents, "document")
        print(f"\n{report.index}: {documents}, indexed by an earlier run")
        return
    rate = f" ({report.encoded / encoding:,.0f} a second)" if report.encoded else ""
    print(
        f"\n{report.encoded:,} of {report.documents:,} documents encoded by {report.model} in "
        f"{encoding:.0f} s{rate}, indexed in {indexing:.0f} s; {report.cut:,} long docstrings cut"
    )
