"""Document frequencies of tokens, and what is computed from them.

BM25 on tokens, the unigram prior of the head's bias, and the frequency factors of the fitted score.
"""

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


def inverse_frequency(documents: np.ndarray, texts: int) -> np.ndarray:
    """log(1 + (N − df + ½) / (df + ½)) of terms that ``documents`` of N ``texts`` have, float64.

    As in Lucene and in search/frequencies.py.
    """
    return np.log1p((texts - documents + 0.5) / (documents + 0.5))


def frequency_factors(documents: np.ndarray, texts: int, power: float) -> np.ndarray:
    """(idf / mean idf) ^ ``power`` of each token, float64 [|V|]; the mean is over all postings.

    documents: int64 [|V|], how many of the ``texts`` have each token in their lexical vector. As an
    index of these texts has it, see search/frequencies.py; without any posting the mean is 1.
    """
    idf, postings = inverse_frequency(documents, texts), int(documents.sum())
    mean = float(idf @ documents) / postings if postings else 1.0
    return (idf / mean) ** power


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
