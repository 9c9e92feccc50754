"""What `dupmae tune` prints, draws and says."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_cli import console
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.bootstrap import Interval
    from dupmae_toolkit.evaluation.index_tuning import IndexTuned
    from dupmae_toolkit.evaluation.query_weights import PerQuery
    from dupmae_toolkit.evaluation.tuned import Tuned
    from dupmae_toolkit.evaluation.tuning_topics import Topic
    from dupmae_toolkit.fusing.fusion import Fusion
    from dupmae_toolkit.index.scoring import Scoring


def numbers(option: str, text: str) -> tuple[float, ...]:
    """Numbers separated by commas. Raises InputError for anything else."""
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.fusion import parse_weights

    try:
        found = parse_weights(text)
    except InputError as error:
        raise InputError(
            f"{option} {text!r}: give numbers separated by commas, such as 0,0.5,1"
        ) from error
    assert found is not None
    return found


def check_plot(plot: Path) -> None:
    """Raise InputError, before the work begins, for a file that can get no plot."""
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.files import check_file_output

    if plot.suffix.lower() != ".svg":
        raise InputError(f"--plot {plot}: a plot is SVG; name a file that ends in .svg")
    check_file_output(plot, "the plot")


def report_runs(
    labels: Sequence[str], tuned: Tuned, training_figure: bool, plot: Path | None, json: bool
) -> None:
    """Report the weights of runs."""
    value = tuned.training_figure if training_figure else None
    _draw(plot, labels, tuned.topics, tuned.weights, tuned.measure, value)
    if json:
        document = {
            "weights": dict(zip(labels, tuned.weights, strict=True)),
            "measure": tuned.measure,
            "value": tuned.held_out.mean,
            "interval": _bounds(tuned.held_out),
            **_setting(tuned.fusion),
            "plateau": tuned.plateau and list(tuned.plateau),
            "folds": tuned.folds,
            "topics": tuned.held_out.topics,
            "starts": tuned.starts,
        }
        console.print_json(document | ({"training_figure": value} if training_figure else {}))
        return
    _table(labels, tuned.weights)
    print(_named(tuned.fusion))
    if tuned.plateau:
        low, high = _range(*tuned.plateau)
        print(f"as good: weights of {labels[1]} from {low} to {high}")
    print(f"{tuned.measure} {_figure(tuned.held_out)}, held out in {tuned.folds} folds")
    if value is not None:
        print(f"{tuned.measure} {value:.4f}, training figure: on the topics tuned on")
    _say_starts(tuned.starts)


def report_index(
    index: Path,
    tuned: IndexTuned,
    saved: tuple[Scoring, Scoring] | None,
    training_figure: bool,
    plot: Path | None,
    json: bool,
) -> None:
    """Report the weights of an index's parts. saved: its score before and after, if it changed."""
    value = tuned.training_figure if training_figure else None
    weights = tuned.fusion.weights or ()
    _draw(plot, tuned.parts, tuned.topics, weights, tuned.measure, value)
    _say_index(tuned)
    if saved is not None:
        before, after = saved
        console.say(f"{index}: weights were {_weights(before)}, are now {_weights(after)}")
        if not tuned.gain.is_above_zero:
            console.say("the gain is not above 0 with confidence: see its interval")
    if json:
        document: dict[str, Any] = {
            "index": str(index),
            "weights": tuned.weights,
            "measure": tuned.measure,
            "value": tuned.held_out.mean,
            "interval": _bounds(tuned.held_out),
            **_setting(tuned.fusion),
            "idf_power": tuned.idf_power,
            "plateaus": {
                part: None if plateau is None else [_finite(bound) for bound in plateau]
                for part, plateau in zip(tuned.parts, tuned.plateaus, strict=True)
            },
            "own": {"value": tuned.own.mean, "interval": _bounds(tuned.own)},
            "gain": {"value": tuned.gain.mean, "interval": _bounds(tuned.gain)},
            "folds": tuned.folds,
            "topics": tuned.held_out.topics,
            "left_out": tuned.left_out,
            "missing": tuned.missing,
            "starts": tuned.starts,
            "depth": tuned.depth,
            "deepened": tuned.deepened,
            "differing": tuned.differing,
        }
        if tuned.per_query is not None:
            document["per_query"] = _per_query(tuned.per_query)
        if saved is not None:
            document["saved"] = {
                name: {"weights": list(each.weights), "idf_power": each.idf_power}
                for name, each in zip(("before", "after"), saved, strict=True)
            }
        console.print_json(document | ({"training_figure": value} if training_figure else {}))
        return
    notes = []
    for plateau in tuned.plateaus:
        if plateau is None:
            notes.append("")
            continue
        low, high = _range(*plateau)
        notes.append(f"as good from {low} {'on' if high == 'inf' else f'to {high}'}")
    _table(tuned.parts, weights, notes)
    print(f"{_named(tuned.fusion)}, idf power {tuned.idf_power:g}")
    held = tuned.held_out
    print(
        f"{tuned.measure} {_figure(held)}, held out in {tuned.folds} folds of "
        f"{counted(held.topics, 'topic')}"
    )
    print(f"{tuned.measure} {_figure(tuned.own)} with the index's own weights")
    print(f"gain, held out: {_figure(tuned.gain, '+')}")
    if tuned.per_query is not None:
        found = tuned.per_query
        print(
            f"a dense weight per query: {_figure(found.predicted)}, held out; "
            f"{_figure(found.gain, '+')} over fixed weights"
        )
    if value is not None:
        print(f"{tuned.measure} {value:.4f}, training figure: on the topics tuned on")


def _say_index(tuned: IndexTuned) -> None:
    """Say what was left out, what does not agree, and how the weights were looked for."""
    for reason, count in tuned.left_out.items():
        if count:
            console.say(f"{reason}: {count:,}")
    if tuned.missing:
        console.say(f"relevant documents that are not in the index: {tuned.missing:,}")
    if tuned.deepened:
        console.say(
            f"documents outside the lists took part: lists made longer, to {tuned.depth:,} "
            "documents of each part"
        )
    if tuned.differing:
        console.say(
            f"{counted(tuned.differing, 'topic')}: a search with these weights measures otherwise "
            "than the candidates did"
        )
    _say_starts(tuned.starts)


def _say_starts(starts: int) -> None:
    if starts > 1:
        console.say(f"the best of {starts} starting points; no weight alone can be improved")


def _draw(
    plot: Path | None,
    labels: Sequence[str],
    topics: dict[str, Topic],
    weights: Sequence[float],
    measure: str,
    value: float | None,
) -> None:
    if plot is None:
        return
    from dupmae_toolkit.evaluation.report.svg import stacked
    from dupmae_toolkit.evaluation.report.weights import lines_of, weight_plot
    from dupmae_toolkit.files import atomic_file

    lines = lines_of(labels, list(topics.values()), weights)
    drawn = [weight_plot(line, measure, value, of) for of, line in enumerate(lines)]
    with atomic_file(plot) as temporary:
        temporary.write_text(stacked(drawn, f"{measure} by weight"), "utf-8")
    console.say(f"wrote {plot}")


def _table(labels: Sequence[str], weights: Sequence[float], notes: Sequence[str] = ()) -> None:
    shown = [f"{weight:.8g}" for weight in weights]
    width = max(map(len, shown))
    room = max(map(len, labels)) if notes else 0
    for label, weight, note in zip(labels, shown, notes or [""] * len(shown), strict=True):
        print(f"{weight:<{width}}  {label:<{room}}  {note}".rstrip())


def _named(fusion: Fusion) -> str:
    if fusion.method == "rrf":
        return f"rrf, k {fusion.rrf_k:g}"
    return f"norm {fusion.normalisation}"


def _setting(fusion: Fusion) -> dict[str, Any]:
    setting: dict[str, Any] = {"fusion": fusion.method, "norm": fusion.normalisation}
    if fusion.method == "rrf":
        setting = {"fusion": "rrf", "norm": None, "rrf_k": fusion.rrf_k}
    return setting


def _weights(scoring: Scoring) -> str:
    weights = ",".join(f"{weight:g}" for weight in scoring.weights)
    return f"{weights} (idf power {scoring.idf_power:g})"


def _range(low: float, high: float) -> tuple[str, str]:
    """The bounds of a range with as many digits as keep its width to a tenth, at least three."""
    width = high - low if math.isfinite(high) else low
    for digits in range(3, 17):
        shown = f"{low:.{digits}g}", f"{high:.{digits}g}"
        off = abs(float(shown[0]) - low)
        off += abs(float(shown[1]) - high) if math.isfinite(high) else 0.0
        if off <= width / 10:
            break
    return shown


def _figure(value: Interval, sign: str = "") -> str:
    bounds = "" if value.low is None else f" ({value.low:{sign}.4f} to {value.high:{sign}.4f})"
    return f"{value.mean:{sign}.4f}{bounds}"


def _bounds(value: Interval) -> list[float | None] | None:
    return None if value.low is None else [value.low, value.high]


def _finite(bound: float) -> float | None:
    return bound if math.isfinite(bound) else None


def _per_query(found: PerQuery) -> dict[str, Any]:
    return {
        "fixed": {"value": found.fixed.mean, "interval": _bounds(found.fixed)},
        "value": found.predicted.mean,
        "interval": _bounds(found.predicted),
        "gain": {"value": found.gain.mean, "interval": _bounds(found.gain)},
        "folds": found.folds,
        "predicting": found.predicting,
    }
