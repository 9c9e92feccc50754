"""Packs sentences greedily up to a length, as the paper's corpora were made.

The whole text is tokenised first and then cut between sentences, so that its tokens equal those of
encoding. (A byte-level vocabulary has another token for a word at the start of a text than after a
space.)
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError

TEXTS = 64  # tokenised together
_END = re.compile(r"(?<=[.!?])\s+(?![a-z])|(?<=[。！？])(?=\S)|\s*\n\s*")


class Packer:
    """Makes blocks of whole sentences, each with the special tokens of a text around it.

    tokenizer: a fast one. max_length: tokens of a block, special ones included.
    across: whether a block may hold sentences of several texts.
    """

    def __init__(self, tokenizer: Any, max_length: int, *, across: bool) -> None:
        self.tokenizer = tokenizer
        self.across = across
        self.before, self.after = _frame(tokenizer)
        self.room = max_length - len(self.before) - len(self.after)
        if self.room < 1:
            raise InputError(f"max_length is {max_length}; no token fits between the special ones")

    def __call__(self, texts: Iterable[str]) -> Iterator[np.ndarray]:
        """Blocks, int32 [at most max_length]: each takes sentences for as long as they fit.

        A sentence longer than a block is cut; its rest begins the next.
        """
        block: list[int] = []
        for sentences in self._sentences(texts):
            for sentence in sentences:
                if block and len(block) + len(sentence) > self.room:
                    yield self._framed(block)
                    block = []
                while len(sentence) > self.room:
                    yield self._framed(sentence[: self.room])
                    sentence = sentence[self.room :]
                block = block + sentence
            if block and not self.across:
                yield self._framed(block)
                block = []
        if block:
            yield self._framed(block)

    def _framed(self, ids: list[int]) -> np.ndarray:
        return np.asarray([*self.before, *ids, *self.after], dtype=np.int32)

    def _sentences(self, texts: Iterable[str]) -> Iterator[list[list[int]]]:
        """The token ids of each text's sentences; empty ones are left out."""
        stream = iter(texts)
        while batch := list(itertools.islice(stream, TEXTS)):
            encodings = self.tokenizer(
                batch, add_special_tokens=False, truncation=False, verbose=False
            ).encodings
            for text, encoding in zip(batch, encodings, strict=True):
                yield _split(text, encoding.ids, encoding.offsets)


def _split(text: str, ids: list[int], offsets: list[tuple[int, int]]) -> list[list[int]]:
    if not ids:
        return []
    # The space between sentences belongs to the next one, as in a byte-level vocabulary.
    begins = np.asarray([0, *(match.start() for match in _END.finditer(text))])
    ends = np.maximum.accumulate(np.asarray(offsets)[:, 1])
    number = np.searchsorted(begins, ends - 1, side="right")
    cuts = np.flatnonzero(np.diff(number)) + 1
    edges = [0, *cuts.tolist(), len(ids)]
    return [ids[a:b] for a, b in itertools.pairwise(edges)]


def _frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """The special tokens before and after a text."""
    (encoding,) = tokenizer(["a"]).encodings
    marks = encoding.special_tokens_mask
    inside = [i for i, special in enumerate(marks) if not special]
    if not inside:
        return list(encoding.ids), []
    return list(encoding.ids[: inside[0]]), list(encoding.ids[inside[-1] + 1 :])
