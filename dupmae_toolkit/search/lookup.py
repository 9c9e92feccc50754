"""An index asked by id: documents, and what queries give to documents that they may not find."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.records import Document, Query, Ranking
from dupmae_toolkit.search.engine import Request
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.queries import leg_inputs

_ROWS = 4096  # documents that are read together


class Lookup:
    """The documents of an index by their ids, as it is now; deleted ones are not there."""

    def __init__(self, index: HybridIndex) -> None:
        self.index = index
        self._view = index._view
        self._numbering = self._view.numbering

    def number(self, name: str) -> int | None:
        """The number of a document, or None; rows of a segment lie in the order of their ids."""
        numbering = self._numbering
        for segment, ids in enumerate(numbering._ids):
            row = bisect_left(ids, name)
            live = numbering.live[segment]
            if row < len(ids) and ids[row] == name and (live is None or live[row]):
                return int(numbering.offsets[segment]) + row
        return None

    def documents(self, names: Iterable[str]) -> dict[str, Document]:
        """The documents of those ids that are there."""
        numbers = [number for name in names if (number := self.number(name)) is not None]
        found = self._view.documents(np.array(sorted(numbers), dtype=np.int64))
        return {document.id: document for document in found}

    def search(
        self, queries: Sequence[Query], names: Sequence[Sequence[str]], request: Request
    ) -> list[tuple[Ranking, dict[str, float]]]:
        """Each query's ranking, and the scores of documents that are named for it.

        The scores are those that the ranking would show, whether or not it is deep enough; ids that
        are not there have none.
        """
        index = self.index
        vectors = index._vectors(queries)
        dense, lexical = leg_inputs(vectors, request.mode, self._view.manifest.max_impact)
        engine = self._view.engine(request.mode)
        answers = engine.search(dense, lexical, request)
        results = []
        for row, (answer, asked) in enumerate(zip(answers, names, strict=True)):
            numbers = {name: number for name in asked if (number := self.number(name)) is not None}
            scores = engine.score(
                None if dense is None else dense[row],
                None if lexical is None else lexical[row],
                np.array(list(numbers.values()), dtype=np.int64),
                request,
            )
            ranking = Ranking(self._numbering.ids(answer.documents), answer.scores)
            results.append((ranking, dict(zip(numbers, scores.tolist(), strict=True))))
        return results


class IndexedCorpus(Corpus):
    """The documents that an index holds, as a corpus."""

    def __init__(self, index: HybridIndex) -> None:
        self._view = index._view
        self.name = index.path.name
        self.source = str(index.path)

    def count(self) -> int:
        return len(self._view)

    def numbered(self) -> Iterator[tuple[int, Document]]:
        numbering = self._view.numbering
        for segment, live in enumerate(numbering.live):
            offset = int(numbering.offsets[segment])
            size = int(numbering.offsets[segment + 1]) - offset
            rows = np.arange(size) if live is None else np.flatnonzero(live)
            for start in range(0, len(rows), _ROWS):
                numbers = rows[start : start + _ROWS] + offset
                documents = self._view.documents(numbers)
                yield from zip((numbers + 1).tolist(), documents, strict=True)
