"""What several test files share: a small encoder without a network, and small collections."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.files import sha256_lines
from dupmae_toolkit.records import EncoderInfo, Ranking, Representations, Run

#: For the environment of processes that only start Java often: it starts in less time, and says
#: so on stderr.
QUICK_JAVA = {"JAVA_TOOL_OPTIONS": "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"}


def ranked(**topics: list[str]) -> Run:
    """A run of these rankings, each with falling scores."""
    return Run({t: Ranking(ids, np.arange(len(ids), 0, -1.0)) for t, ids in topics.items()})


class Killed(BaseException):
    """As abrupt as a kill, as far as a process can do it to itself."""


class HashingEncoder:
    """A deterministic stand-in for DupMAEEncoder: words hash to terms, and terms to directions.

    It needs no torch, so that tests of index and search run in milliseconds.
    """

    def __init__(
        self, size: int = 512, dim: int = 16, name: str = "hashing", largest_weight: float = 0.0
    ) -> None:
        self.vocabulary = [f"t{i}" for i in range(size)]
        self._directions = np.random.default_rng(7).normal(size=(size, dim)).astype(np.float32)
        self.info = EncoderInfo(
            name=name,
            weights_sha256=hashlib.sha256(f"{name}{size}{dim}".encode()).hexdigest(),
            vocabulary_sha256=sha256_lines(self.vocabulary),
            vocabulary_size=size,
            dense_dim=dim,
            largest_weight=largest_weight,
        )

    def _column(self, word: str) -> int:
        digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
        return int.from_bytes(digest) % self.info.vocabulary_size

    def token_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        for match in re.finditer(r"\w+", text):
            yield self._column(match[0].lower()), *match.span()

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        size, rows, columns, values = self.info.vocabulary_size, [], [], []
        for row, text in enumerate(texts):
            counts: dict[int, int] = {}
            for word in re.findall(r"\w+", text.lower())[: self.info.max_length]:
                term = self._column(word)
                counts[term] = counts.get(term, 0) + 1
            for term in sorted(counts):
                rows.append(row)
                columns.append(term)
                values.append(np.log1p(counts[term]) * (0.5 + (term % 97) / 97))
        lexical = csr_matrix(
            (np.asarray(values, np.float32), (rows, columns)), shape=(len(texts), size)
        )
        dense = np.asarray(lexical @ self._directions, np.float32)
        norms = np.linalg.norm(dense, axis=1, keepdims=True)
        dense = dense / np.where(norms == 0, 1, norms)
        return Representations(ids or [str(i) for i in range(len(texts))], dense, lexical)

    def encode_queries(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        found = self.encode_documents(texts, ids)
        if isinstance(found, Representations):  # not what a test bent it to
            found.texts = list(texts)
        return found
