"""All methods of fusion, by name."""

from __future__ import annotations

from collections.abc import Collection

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.fusing.method import Method
from dupmae_toolkit.fusing.methods import (
    distribution,
    order_statistics,
    rank_biased,
    reciprocal,
    sums,
    voting,
)

METHODS: dict[str, Method] = {
    method.name: method
    for module in (sums, order_statistics, reciprocal, rank_biased, voting, distribution)
    for method in module.METHODS
}


def unknown(what: str, value: str, choices: Collection[str]) -> InputError:
    """The error for a value that is not among ``choices``; it suggests the closest one."""
    import difflib

    close = difflib.get_close_matches(str(value).casefold(), choices, 1)
    meant = f"did you mean {close[0]}? " if close else ""
    return InputError(f"there is no {what} {value!r}; {meant}choose one of {', '.join(choices)}")
