"""Document frequencies of terms, for BM25 and for the unigram prior of the head's bias."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.tokens import tokenize

FILE = "frequencies.safetensors"


@dataclass(frozen=True, slots=True, eq=False)
class TermFrequencies:
    """Frequencies in a sample of texts, over the student's tokens.

    documents: int64 [|V|], the number of texts that contain each vocabulary entry. texts: the
    number of texts. tokens: their total number of tokens, special ones included.
    """

    documents: np.ndarray
    texts: int
    tokens: int

    @classmethod
    def of(cls, encoder: DupMAEEncoder, texts: Sequence[str], max_length: int) -> TermFrequencies:
        """Count in texts that are truncated to ``max_length`` tokens."""
        documents = np.zeros(encoder.vocabulary_size, dtype=np.int64)
        rows = tokenize(encoder.tokenizer, texts, max_length).ids
        for row in rows:
            documents[list(set(row))] += 1
        return cls(documents, len(rows), sum(map(len, rows)))

    def save(self, folder: Path, about: str) -> None:
        """Write them into a checkpoint. about: identifies the sample of texts."""
        counts = np.asarray([self.texts, self.tokens], dtype=np.int64)
        arrays = {"documents": self.documents, "counts": counts}
        save_file(arrays, folder / FILE, metadata={"about": about})

    @classmethod
    def load(cls, folder: Path, about: str) -> TermFrequencies | None:
        """Read them from a checkpoint; None if it has none, or those of another ``about``.

        Raises OSError or SafetensorError for a file that cannot be read.
        """
        if not (folder / FILE).exists():
            return None
        with safe_open(folder / FILE, framework="numpy") as file:
            if (file.metadata() or {}).get("about") != about:
                return None
            texts, tokens = file.get_tensor("counts").tolist()
            return cls(file.get_tensor("documents"), texts, tokens)
