"""Lucene's BM25 as a teacher, with the statistics of a corpus."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.evaluation.bm25 import SETTINGS, Bm25Searcher, build_index
from dupmae_toolkit.files import read_json
from dupmae_toolkit.mining.examples import Example
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document


class LuceneBm25:
    """Lucene's BM25 over a corpus. A text without a word of the query scores 0.

    The index is kept in ``workdir``, and reused for the same documents; see ``build_index``.
    Without ``workdir`` it is kept in a temporary folder until ``close``. A document that is not in
    the corpus is left out.
    """

    def __init__(
        self,
        documents: Iterable[Document],
        workdir: str | Path | None = None,
        progress: Progress = silent,
    ) -> None:
        with contextlib.ExitStack() as stack:
            if workdir is None:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dupmae-teach-"))
                workdir = Path(folder, "bm25")
            built = build_index(documents, workdir, progress=progress)
            self._documents = read_json(built / "manifest.json")["documents"]
            self._searcher = Bm25Searcher(built)
            stack.callback(self._searcher.close)
            self._stack = stack.pop_all()

    def describe(self) -> dict[str, Any]:
        return {**SETTINGS, "documents_sha256": self._documents}

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """float64 [passages], NaN for documents that are not in the corpus; see ``Teacher``."""
        found = [
            self._searcher.score(example.query, [passage.id for passage in example.passages])
            for example in examples
        ]
        return np.concatenate([np.zeros(0), *found])

    def close(self) -> None:
        """Close the index, and remove it if it is in a temporary folder."""
        self._stack.close()
