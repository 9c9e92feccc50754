"""Whether a repeated command gave what its card says: files byte for byte, figures, versions."""

from __future__ import annotations

import glob
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.evaluation.card_reading import Card
from dupmae_toolkit.evaluation.cards import fingerprint
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.records import Run

#: What an option was called in cards that were written before.
_BEFORE = {"DATASET": "FOLDER|ZIP|ID"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """One thing that was compared: a file by its checksum, or a figure.

    detail: how a run differs, if both runs are at hand.
    """

    name: str
    before: str | float
    now: str | float | None
    detail: str = ""

    @property
    def same(self) -> bool:
        if isinstance(self.before, float) and isinstance(self.now, float):
            return self.before == self.now or (math.isnan(self.before) and math.isnan(self.now))
        return self.before == self.now

    def to_dict(self) -> dict[str, Any]:
        values = {name: getattr(self, name) for name in self.__slots__}
        return values | {"same": self.same}


def check_inputs(card: Card, reads: Mapping[str, str]) -> list[str]:
    """Refuse a card whose inputs have changed. Returns the options whose input cannot be checked.

    reads: what the command reads, by option. Raises InputError that names what changed, is
    missing, or has no checksum though it is a file.
    """
    unchecked = []
    for option, path in reads.items():
        known = card.inputs.get(option) or card.inputs.get(_BEFORE.get(option, ""))
        stated, sha256 = known or (None, None)
        found = fingerprint(path)
        if stated != path:
            raise InputError.at(card.path, None, f"{option} {path} is not among its inputs")
        if path == "-":
            raise InputError.at(card.path, None, f"{option} was standard input, which is gone")
        if sha256 is None and (found is None or (glob.has_magic(path) and not Path(path).exists())):
            unchecked.append(option)
        elif sha256 is None:
            raise InputError.at(card.path, None, f"it has no checksum of {option} {path}")
        elif found is None:
            raise InputError.at(
                path,
                None,
                f"no such input ({option}); run this in the folder in which the command ran",
            )
        elif found["sha256"] != sha256:
            raise InputError.at(path, None, f"has changed since the card was written ({option})")
    return unchecked


def compare(card: Card, again: Card) -> list[Outcome]:
    """The card's files and figures, each with what the repetition gave (None: nothing).

    Before these, the files beside the card that are not the ones it was written for.
    """
    folder = again.path.parent
    here = card.found()
    found = [
        Outcome(name, card.outputs[name], here[name], "the file here is not the card's")
        for name in card.strangers()
    ]
    found += [
        Outcome(name, sha256, now, _detail(card, name, folder / name) if now != sha256 else "")
        for name, sha256 in card.outputs.items()
        for now in [sha256_file(folder / name) if (folder / name).is_file() else None]
    ]
    for label, values in card.figures.items():
        others = again.figures.get(label, {})
        found += [
            Outcome(f"{label} {name}", value, others.get(name)) for name, value in values.items()
        ]
    return found


def surroundings(card: Card, again: Card) -> list[str]:
    """Differences in versions, encoder and machine, a line each: they may be the reason."""
    lines = []
    for key in ("versions", "encoder", "machine"):
        before, now = card.told.get(key), again.told.get(key)
        if not isinstance(before, dict) or not isinstance(now, dict):
            continue
        lines += [
            f"{name}: {before.get(name)} before, {now.get(name)} now"
            for name in dict.fromkeys([*before, *now])
            if before.get(name) != now.get(name)
        ]
    return lines


def _detail(card: Card, name: str, path: Path) -> str:
    """How a new run differs from the one beside the card, if that one is unchanged."""
    old = card.path.parent / name
    if not path.is_file():
        return "was not written"
    if not old.is_file() or sha256_file(old) != card.outputs[name]:
        return "the card's own file is not there to compare with"
    try:
        return differing(read_run(old), read_run(path))
    except DupMAEError:
        return ""


def differing(before: Run, now: Run) -> str:
    """In how many topics two runs differ, by how much in a score, and where first."""
    topics = [
        topic
        for topic in dict.fromkeys([*before, *now])
        if topic not in before.topics
        or topic not in now.topics
        or before[topic].ids != now[topic].ids
        or not np.array_equal(before[topic].scores, now[topic].scores)
    ]
    if not topics:
        return "the same rankings, written otherwise"
    largest, first = 0.0, ""
    for topic in topics:
        if topic not in before.topics or topic not in now.topics:
            first = first or f"topic {topic} is in one of them only"
            continue
        old = dict(zip(before[topic].ids, before[topic].scores.tolist(), strict=True))
        new = dict(zip(now[topic].ids, now[topic].scores.tolist(), strict=True))
        common = old.keys() & new.keys()
        largest = max([largest, *(abs(old[each] - new[each]) for each in common)])
        if not first and before[topic].ids != now[topic].ids:
            pairs = zip(before[topic].ids, now[topic].ids, strict=False)
            shorter = min(len(before[topic]), len(now[topic]))
            rank = next((n for n, (a, b) in enumerate(pairs) if a != b), shorter) + 1
            first = f"topic {topic} from rank {rank:,}"
    differ = f"{counted(len(topics), 'topic')} differ{'s' if len(topics) == 1 else ''}"
    return f"{differ}, scores by up to {largest:.2g}" + (f"; {first}" if first else "")
