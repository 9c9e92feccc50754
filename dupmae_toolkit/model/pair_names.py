"""The name of a pair of encoders, told from that of one, without torch."""

from __future__ import annotations

import os

#: What stands between the names of the two encoders of a pair.
SIGN = "+"


def names_of_pair(name: str) -> tuple[str, str] | None:
    """The names of the two encoders; None if ``name`` is that of one, or of a folder.

    A folder's name may hold the sign too: a half that is a folder is preferred.
    """
    if SIGN not in name or os.path.isdir(os.path.expanduser(name)):
        return None
    halves = name.split(SIGN)
    splits = [
        (SIGN.join(halves[:place]), SIGN.join(halves[place:])) for place in range(1, len(halves))
    ]
    splits = [pair for pair in splits if all(pair)]
    known = [pair for pair in splits if all(os.path.isdir(os.path.expanduser(p)) for p in pair)]
    found = known or splits
    return found[0] if found else None


def labelled_folders(label: str, model: str) -> list[tuple[str, str]]:
    """The folders that ``model`` names, each under ``label``, or ``label 1`` and ``label 2``.

    Names that are no folders, such as ids of the hub, are left out.
    """
    pair = names_of_pair(model)
    named = [(label, model)] if pair is None else [(f"{label} {n}", pair[n - 1]) for n in (1, 2)]
    return [(name, path) for name, path in named if os.path.isdir(path)]
