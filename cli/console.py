"""What the commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.progress import Advance

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus


def _nothing() -> str:
    return ""


#: Names of files that are complete once they exist: encoded texts, segments, scores, runs.
_PIECES = ("part-*.parquet", "segment-*.json", "segments/[0-9]*", "scores-*.npy", "*.trec")
_tell_what_stands: Callable[[], str] = _nothing


@contextlib.contextmanager
def bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar with rate and time left on stderr; nothing where there is no terminal."""
    if not sys.stderr.isatty():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        SpinnerColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed else "", style="cyan")

    columns = [
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    ]
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)


def say(message: str) -> None:
    """Print a note for people, on stderr."""
    print(message, file=sys.stderr, flush=True)


def say_left_out(corpus: Corpus) -> None:
    """Name the lines that ``--skip-invalid`` left out of a corpus, if any."""
    if corpus.skipped:
        say(corpus.left_out())


@contextlib.contextmanager
def terminating() -> Iterator[list[int]]:
    """Let SIGTERM end a command as Ctrl-C does; the list is empty until the signal comes.

    A second SIGTERM ends the process at once, as usual. So does the first in one of several
    processes: if one fails, their launcher ends the others, and says so.
    """
    came: list[int] = []

    def end(number: int, _: object) -> None:
        came.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if not (usual and alone and threading.current_thread() is threading.main_thread()):
        yield came
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield came
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def if_interrupted(tell: Callable[[], str] = _nothing) -> None:
    """If Ctrl-C ends the command, print what ``tell`` says of finished work and how to continue."""
    global _tell_what_stands
    _tell_what_stands = tell


def interrupted(how: str = "interrupted") -> str:
    """The last line of an interrupted command; ``how``: what ended it."""
    # Neither an error in looking at the work, nor a second Ctrl-C, must hide that line.
    with contextlib.suppress(Exception, KeyboardInterrupt):
        return "; ".join(filter(None, (how, _tell_what_stands())))
    return how


def kept(folder: Path) -> str:
    """What to say of interrupted work whose finished parts are in ``folder``."""
    if any(next(folder.rglob(pattern), None) for pattern in _PIECES):
        return f"what is done is kept in {folder}, and the same command goes on"
    if folder.exists():
        return "nothing that could be kept was done yet; the same command begins again"
    return "the same command begins again, or finds all done"


def whether_written(path: Path) -> Callable[[], str]:
    """Says later whether a file was written after this call; for work that is kept nowhere else."""
    before = _stamp(path)
    return lambda: f"{path} was {'not ' if _stamp(path) == before else ''}written"


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def print_json(value: Any) -> None:
    """Print the one document of ``--json``, on stdout."""
    # Characters that stdout cannot encode are written as JSON escapes.
    is_utf8 = (sys.stdout.encoding or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8))
