"""A problem of an index, as `dupmae verify` lists it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.layout import IDS
from dupmae_toolkit.index.manifest import SegmentEntry
from dupmae_toolkit.index.segment import Segment

_IDS_SHOWN, _LONGEST_ID = 10, 60


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file or folder of an index, and what to do about it.

    path: relative to the index. kind: ``damaged``, a file that the manifest names is missing or has
    changed since it was written; ``stray``, a file that the manifest does not name; ``apart``, the
    files of a segment are unchanged but disagree; ``manifest``, the manifest itself; ``form``, the
    manifest says the same in other bytes.
    """

    path: str
    fault: str
    kind: str = "damaged"
    remedy: str = ""

    @classmethod
    def of(cls, path: str, error: DupMAEError, kind: str = "damaged") -> Problem:
        """The problem that an error reports."""
        if isinstance(error, InputError) and error.path is not None:
            return cls(path, f"{error.path}: {error.fault}", kind, error.remedy)
        return cls(path, str(error), kind)

    @property
    def message(self) -> str:
        """Fault and remedy, in one line."""
        return f"{self.fault}; {self.remedy}" if self.remedy else self.fault

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def held_by(index: Path, entry: SegmentEntry, bad: Collection[str]) -> str:
    """The documents whose texts a segment lost, to append to a message; "" if they are unknown.

    bad: the paths of damaged files.
    """
    ids = f"{entry.path}/{IDS}"
    if ids in bad:
        return ""
    try:
        names = Segment.open(index / entry.path).ids
        dead = None if entry.deletions in bad else read_deletions(index, entry)
    except DupMAEError:
        return ""
    held = some_ids(names, () if dead is None else set(dead.tolist()))
    return f"; it held {held} (all its ids are in {ids}, one per line)"


def some_ids(ids: Sequence[str], dead: Collection[int] = ()) -> str:
    """The number of live documents, and the first of their ids; ``dead``: the deleted rows."""
    live = [name for row, name in enumerate(ids) if row not in dead]
    shown = [name if len(name) <= _LONGEST_ID else f"{name[:_LONGEST_ID]}…" for name in live]
    more = len(live) - _IDS_SHOWN
    names = ", ".join(shown[:_IDS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"{counted(len(live), 'document')}, {names}"
