"""What the commands share: progress on stderr, results on stdout."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit import progress
from dupmae_toolkit.errors import printable
from dupmae_toolkit.progress import Advance, silent

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus
    from dupmae_toolkit.index.impacts import QuantizationError
    from dupmae_toolkit.records import Encoder


def _nothing() -> str:
    return ""


#: Files that are complete as soon as they exist: encoded texts, segments, scores, runs.
_PIECES = ("part-*.parquet", "segment-*.json", "segments/[0-9]*", "scores-*.npy", "*.trec")
#: Characters in a line that no terminal shows: more than any has.
ANY_WIDTH = 100_000
_quiet = False
_results: Any = None
_describe_kept_work: Callable[[], str] = _nothing


@contextlib.contextmanager
def bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """A progress bar on stderr, unless ``--quiet``; nothing if stderr is no terminal."""
    with (silent if _quiet else progress.bar)(description, total) as advance:
        yield advance


def shows_bars() -> bool:
    """Whether a library may show progress bars of its own: there is a terminal, no ``--quiet``."""
    return not _quiet and sys.stderr.isatty()


def say(message: str) -> None:
    """Print a note for people, one line on stderr; nothing with ``--quiet``.

    It may quote files that come from anybody.
    """
    if not _quiet:
        print(printable(message), file=sys.stderr, flush=True)


@contextlib.contextmanager
def quiet(wanted: bool) -> Iterator[None]:
    """With ``wanted``, print neither notes nor progress; errors are printed."""
    global _quiet
    _quiet = wanted
    try:
        yield
    finally:
        _quiet = False


def results() -> Any:
    """The text stream for what a command was asked for."""
    return _results or sys.stdout


@contextlib.contextmanager
def results_alone() -> Iterator[None]:
    """Let stdout have nothing but what ``results`` gets; what else is printed goes to stderr.

    Also what a library prints from C or from a process that it starts.
    """
    global _results
    before = sys.stdout
    before.flush()
    kept = _copy_of_stdout()
    # Where stdout is replaced in Python, as tests do, its own stream takes the results.
    _results = before if kept is None or not _writes_to(before, 1) else _reopened(before, kept)
    sys.stdout = sys.stderr
    try:
        yield
        _results.flush()
    finally:
        sys.stdout = before
        if _results is not before:
            with contextlib.suppress(OSError):  # the reader is gone, as ``head`` may be
                _results.close()
        _results = None
        if kept is not None:
            os.dup2(kept, 1)
            os.close(kept)


def _copy_of_stdout() -> int | None:
    """A copy of the file descriptor 1, which then leads to stderr; None if one is closed."""
    try:
        os.fstat(2)
        kept = os.dup(1)
    except OSError:
        return None
    os.dup2(2, 1)
    return kept


def _writes_to(stream: Any, descriptor: int) -> bool:
    try:
        return bool(stream.fileno() == descriptor)
    except (OSError, ValueError, AttributeError):
        return False


def _reopened(stream: Any, descriptor: int) -> Any:
    """A stream like ``stream`` that writes to another descriptor."""
    return open(os.dup(descriptor), "w", encoding=stream.encoding, errors=stream.errors, newline="")


def screen() -> Any:
    """A rich console for tables on stdout; where no terminal shows them, lines of any length."""
    from rich.console import Console

    shown = sys.stdout.isatty()
    return Console(highlight=False, markup=False, width=None if shown else ANY_WIDTH)


def print_whole(table: Any) -> None:
    """Print a table of numbers whose lines may be longer than the terminal's: none is broken up."""
    from rich.console import Console
    from rich.measure import Measurement

    out = screen()
    needed = Measurement.get(out, out.options.update(max_width=ANY_WIDTH), table).maximum
    if needed > out.width:
        out = Console(highlight=False, markup=False, width=needed)
    out.print(table)


@contextlib.contextmanager
def plain_warnings() -> Iterator[None]:
    """Print the library's own warnings as notes for people, without the place in its code."""
    before = warnings.showwarning

    def show(message: Any, category: type[Warning], *place: Any, **more: Any) -> None:
        if category.__module__.startswith("dupmae_toolkit"):
            say(f"warning: {message}")
        else:
            before(message, category, *place, **more)

    warnings.showwarning = show
    try:
        yield
    finally:
        warnings.showwarning = before


def say_remarks(encoder: Encoder) -> None:
    """Say how the checkpoint of an encoder is used, where that is not plain."""
    for line in getattr(encoder, "remarks", ()):
        say(line)


#: The way out where long texts are cut.
UNCUT = "--passages indexes all of a long text"


def say_notes(corpus: Corpus) -> None:
    """Say what was left out of a corpus and how it was read; nothing if all was as usual."""
    for note in corpus.notes():
        say(note)


@contextlib.contextmanager
def terminating() -> Iterator[list[int]]:
    """Make SIGTERM end a command as Ctrl-C does. Yields a list, empty until the signal arrives.

    A second SIGTERM ends the process at once. So does the first in a training of several processes
    (``WORLD_SIZE`` above 1): if one of them fails, their launcher ends the others and reports it.
    """
    received: list[int] = []

    def end(number: int, _: object) -> None:
        received.append(number)
        signal.signal(number, signal.SIG_DFL)
        raise KeyboardInterrupt

    is_default = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    alone = os.environ.get("WORLD_SIZE", "1") == "1"
    if not (is_default and alone and threading.current_thread() is threading.main_thread()):
        yield received
        return
    signal.signal(signal.SIGTERM, end)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def if_interrupted(describe: Callable[[], str] = _nothing) -> None:
    """Set what an interrupted command prints: which work is kept, and how to continue."""
    global _describe_kept_work
    _describe_kept_work = describe


def interrupted(how: str = "interrupted") -> str:
    """The last line of an interrupted command; ``how``: what ended it."""
    # The line is printed even if describing the work fails or Ctrl-C comes a second time.
    with contextlib.suppress(Exception, KeyboardInterrupt):
        return "; ".join(filter(None, (how, _describe_kept_work())))
    return how


def kept(folder: Path) -> str:
    """What an interrupted command says if it keeps its finished work in ``folder``."""
    if any(next(folder.rglob(pattern), None) for pattern in _PIECES):
        return f"finished work is kept in {folder}; run the same command to continue"
    if folder.exists():
        return "there is no finished work to keep; run the same command to start over"
    return "run the same command again: it starts over, unless all was done"


def whether_written(path: Path) -> Callable[[], str]:
    """A function that says whether ``path`` was written since; for work that is kept only there."""
    before = _stamp(path)
    return lambda: f"{path} was {'not ' if _stamp(path) == before else ''}written"


def say_no_room(wanted: int | None, kept: int | None, model: str) -> None:
    """Say that a model has no room for queries of the length ``wanted``, if it kept less."""
    if wanted is not None and kept is not None and kept < wanted:
        say(f"{model}: has room for {kept} tokens, not for --query-length {wanted}")


def rounding(error: QuantizationError) -> str:
    """How far impacts are from the weights."""
    return (
        f"mean error of a weight {error.mean_absolute:.2g}, {error.clipped:,} of {error.weights:,} "
        "weights clipped"
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def print_json(value: Any) -> None:
    """Print the one document of ``--json``, on stdout."""
    # Characters that stdout cannot encode are written as JSON escapes.
    file = results()
    is_utf8 = (getattr(file, "encoding", "") or "").lower().replace("-", "") == "utf8"
    print(json.dumps(value, indent=2, ensure_ascii=not is_utf8), file=file)
