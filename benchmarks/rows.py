"""Rows of the table, each the same work by ours and by a peer: sizes, timing and printing."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True, slots=True)
class Sizes:
    """How many documents and queries to measure with. large: ten times more where it applies."""

    documents: int
    queries: int
    large: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """What the same work costs ours and a peer; ``same`` says whether the results agree.

    ours, theirs: in ``unit``, by default seconds of wall-clock time; less is better. None if not
    measured; ``same`` then says why. details: further measurements, for --json.
    """

    work: str
    peer: str
    ours: float | None
    theirs: float | None
    same: str
    unit: str = "s"
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def ratio(self) -> float | None:
        """How many times better ours is; None where one of the two is missing."""
        if self.ours is None or self.theirs is None or self.ours <= 0:
            return None
        return self.theirs / self.ours

    def to_dict(self) -> dict[str, Any]:
        return asdict(self) | {"ratio": self.ratio}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Row:
        return cls(**{name: values[name] for name in cls.__dataclass_fields__})


def table(rows: Sequence[Row]) -> str:
    """Markdown, as in the documentation."""
    lines = ["| work | peer | ours | peer's | ratio | results |", "|---|---|---|---|---|---|"]
    for row in rows:
        ratio = "–" if row.ratio is None else f"{row.ratio:.2f}×"
        cells = [row.work, row.peer, _cell(row.ours, row.unit), _cell(row.theirs, row.unit)]
        lines.append("| " + " | ".join([*cells, ratio, row.same]) + " |")
    return "\n".join(lines)


def _cell(value: float | None, unit: str) -> str:
    """Three significant digits: a query takes milliseconds, an index minutes."""
    if value is None:
        return "–"
    if value >= 100:
        return f"{value:,.0f} {unit}"
    return f"{value:#.3g} {unit}".replace(". ", " ")


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    """The result and the seconds of one call."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def in_turns(rounds: int, *functions: Callable[[], Any]) -> tuple[list[Any], list[float]]:
    """The last result and the least seconds of each, in ``rounds`` rounds of one call each.

    Other load on the machine then slows all sides alike.
    """
    results: list[Any] = [None] * len(functions)
    best = [float("inf")] * len(functions)
    for _ in range(rounds):
        for number, function in enumerate(functions):
            results[number], seconds = timed(function)
            best[number] = min(best[number], seconds)
    return results, best


#: How many calls one side makes before it is the other's turn.
TURN = 25


def each_in_turn(
    count: int, *functions: Callable[[int], Any], warm: int = 3
) -> tuple[list[list[Any]], np.ndarray]:
    """Call each function with 0 … count - 1, in turns: results, and seconds [functions, count].

    A turn is ``TURN`` calls, because threads that one library leaves spinning would slow the next
    call of another. The ``warm`` calls before each turn are not timed.
    """
    results: list[list[Any]] = [[] for _ in functions]
    seconds = np.zeros((len(functions), count))
    for start in range(0, count, TURN):
        turn = range(start, min(start + TURN, count))
        for place, function in enumerate(functions):
            for number in turn[:warm]:
                function(number)
            for number in turn:
                result, seconds[place, number] = timed(lambda f=function, n=number: f(n))
                results[place].append(result)
    return results, seconds


def percentiles(seconds: np.ndarray) -> dict[str, float]:
    """p50, p95 and p99 of calls, in milliseconds."""
    values = np.percentile(np.asarray(seconds) * 1000, [50, 95, 99])
    return dict(zip(("p50_ms", "p95_ms", "p99_ms"), map(float, values), strict=True))


class NoPeerError(Exception):
    """A peer cannot run here; the message says why, in one line."""


@contextmanager
def peer_import(package: str) -> Iterator[None]:
    """Raise NoPeerError when the imports inside fail, for whatever reason."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name and error.name.partition(".")[0].lower() in package.lower().replace("-", "_"):
            raise NoPeerError(f"peer not installed: pip install {package}") from error
        raise NoPeerError(f"peer cannot be imported: {error}") from error
    except (Exception, SystemExit) as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise NoPeerError(f"peer cannot be imported: {reason}") from error


def against(work: str, peer: str, measure: Callable[[], Row | list[Row]]) -> list[Row]:
    """The rows of one peer; if it fails, one row that says so, and the others still run."""
    try:
        rows = measure()
    except NoPeerError as error:
        return [Row(work, peer, None, None, str(error))]
    except Exception as error:
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return [Row(work, peer, None, None, f"failed: {reason}")]
    return rows if isinstance(rows, list) else [rows]
