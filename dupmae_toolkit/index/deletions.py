"""The deleted rows of a segment, in a file outside it: a segment itself never changes.

Each change writes a new file under a new name, and the manifest names the current one. So an open
searcher keeps the deletions that it was opened with.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_file, save_array
from dupmae_toolkit.index.forward import read_array
from dupmae_toolkit.index.layout import deletions_path
from dupmae_toolkit.index.manifest import SegmentEntry


def write_deletions(index: Path, segment: str, generation: int, rows: np.ndarray) -> str:
    """Write the rows (ascending) of ``segment``; returns the file's path relative to ``index``."""
    name = deletions_path(segment, generation)
    with atomic_file(index / name) as temporary:
        save_array(temporary, np.asarray(rows, np.int64))
    return name


def read_deletions(index: Path, entry: SegmentEntry) -> np.ndarray | None:
    """The deleted rows of a segment, int64, ascending; None if there are none.

    Raises InputError for a file that is missing, damaged, or inconsistent with the manifest.
    """
    if not entry.deletions:
        return None
    path = Path(index) / entry.deletions
    rows = read_array(path, "i")
    fits = rows.dtype == np.int64 and len(rows) == entry.dead > 0
    if not fits or rows[0] < 0 or rows[-1] >= entry.count or (np.diff(rows) <= 0).any():
        raise InputError(
            f"{path}: does not name {entry.dead} of the {entry.count} documents of segment "
            f"{entry.name}; run `dupmae verify` on the index"
        )
    return rows
