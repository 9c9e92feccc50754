"""Look up documents by id without holding their texts in memory."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Container, Iterable

from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document


class DocumentStore:
    """The documents of a corpus in a temporary file; only ids and file offsets are in memory.

    wanted: ids to keep; None keeps all. Raises InputError, with the line, for a duplicate id, and
    as the corpus does for a line that is not a document.
    """

    def __init__(
        self,
        corpus: Corpus,
        wanted: Container[str] | None = None,
        progress: Progress = silent,
    ) -> None:
        # The file has no name, so nothing is left of it when the process ends for any reason.
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        self._places: dict[str, int] = {}
        place = 0
        with progress(f"reading {corpus.source}", corpus.count()) as advance:
            for number, document in corpus.numbered():
                advance(1)
                if wanted is not None and document.id not in wanted:
                    continue
                if document.id in self._places:
                    raise InputError.at(
                        *corpus.where(number), f"document {document.id} comes a second time"
                    )
                line = json.dumps([document.id, document.title, document.text]).encode() + b"\n"
                self._places[document.id] = place
                place += self._file.write(line)
        self._file.flush()

    def __len__(self) -> int:
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def documents(self, names: Iterable[str]) -> dict[str, Document]:
        """The documents with these ids; unknown ids are ignored."""
        places = sorted((self._places[name], name) for name in names if name in self._places)
        found = {}
        for place, name in places:
            self._file.seek(place)
            found[name] = Document(*json.loads(self._file.readline()))
        return found

    def close(self) -> None:
        """Close the file, which frees its disk space."""
        self._file.close()
