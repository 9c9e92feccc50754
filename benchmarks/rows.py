"""One line of the table: the same work done twice, and the ratio."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Row:
    """Seconds of the wall clock for the same work; ``same`` tells whether the results agree."""

    work: str
    peer: str
    ours_s: float
    peer_s: float
    same: str

    @property
    def ratio(self) -> float:
        """How many times faster ours is."""
        return self.peer_s / self.ours_s


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds of one call."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def table(rows: list[Row]) -> str:
    """Markdown, as it is shown in the documentation."""
    lines = ["| work | peer | ours, s | peer, s | ratio | results |", "|---|---|---|---|---|---|"]
    lines += [
        f"| {r.work} | {r.peer} | {r.ours_s:.2f} | {r.peer_s:.2f} | {r.ratio:.1f}× | {r.same} |"
        for r in rows
    ]
    return "\n".join(lines)
