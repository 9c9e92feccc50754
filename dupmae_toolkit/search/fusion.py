"""The fusions that a search of an index can use, and how their weights are written.

Each adds up what the parts of a score contribute, so that a hit can be explained. Scores that a leg
did not return are computed before they are fused.
"""

from __future__ import annotations

from typing import Literal, get_args

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.fusion import SEARCH_TIES as TIES
from dupmae_toolkit.fusing.fusion import Fusion

Method = Literal["sum", "linear", "rrf", "combsum", "combmnz"]
METHODS: tuple[str, ...] = get_args(Method)
NORMS = ("none", "min-max", "z-score")

__all__ = ["METHODS", "NORMS", "TIES", "Fusion", "Method", "not_searched", "parse_weights"]


def not_searched(fusion: Fusion) -> InputError:
    """The error for a fusion that is possible only with runs."""
    what, name, choices = "fusion", fusion.method, METHODS
    if fusion.method in METHODS:
        what, name, choices = "norm", fusion.normalisation, NORMS
    return InputError(
        f"a search of an index has no {what} {name}; choose one of {', '.join(choices)}, or fuse "
        "the runs of the parts (`dupmae fuse`)"
    )


def parse_weights(
    text: str | None, example: str = "40,1,1.5", what: str = "weights"
) -> tuple[float, ...] | None:
    """Weights from the command line. example, what: an example and their name, for messages."""
    if text is None:
        return None
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError as error:
        raise InputError(
            f"{what} {text!r} are not numbers separated by commas, such as {example}"
        ) from error
