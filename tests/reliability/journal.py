"""What was committed, state by state, so that readers know what they must find.

Just before a writer writes a manifest, while it has the index locked, it notes the number of the
new generation and what this changes. If the writer is killed between note and manifest, the next
writer notes the same generation again. So if a generation exists, its last note is the right one.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from dupmae_toolkit.index.manifest import Manifest
from tests.reliability.world import Contents, contents, document


class Journal:
    """Lines of JSON that several processes append to."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def note(self, **values: Any) -> None:
        os.write(self._file, (json.dumps(values) + "\n").encode())

    def follow(self, change: dict[str, Any]) -> None:
        """Note ``change`` with the next manifest that this process writes, not with later ones."""
        pending = [change]
        save = _save

        def noted(manifest: Manifest, index: Path) -> None:
            self.note(generation=manifest.generation, **(pending.pop() if pending else {}))
            save(manifest, index)

        Manifest.save = noted  # type: ignore[method-assign]


_save = Manifest.save


class History:
    """The journal as a reader follows it: the documents of one generation after another."""

    def __init__(self, path: Path, start: Contents, generation: int) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""
        self._changes: dict[int, dict[str, Any]] = {}
        self._documents = dict(start)
        self._generation = generation
        self.acknowledged: list[dict[str, Any]] = []

    def at(self, generation: int) -> Contents:
        """The documents of a generation that exists; no call may ask for an earlier one again."""
        self._read()
        while self._generation < generation:
            self._generation += 1
            change = self._changes[self._generation]
            for name in change.get("delete", ()):
                self._documents.pop(name, None)
            made = [document(number, version) for number, version in change.get("put", ())]
            self._documents.update(contents(made))
        return self._documents

    def lost(self) -> list[str]:
        """The acknowledged changes that are in no state."""
        self._read()
        made = {change.get("change") for change in self._changes.values()}
        return [str(one) for one in self.acknowledged if one["acknowledged"] not in made]

    @property
    def added(self) -> int:
        """How many documents were added by acknowledged additions."""
        told = {one["acknowledged"] for one in self.acknowledged}
        made = [one for one in self._changes.values() if one.get("change") in told]
        return sum(len(one.get("put", ())) for one in made)

    def _read(self) -> None:
        with self._path.open("rb") as file:
            file.seek(self._offset)
            data = self._rest + file.read()
            self._offset = file.tell()
        *lines, self._rest = data.split(b"\n")
        for line in lines:
            values = json.loads(line)
            if "generation" in values:
                self._changes[values["generation"]] = values
            else:
                self.acknowledged.append(values)
