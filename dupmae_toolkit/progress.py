"""The interface by which long-running work reports progress, whoever displays it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

#: Called with the number of units done since the last call.
Advance = Callable[[int], None]
#: Called with a description and the total (None: unknown); the context yields an ``Advance``.
Progress = Callable[[str, int | None], AbstractContextManager[Advance]]


@contextlib.contextmanager
def silent(description: str, total: int | None = None) -> Iterator[Advance]:
    """The default for library calls: show nothing."""
    yield lambda done: None


@contextlib.contextmanager
def bar(description: str, total: int | None = None) -> Iterator[Advance]:
    """A bar on stderr, with rate and remaining time; nothing where none is seen."""
    from rich.console import Console

    console = Console(stderr=True)
    if not (sys.stderr.isatty() or console.is_jupyter):
        yield lambda done: None
        return
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
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(description, total=total)
        yield lambda done: progress.advance(task, done)
