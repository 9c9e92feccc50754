"""A plot of a measure by a weight, exact at every place, with the plateau that was chosen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.line_search import Curve
from dupmae_toolkit.evaluation.report.svg import WIDTH, Drawing, ticks
from dupmae_toolkit.evaluation.tuning_topics import Topic

#: Weights are drawn from the chosen one divided by this to it times this.
_REACH = 16.0
_COLUMNS = 560
_LEFT, _RIGHT, _TOP, _HEIGHT, _BOTTOM = 66.0, 16.0, 14.0, 190.0, 61.0


class Line(NamedTuple):
    """A weight and how the mean depends on it while the others stay.

    label: its part or run. weight: the chosen one. others: the sum of the other weights.
    """

    label: str
    weight: float
    others: float
    curve: Curve


def lines_of(
    labels: Sequence[str], topics: Sequence[Topic], weights: Sequence[float]
) -> list[Line]:
    """A line for each weight; of two, only for the second, which is one minus the first."""
    parts = range(len(weights)) if len(weights) > 2 else (1,)
    found = []
    for part in parts:
        drawn = tuning.curve_of(topics, weights, part)
        if drawn is not None:
            others = float(sum(weights)) - float(weights[part])
            found.append(Line(labels[part], float(weights[part]), others, drawn))
    return found


def weight_plot(line: Line, measure: str, value: float | None = None, of: int = 0) -> Drawing:
    """The mean by one weight, as a difference from the mean at the chosen one.

    value: the mean there; given, the axis shows means. of: the number of the drawing.

    The chosen weight has a mark, and its plateau a bar below. Weights are drawn on a logarithmic
    scale, or as shares from 0 to 1 where the chosen one is 0 or the weights sum to 1.
    """
    by_share = line.weight <= 0 or abs(line.weight + line.others - 1) < 1e-9
    total = line.weight + line.others
    here = line.weight / total
    low, high = line.curve.around(here)

    def place(share: float) -> float:
        if by_share:
            return share
        with np.errstate(divide="ignore"):
            factor = np.float64(share) / (1 - np.float64(share)) * line.others / line.weight
            across = np.log(factor) / (2 * np.log(_REACH)) + 0.5
        return float(np.clip(across, 0, 1))

    columns = (np.arange(_COLUMNS) + 0.5) / _COLUMNS
    if by_share:
        shares = columns
    else:
        drawn = line.weight * _REACH ** (2 * columns - 1)
        shares = drawn / (drawn + line.others)
    at = np.minimum(np.searchsorted(line.curve.highs, shares), len(line.curve.means) - 1)
    chosen = float(line.curve.means[_index(line.curve, here)])
    start = value if value is not None else 0.0
    heights = line.curve.means[at] - chosen + start
    bottom, top = float(min(heights.min(), start)), float(max(heights.max(), start))
    room = (top - bottom) * 0.06 or 0.01
    bottom, top = bottom - room, top + room
    what = measure if value is not None else f"{measure}, difference from the best"
    said = (
        f"{what}, by the weight of {line.label}; the chosen one is {line.weight:.4g}, "
        f"as good {_between(line, low, high)}. The least that is drawn is {heights.min():.4f}."
    )
    name = f"weight-{of}"
    drawing = Drawing(name, f"Weight of {line.label}", said, _TOP + _HEIGHT + _BOTTOM)
    span = WIDTH - _LEFT - _RIGHT

    def y(height: float) -> float:
        return _TOP + _HEIGHT * (top - height) / (top - bottom)

    for height in ticks(bottom, top):
        drawing.line(_LEFT, y(height), WIDTH - _RIGHT, y(height))
        shown = f"{height:.4g}" if value is not None or not height else f"{height:+.4g}"
        drawing.text(_LEFT - 6, y(height) + 4, shown, "end", "faint")
    floor = _TOP + _HEIGHT
    for across, text in _marks(line, by_share):
        x = _LEFT + span * across
        drawing.line(x, floor, x, floor + 4)
        drawing.text(x, floor + 17, text, "end" if across == 1 else "middle", "faint")
    drawing.polyline(
        [(_LEFT + span * x, y(v)) for x, v in zip(columns, heights.tolist(), strict=True)], 0
    )
    left, right = _LEFT + span * place(low), _LEFT + span * place(high)
    drawing.rectangle(left - 1, floor - 5, max(2.0, right - left + 2), 5, 1)
    drawing.marker(_LEFT + span * place(here), y(start), 1)
    axis = f"weight of {line.label} (across), {what} (up)"
    drawing.text(_LEFT + span / 2, floor + 37, axis, "middle", "faint", 80)
    legend = "the mark: the chosen weight; the bar below: all weights that are as good"
    drawing.text(_LEFT + span / 2, floor + 54, legend, "middle", "faint", 80)
    return drawing


def _index(curve: Curve, share: float) -> int:
    return min(int(np.searchsorted(curve.highs, share)), len(curve.means) - 1)


def _between(line: Line, low: float, high: float) -> str:
    ends = [share / (1 - share) * line.others if share < 1 else np.inf for share in (low, high)]
    return f"from {ends[0]:.4g} to {ends[1]:.4g}" if ends[1] < np.inf else f"from {ends[0]:.4g} on"


def _marks(line: Line, by_share: bool) -> list[tuple[float, str]]:
    if by_share:
        return [(share, f"{share:g}") for share in ticks(0, 1)]
    steps = (-1.0, -0.5, 0.0, 0.5, 1.0)
    return [((step + 1) / 2, _number(line.weight * _REACH**step)) for step in steps]


def _number(weight: float) -> str:
    return f"{weight:,.0f}" if 1000 <= weight < 1e9 else f"{weight:.3g}"
