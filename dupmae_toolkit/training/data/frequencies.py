"""In how many texts each term occurs: what BM25 and the prior of the head's bias are made of."""

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
    """Of a sample of texts, as the student's tokenizer cuts them.

    documents: int64 [|V|], in how many of the texts an entry of the vocabulary occurs. texts: their
    number. tokens: of all of them together, special ones included.
    """

    documents: np.ndarray
    texts: int
    tokens: int

    @classmethod
    def of(cls, encoder: DupMAEEncoder, texts: Sequence[str], max_length: int) -> TermFrequencies:
        """Of texts that are cut at ``max_length`` tokens."""
        documents = np.zeros(encoder.vocabulary_size, dtype=np.int64)
        rows = tokenize(encoder.tokenizer, texts, max_length).ids
        for row in rows:
            documents[list(set(row))] += 1
        return cls(documents, len(rows), sum(map(len, rows)))

    def save(self, folder: Path, about: str) -> None:
        """Write them into a checkpoint. about: what they were drawn from."""
        counts = np.asarray([self.texts, self.tokens], dtype=np.int64)
        arrays = {"documents": self.documents, "counts": counts}
        save_file(arrays, folder / FILE, metadata={"about": about})

    @classmethod
    def load(cls, folder: Path, about: str) -> TermFrequencies | None:
        """Those of a checkpoint; None if it has none, or none that were drawn from ``about``.

        Raises OSError or SafetensorError for a file that cannot be read.
        """
        if not (folder / FILE).exists():
            return None
        with safe_open(folder / FILE, framework="numpy") as file:
            if (file.metadata() or {}).get("about") != about:
                return None
            texts, tokens = file.get_tensor("counts").tolist()
            return cls(file.get_tensor("documents"), texts, tokens)
