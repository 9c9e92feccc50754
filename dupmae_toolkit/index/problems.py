"""What can be wrong with an index, and what to do about it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.dense import IDS_FILE, INDEX_FILE
from dupmae_toolkit.index.documents import FILE
from dupmae_toolkit.index.forward import DENSE_FILE
from dupmae_toolkit.index.manifest import DELETIONS_FOLDER, REBUILD
from dupmae_toolkit.index.segment import FAISS_FOLDER, FORWARD_FOLDER, LUCENE_FOLDER

# The parts of a segment, which are damaged and rebuilt as wholes. Deletions lie beside it.
IDS = f"{FAISS_FOLDER}/{IDS_FILE}"
VECTORS = f"{FAISS_FOLDER}/{INDEX_FILE}"
DENSE = f"{FORWARD_FOLDER}/{DENSE_FILE}"
IMPACTS = f"{FORWARD_FOLDER}/impacts"
LUCENE, DOCUMENTS, DELETIONS = LUCENE_FOLDER, FILE, DELETIONS_FOLDER

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
        """A problem that shows in an error."""
        if isinstance(error, InputError) and error.path is not None:
            return cls(path, f"{error.path}: {error.fault}", kind, error.remedy)
        return cls(path, str(error), kind)

    @property
    def message(self) -> str:
        """Fault and remedy, in one line."""
        return f"{self.fault}; {self.remedy}" if self.remedy else self.fault

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def part_of(name: str) -> str:
    """The part of a segment that a file belongs to; ``name``: its path in the segment's folder."""
    for part in (LUCENE, IMPACTS):
        if name.startswith((f"{part}/", f"{part}-")):
            return part
    return name


def some_ids(ids: Sequence[str], dead: Collection[int] = ()) -> str:
    """How many of these documents live, and the first of their ids; ``dead``: rows that do not."""
    living = [name for row, name in enumerate(ids) if row not in dead]
    shown = [name if len(name) <= _LONGEST_ID else f"{name[:_LONGEST_ID]}…" for name in living]
    more = len(living) - _IDS_SHOWN
    names = ", ".join(shown[:_IDS_SHOWN]) + (f" and {more:,} more" if more > 0 else "")
    return f"1 document, {names}" if len(living) == 1 else f"{len(living):,} documents, {names}"


def wrong_size(path: Path, stated: dict[str, Any]) -> str:
    """What a look at a file's size tells, "" if nothing; ``stated``: the manifest's word on it."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return "is missing"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if size != stated["bytes"]:
        return f"has {size:,} bytes instead of {stated['bytes']:,}"
    return ""


REPAIR = "run `dupmae verify --repair`"


def way_out(name: str) -> str:
    """What to do about a file that is damaged; ``name``: its path relative to the index."""
    if name.startswith(f"{DELETIONS_FOLDER}/"):
        return (
            "which documents were deleted stands nowhere else: put the file back from a copy, or "
            f"{REBUILD}"
        )
    if name.endswith(f"/{DOCUMENTS}"):
        return (
            "its texts stand nowhere else: put the file back from a copy, or add its documents "
            "again with --replace (replace=True)"
        )
    return REPAIR
