"""Find duplicates among millions of ids, in eight bytes per id, and leave them out if asked."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b

import numpy as np

from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.fields import Reading
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document

#: What to do with several documents of one id: refuse them, or keep one of them.
DUPLICATES = ("error", "first", "last")
_BATCH = 65_536


class IdRegister:
    """Remembers ids by a 64-bit hash, in sorted runs that are merged as they grow."""

    def __init__(self) -> None:
        self._runs: list[np.ndarray] = []

    def suspects(self, ids: list[str]) -> list[int]:
        """Add ids; return the positions of those whose hash occurred before, here or earlier.

        A suspect is a duplicate or, very rarely, a different id with the same hash. The caller
        can read the ids again and must check.
        """
        hashes = np.fromiter(
            (
                int.from_bytes(
                    blake2b(name.encode("utf-8", "surrogatepass"), digest_size=8).digest()
                )
                for name in ids
            ),
            np.uint64,
            len(ids),
        )
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        seen = np.zeros(len(ids), bool)
        seen[order[1:]] = ordered[1:] == ordered[:-1]
        for run in self._runs:
            places = np.minimum(np.searchsorted(run, hashes), len(run) - 1)
            seen |= run[places] == hashes
        if len(ids):
            self._runs.append(ordered)
        while len(self._runs) > 1 and len(self._runs[-2]) <= 2 * len(self._runs[-1]):
            merged = np.concatenate([self._runs.pop(), self._runs.pop()])
            merged.sort(kind="stable")
            self._runs.append(merged)
        return np.flatnonzero(seen).tolist()


class WithoutDuplicates(Corpus):
    """A corpus in which ids are unique: of the documents with one id, the first or last is kept.

    The corpus is read once more beforehand. Memory holds eight bytes per document, and the ids that
    occur repeatedly. ``dropped`` counts the documents that the last iteration left out.
    """

    def __init__(self, corpus: Corpus, keep: str) -> None:
        if keep not in ("first", "last"):
            raise InputError(f"duplicates {keep!r}: choose one of {', '.join(DUPLICATES)}")
        self.corpus, self.keep = corpus, keep
        self.name, self.source = corpus.name, corpus.source

    def numbered(self) -> Iterator[tuple[int, Document]]:
        last = self._repeated()
        seen: set[str] = set()
        self.dropped = 0
        for number, document in self.corpus.numbered():
            if document.id in last:
                first = document.id not in seen
                seen.add(document.id)
                if not (first if self.keep == "first" else number == last[document.id]):
                    self.dropped += 1
                    continue
            yield number, document

    def _repeated(self) -> dict[str, int]:
        """The ids that may occur repeatedly, with the number of the last document of each."""
        register, found = IdRegister(), {}
        numbers: list[int] = []
        ids: list[str] = []

        def look() -> None:
            found.update({ids[row]: numbers[row] for row in register.suspects(ids)})
            ids.clear()
            numbers.clear()

        for number, document in self.corpus.numbered():
            ids.append(document.id)
            numbers.append(number)
            if len(ids) == _BATCH:
                look()
        look()
        return found

    def where(self, number: int) -> tuple[str, int | None]:
        return self.corpus.where(number)

    # The corpus itself knows the rest.

    @property
    def skipped(self) -> int:  # type: ignore[override]
        return self.corpus.skipped

    @property
    def reading(self) -> Reading:  # type: ignore[override]
        return self.corpus.reading

    def left_out(self) -> str:
        return self.corpus.left_out()
