"""Texts to token ids, and token ids to batches of like length.

Batches are filled by tokens over texts sorted by length, so that little is padding.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

TOKENS_PER_BATCH = 4096
#: A small batch is enough to keep a CPU busy. Its hidden states stay in the cache, and texts of
#: unlike length do not meet in it.
TOKENS_PER_BATCH_CPU = 1024
TEXTS_PER_BATCH = 128
# More characters than any vocabulary needs for a token on average. What lies behind them is looked
# at only if the part before did not fill the length limit.
CHARACTERS_PER_TOKEN = 24
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
# A fast tokenizer keeps its length limit inside, so two threads cannot each give it one.
_TOKENIZER = threading.Lock()


@dataclass(slots=True)
class Tokens:
    """Token ids of some texts, special tokens included, cut at a limit."""

    ids: list[list[int]]
    truncated: int


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> Tokens:
    """Token ids, and how many texts were cut. Of very long texts only the beginning is tokenised.

    Lone surrogates, which no tokenizer takes, count as U+FFFD, the replacement character.
    """
    clean = [t if t.isascii() else _LONE_SURROGATES.sub("\ufffd", t) for t in texts]
    limit = max_length * CHARACTERS_PER_TOKEN
    batch = _encode(tokenizer, [beginning(text, limit) for text in clean], max_length)
    cut = [bool(encoding.overflowing) for encoding in batch]
    for i, text in enumerate(clean):
        if len(text) > limit and not cut[i]:
            batch[i] = _encode(tokenizer, [text], max_length)[0]
            cut[i] = bool(batch[i].overflowing)
    # A tokenizer without special tokens gives an empty text no token at all.
    nothing = [tokenizer.pad_token_id or 0]
    return Tokens([encoding.ids or nothing for encoding in batch], sum(cut))


def beginning(text: str, limit: int) -> str:
    """The first whole words of a text, about ``limit`` characters.

    Words are not cut, since half a word can have other tokens. Without spaces in reach, so much is
    kept that what is cut cannot change the tokens that are kept.
    """
    if len(text) <= limit:
        return text
    end = text.rfind(" ", limit // 2, limit)
    return text[: end if end > 0 else 16 * limit]


def _encode(tokenizer: Any, texts: list[str], max_length: int) -> list:
    if not texts:
        return []
    with _TOKENIZER:
        encodings = tokenizer(texts, truncation=True, max_length=max_length).encodings
    assert encodings is not None  # which fast tokenizers have, and no others are loaded
    return encodings


def tokens_per_batch(kind: str) -> int:
    """How many tokens to compute at once on a device of this kind, as torch names it."""
    on_cpu = kind == "cpu"
    return min(TOKENS_PER_BATCH, TOKENS_PER_BATCH_CPU) if on_cpu else TOKENS_PER_BATCH


def batches(
    lengths: Sequence[int], tokens: int, most: int = TEXTS_PER_BATCH
) -> Iterator[list[int]]:
    """Positions in batches of at most ``tokens`` tokens, padding included, and ``most`` texts.

    The longest come first, so that memory runs out at the start or never.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, min(most, tokens // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def pad(ids: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and attention mask, both int64 [B, L]."""
    length = max(len(row) for row in ids)
    tokens = np.full((len(ids), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for i, row in enumerate(ids):
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def tokens_of_rows(vocabulary: Mapping[str, int], size: int) -> list[str]:
    """The token of each row of a matrix with ``size`` rows; a row without one is given a name."""
    by_id = {i: t for t, i in vocabulary.items() if i < size}
    taken = set(by_id.values())
    tokens = []
    for i in range(size):
        token = by_id.get(i, f"[row{i}]")
        while i not in by_id and token in taken:
            token = f"[{token}]"
        tokens.append(token)
    return tokens


def ordinary_tokens(tokenizer: Any, rows: int) -> torch.Tensor:
    """bool [rows], true for tokens that take part in the lexical pool: all but special ones."""
    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    table = torch.ones(rows, dtype=torch.bool)
    table[sorted(special)] = False
    return table
