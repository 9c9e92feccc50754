"""Which cards belong to the runs of a report."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.card_reading import read_card
from dupmae_toolkit.evaluation.cards import FOLDER_CARD


def cards_of(
    folder: Path, runs: Sequence[Path], group: Path | None = None
) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """The cards of runs by the names of their files, and notes on those that are not shown.

    A card is shown if it names one of the runs, and all that it names of them are as they were.
    folder: that of the runs. group: the folder above it, with the card of a group of data sets.
    """
    own = {path.resolve() for path in runs}
    cards: dict[str, dict[str, Any]] = {}
    notes = []
    places = [*sorted(folder.glob("*.card.json")), folder / FOLDER_CARD]
    places += [group / FOLDER_CARD] if group is not None else []
    for path in (each for each in places if each.is_file()):
        try:
            card = read_card(path)
        except InputError:
            notes.append(f"{path.name} is not shown: it is no card of this toolkit.")
            continue
        shared = {name for name in card.found() if (path.parent / name).resolve() in own}
        if shared & set(card.strangers()):
            notes.append(f"{path.name} is not shown: the runs are not those it names.")
        elif shared:
            cards[path.name] = card.told
    return cards, notes
