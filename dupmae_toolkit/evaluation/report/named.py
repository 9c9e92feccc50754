"""The files that a run's metadata names: which of them a report may follow.

A folder of runs may come from somebody else, and the page is made to be sent on. So a name is
followed only to what lies in the folder of runs or below the current folder.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

#: Characters of a path that a note shows.
_SHOWN = 100


@dataclass(slots=True)
class Named:
    """What may be read. queries, index: named by the user, so anywhere on the machine.

    folder: the folder of runs. trusted: the caller made the runs, and all that they name is read.
    """

    folder: Path
    queries: str | None = None
    index: Path | None = None
    trusted: bool = False
    _roots: list[str] = field(init=False)

    def __post_init__(self) -> None:
        self._roots = [os.path.realpath(self.folder), os.path.realpath(".")]

    def refusal(self, stated: str) -> str | None:
        """Why an existing file or folder is not read, in words; None: it is read.

        Refused are paths with ``..``, paths that lie outside, and links that lead outside.
        """
        if self.trusted:
            return None
        short = stated if len(stated) <= _SHOWN else f"{stated[:_SHOWN]}…"
        if ".." in Path(stated).parts or not self._holds(stated):
            return f"{short} is neither in the folder of runs nor below the current folder"
        for place, folders, files in os.walk(stated):
            for name in (*folders, *files):
                path = os.path.join(place, name)
                if os.path.islink(path) and not self._holds(path):
                    return f"{short} has a link in it that leads elsewhere"
        return None

    def _holds(self, path: str) -> bool:
        real = os.path.realpath(path)
        try:
            return any(os.path.commonpath([root, real]) == root for root in self._roots)
        except ValueError:  # on another drive of Windows
            return False


def is_here(source: str) -> bool:
    """Whether a name is that of a file or folder on this machine.

    A name that begins with two slashes may be that of another machine, which is not asked.
    """
    if source[:2] in ("//", "\\\\"):
        return False
    try:
        return os.path.exists(source)
    except ValueError:  # with a null character
        return False
