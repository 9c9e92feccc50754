"""What an open index holds: its documents and their fields; scores of documents for a query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.metadata import OWN_FIELDS
from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.records import Document, Query, Representations
from dupmae_toolkit.search.answers import PARTS, Request
from dupmae_toolkit.search.given import check_id, check_text, given_queries
from dupmae_toolkit.search.matching import check_field
from dupmae_toolkit.search.queries import Queries
from dupmae_toolkit.search.revising import inputs_of
from dupmae_toolkit.search.searcher import Searcher
from dupmae_toolkit.search.selection import kinds_in

if TYPE_CHECKING:
    from dupmae_toolkit.search.snapshot import Snapshot


class Contents(Searcher):
    """Returns documents, fields and scores. Subclasses hold the open state."""

    _snapshot: Snapshot

    def vectors(self, queries: Queries, parts: tuple[str, ...] = PARTS) -> Representations:
        """Both vectors of queries, checked."""
        raise NotImplementedError

    def _check_open(self) -> None:
        """Raise DupMAEError if the index was closed, or opened in another process."""
        raise NotImplementedError

    def __contains__(self, name: object) -> bool:
        """Whether a document with this id can be found."""
        self._check_open()
        return self._snapshot.has(check_id(name))

    @overload
    def get(self, ids: str) -> Document | None: ...  # type: ignore[overload-overlap]

    @overload
    def get(self, ids: Iterable[str]) -> dict[str, Document]: ...

    def get(self, ids: str | Iterable[str]) -> Document | dict[str, Document] | None:
        """The documents with these ids, by id; ids that are not in the index are left out.

        For a single id, its document, or None.
        """
        self._check_open()
        snapshot = self._snapshot
        names = list(map(check_id, [ids] if isinstance(ids, str) else ids))
        if snapshot.passages is not None:
            read = map(snapshot.whole, dict.fromkeys(names))
            whole = {each.id: each for each in read if each is not None}
            return whole.get(ids) if isinstance(ids, str) else whole
        numbers = {n for name in names if (n := snapshot.numbering.number(name)) is not None}
        found = snapshot.documents(np.array(sorted(numbers), dtype=np.int64))
        if isinstance(ids, str):
            return found[0] if found else None
        return {document.id: document for document in found}

    def word_frequencies(self, words: Iterable[str]) -> dict[str, int] | None:
        """How many documents have each word, as ``analysis.words`` gives it; None without BM25.

        If rows are passages, how many passages.
        """
        self._check_open()
        if self._snapshot.manifest.bm25 is None:
            return None
        wanted = list(dict.fromkeys(words))
        counts = self._snapshot.frequencies.of_words(wanted)
        return dict(zip(wanted, counts.tolist(), strict=True))

    @overload
    def scores(
        self, queries: str, ids: Iterable[str], request: Request | None = None
    ) -> dict[str, float]: ...

    @overload
    def scores(
        self, queries: Queries, ids: Sequence[Iterable[str]], request: Request | None = None
    ) -> list[dict[str, float]]: ...

    def scores(
        self, queries: Any, ids: Any, request: Request | None = None
    ) -> dict[str, float] | list[dict[str, float]]:
        """The scores of documents, found or not, for a text or for each of many queries.

        ids: of the documents; for many queries, the ids for each. The scores are those that a
        ranking shows; ids that are not in the index are left out. Raises InputError for a fusion
        whose scores depend on what else was found.
        """
        if isinstance(queries, str):
            check_text(queries)
            return self.scores([Query("0", queries)], [ids], request)[0]
        request, queries = request or self.request(), given_queries(queries)
        snapshot = self._snapshot
        vectors = self.vectors(queries, request.parts)
        if len(ids) != len(vectors):
            lists = f"{counted(len(ids), 'list')} of ids"
            raise InputError(f"{counted(len(vectors), 'query')} with {lists}; give one each")
        inputs = inputs_of(snapshot, vectors, request)
        engine = snapshot.engine(request.parts)
        results = []
        for row, (_, names) in enumerate(zip(vectors.ids, ids, strict=True)):
            if isinstance(names, str):
                raise InputError(f"the ids of a query are a list of strings, not {names!r}")
            names = list(map(check_id, names))
            if snapshot.by_document is not None:
                results.append(snapshot.by_document.scored(engine, inputs, row, names, request))
                continue
            found = {name: snapshot.numbering.number(name) for name in names}
            numbers = {name: n for name, n in found.items() if n is not None}
            documents = np.array(list(numbers.values()), dtype=np.int64)
            scores = engine.score(inputs, row, documents, request)
            results.append(dict(zip(numbers, scores.tolist(), strict=True)))
        return results

    def fields(self) -> dict[str, set[str]]:
        """The fields of the documents' metadata, with the kinds of their values.

        See ``index.fields`` for the kinds.
        """
        self._check_open()
        found = kinds_in(self._snapshot.searched)
        return {name: kinds for name, kinds in found.items() if name not in OWN_FIELDS}

    def field(self, name: str) -> str:
        """The name of a field of the metadata as the index has it; InputError if it lacks it."""
        return check_field(name, self.fields())

    def corpus(self) -> IndexedCorpus:
        """The documents that the index holds now, as a corpus."""
        self._check_open()
        return IndexedCorpus(self._snapshot, self.path)


class IndexedCorpus(Corpus):
    """The documents of one state of an index, as a corpus."""

    def __init__(self, snapshot: Snapshot, path: Path) -> None:
        self._snapshot = snapshot
        self.name = path.name
        self.source = str(path)

    def count(self) -> int:
        return len(self._snapshot)

    def numbered(self) -> Iterator[tuple[int, Document]]:
        for number, document in self._snapshot.numbered():
            yield number + 1, document
