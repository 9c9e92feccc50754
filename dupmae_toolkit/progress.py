"""The interface by which long-running work reports progress, whoever displays it."""

from __future__ import annotations

import contextlib
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
