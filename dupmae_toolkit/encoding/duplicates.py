"""Find duplicates among millions of ids, in eight bytes per id."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np


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
