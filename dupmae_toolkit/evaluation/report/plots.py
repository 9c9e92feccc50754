"""The plots of a report: intervals, differences of topics, precision by recall, counts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from dupmae_toolkit.evaluation.report.svg import CHARACTER, WIDTH, Drawing, ticks

#: The recalls at which precision is interpolated, as in trec_eval.
RECALLS = tuple(step / 10 for step in range(11))
#: ir_measures' names for the precision at these recalls.
CURVE = tuple(f"IPrec@{recall:.1f}" for recall in RECALLS)
_LABEL = 22  # characters
_ROW = 26.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 56.0, 16.0, 14.0, 44.0


class Spread(NamedTuple):
    """A labelled mean and its interval; low and high are None where there is none."""

    label: str
    mean: float
    low: float | None
    high: float | None


def intervals(
    name: str, title: str, axis: str, rows: Sequence[Spread], zero: bool = False
) -> Drawing:
    """Means and their intervals, a row each.

    zero: the rows are differences from a first run, which has no row, so a line is drawn at 0.
    """
    values = [v for row in rows for v in (row.mean, row.low, row.high) if v is not None]
    low, high = min([*values, *([0.0] if zero else [])]), max([*values, *([0.0] if zero else [])])
    room = (high - low) * 0.06 or 0.05
    low, high = low - room, high + room
    left = _LABEL * CHARACTER + 24
    drawing = Drawing(name, title, _said(axis, rows), _TOP + _ROW * len(rows) + _BOTTOM)
    bottom = _TOP + _ROW * len(rows)

    def x(value: float) -> float:
        return left + (value - low) / (high - low) * (WIDTH - 74 - left)

    _axis(drawing, [(x(v), v) for v in ticks(low, high)], bottom, axis, (left + WIDTH - 74) / 2)
    if zero:
        drawing.line(x(0), _TOP - 6, x(0), bottom, "zero")
    for place, row in enumerate(rows):
        y, series = _TOP + _ROW * (place + 0.5), place + zero  # one colour for a run in all plots
        drawing.text(left - 14, y + 4, row.label, "end", most=_LABEL)
        if row.low is not None and row.high is not None:
            drawing.polyline([(x(row.low), y), (x(row.high), y)], series)
            for end in (row.low, row.high):
                drawing.polyline([(x(end), y - 5), (x(end), y + 5)], series)
        drawing.marker(x(row.mean), y, series)
        value = f"{row.mean:+.4f}" if zero else f"{row.mean:.4f}"
        drawing.text(WIDTH - 8, y + 4, value, "end")
    return drawing


def _said(axis: str, rows: Sequence[Spread]) -> str:
    said = []
    for row in rows:
        bounds = "" if row.low is None else f" ({row.low:.4f} to {row.high:.4f})"
        said.append(f"{row.label}: {row.mean:.4f}{bounds}")
    return f"{axis}. {'; '.join(said)}."


def _axis(
    drawing: Drawing, places: Sequence[tuple[float, float]], bottom: float, axis: str, middle: float
) -> None:
    """Draw ticks with their numbers below a plot, and the name of the axis."""
    for x, value in places:
        drawing.line(x, _TOP - 6, x, bottom)
        drawing.text(x, bottom + 17, f"{value:g}", "middle", "faint")
    drawing.text(middle, bottom + 37, axis, "middle", "faint")


def differences(name: str, title: str, measure: str, values: Mapping[str, float]) -> Drawing:
    """The differences of a run from the baseline, a bar for each topic, largest gain first.

    values: by topic. Gains are above the line, losses below it.
    """
    falling = sorted(values.values(), reverse=True)
    gains = sum(value > 0 for value in falling)
    losses = sum(value < 0 for value in falling)
    reach = max(map(abs, falling), default=0) or 1.0
    height = 190.0
    said = (
        f"Differences of {measure} in {len(falling):,} topics: {gains:,} better, {losses:,} worse, "
        f"{len(falling) - gains - losses:,} alike; from {falling[0]:+.4f} to {falling[-1]:+.4f}."
        if falling
        else f"No topics to compare by {measure}."
    )
    drawing = Drawing(name, title, said, _TOP + height + _BOTTOM)
    bottom, span = _TOP + height, WIDTH - _LEFT - _RIGHT

    def y(value: float) -> float:
        return _TOP + height * (1 - (value / reach + 1) / 2)

    for value in ticks(-reach, reach):
        drawing.line(_LEFT, y(value), WIDTH - _RIGHT, y(value))
        drawing.text(_LEFT - 6, y(value) + 4, f"{value:+g}" if value else "0", "end", "faint")
    step = span / max(1, len(falling))
    gap = 0.15 * step if step > 3 else 0.0
    for colour, start, part in ((0, 0, falling[:gains]), (1, len(falling) - losses, None)):
        bars = falling[start:] if part is None else part
        points: list[tuple[float, float]] = []
        for place, value in enumerate(bars, start):
            near, far = _LEFT + step * place + gap, _LEFT + step * (place + 1) - gap
            points += [(near, y(0)), (near, y(value)), (far, y(value)), (far, y(0))]
        if points:
            drawing.area(points, colour)
    drawing.line(_LEFT, y(0), WIDTH - _RIGHT, y(0), "zero")
    drawing.text(_LEFT, bottom + 17, f"{gains:,} better")
    drawing.text(WIDTH - _RIGHT, bottom + 17, f"{losses:,} worse", "end")
    axis = f"topics, by difference of {measure}"
    drawing.text((_LEFT + WIDTH - _RIGHT) / 2, bottom + 37, axis, "middle", "faint")
    return drawing


def curves(name: str, title: str, lines: Mapping[str, Sequence[float]]) -> Drawing:
    """Interpolated precision at the recalls of ``RECALLS``, a line for each run."""
    height, columns = 260.0, 2
    rows = -(-len(lines) // columns)
    said = "; ".join(
        f"{label}: {', '.join(f'{value:.2f}' for value in values)}"
        for label, values in lines.items()
    )
    said = f"Interpolated precision at recall 0, 0.1, … 1. {said}."
    drawing = Drawing(name, title, said, _TOP + height + _BOTTOM + 10 + 20 * rows)
    bottom, span = _TOP + height, WIDTH - _LEFT - _RIGHT
    for value in ticks(0, 1):
        y = bottom - height * value
        drawing.line(_LEFT, y, WIDTH - _RIGHT, y)
        drawing.text(_LEFT - 6, y + 4, f"{value:g}", "end", "faint")
    places = [(_LEFT + span * recall, recall) for recall in RECALLS[::2]]
    axis = "recall (across), interpolated precision (up)"
    _axis(drawing, places, bottom, axis, _LEFT + span / 2)
    for series, (label, values) in enumerate(lines.items()):
        points = [
            (_LEFT + span * recall, bottom - height * value)
            for recall, value in zip(RECALLS, values, strict=True)
        ]
        drawing.polyline(points, series)
        for x, y in points:
            drawing.marker(x, y, series)
        x = _LEFT + span / columns * (series % columns)
        y = bottom + _BOTTOM + 12 + 20 * (series // columns)
        drawing.polyline([(x, y - 4), (x + 30, y - 4)], series)
        drawing.marker(x + 15, y - 4, series)
        drawing.text(x + 38, y, label, most=30)
    return drawing


def counts(name: str, title: str, axis: str, rows: Mapping[str, int]) -> Drawing:
    """Numbers of topics, a bar for each row."""
    most = max(rows.values(), default=0) or 1
    left = _LABEL * CHARACTER + 24
    said = "; ".join(f"{label}: {count:,}" for label, count in rows.items())
    drawing = Drawing(name, title, f"{axis}. {said}.", _TOP + _ROW * len(rows) + 12)
    for place, (label, count) in enumerate(rows.items()):
        y = _TOP + _ROW * place
        width = (WIDTH - left - 70) * count / most
        drawing.text(left - 14, y + 14, label, "end", most=_LABEL)
        drawing.rectangle(left, y + 2, width, 15, 0)
        drawing.text(left + width + 8, y + 14, f"{count:,}")
    return drawing
