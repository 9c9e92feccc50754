"""Tokenises texts, and makes batches of texts of similar length.

Texts are sorted by length and batches filled up to a number of tokens, so there is little padding.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import torch

TOKENS_PER_BATCH = 4096
#: A small batch is enough to keep a CPU busy. Its hidden states stay in the cache, and its texts
#: have similar lengths.
TOKENS_PER_BATCH_CPU = 1024
TEXTS_PER_BATCH = 128
# More characters than a token has on average in any vocabulary. The rest of a text is read only if
# the part before it does not fill the length limit.
CHARACTERS_PER_TOKEN = 24
_LONE_SURROGATES = re.compile("[\ud800-\udfff]")
#: Characters that ``token_offsets`` tokenises at once, and a number of tokens that none has.
_BLOCK = 1 << 16
NO_LIMIT = (1 << 31) - 1
# A fast tokenizer stores its length limit, so two threads cannot use different ones at once.
_TOKENIZER = threading.Lock()


@dataclass(slots=True)
class Tokens:
    """Token ids of texts, special tokens included, and the number of truncated texts."""

    ids: list[list[int]]
    truncated: int


def tokenize(tokenizer: Any, texts: Sequence[str], max_length: int) -> Tokens:
    """Token ids, truncated to ``max_length``. Only the beginning of very long texts is tokenised.

    Lone surrogates, which no tokenizer accepts, are replaced by U+FFFD, the replacement character.
    """
    clean = [t if t.isascii() else _LONE_SURROGATES.sub("\ufffd", t) for t in texts]
    limit = max_length * CHARACTERS_PER_TOKEN
    batch = _encode(tokenizer, [beginning(text, limit) for text in clean], max_length)
    cut = [bool(encoding.overflowing) for encoding in batch]
    for i, text in enumerate(clean):
        if len(text) > limit and not cut[i]:
            batch[i] = _encode(tokenizer, [text], max_length)[0]
            cut[i] = bool(batch[i].overflowing)
    # A tokenizer without special tokens returns no tokens for an empty text.
    nothing = [tokenizer.pad_token_id or 0]
    return Tokens([encoding.ids or nothing for encoding in batch], sum(cut))


def beginning(text: str, limit: int) -> str:
    """The first whole words of a text, about ``limit`` characters.

    Words are not cut, since half a word can have other tokens. Without a space between limit / 2
    and limit, 16 · limit characters are kept, so that the cut cannot affect the tokens in use.
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
    assert encodings is not None  # only fast tokenizers are loaded, and they have encodings
    return encodings


def token_offsets(tokenizer: Any, text: str) -> Iterator[tuple[int, int, int]]:
    """The tokens of a whole text, however long, without those that the tokenizer adds around it.

    Each is (id, start, end), with offsets in code points. The text is read in blocks that end
    before white space; only a longer run without any may be cut within a token.
    """
    clean = text if text.isascii() else _LONE_SURROGATES.sub("\ufffd", text)
    start = 0
    while start < len(clean):
        end = _block_end(clean, start)
        (encoding,) = _encode(tokenizer, [clean[start:end]], NO_LIMIT)
        added = encoding.special_tokens_mask
        for number, (first, last), extra in zip(encoding.ids, encoding.offsets, added, strict=True):
            if last > first and not extra:
                yield number, start + first, start + last
        start = end


def _block_end(text: str, start: int) -> int:
    """Where a block of at most ``_BLOCK`` characters from ``start`` ends."""
    end = start + _BLOCK
    if end >= len(text):
        return len(text)
    for place in range(end, start + _BLOCK // 2, -1):
        if text[place].isspace():
            return place
    return end


def tokens_per_batch(kind: str) -> int:
    """The number of tokens to compute at once on a device type, as torch names it."""
    on_cpu = kind == "cpu"
    return min(TOKENS_PER_BATCH, TOKENS_PER_BATCH_CPU) if on_cpu else TOKENS_PER_BATCH


def batches(
    lengths: Sequence[int], tokens: int, most: int = TEXTS_PER_BATCH
) -> Iterator[list[int]]:
    """Positions in batches of at most ``tokens`` tokens, padding included, and ``most`` texts.

    The longest texts come first: if memory runs out, then at the start.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    start = 0
    while start < len(order):
        size = max(1, min(most, tokens // max(1, lengths[order[start]])))
        yield order[start : start + size]
        start += size


def pad(ids: list[list[int]], pad_id: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Right-padded token ids and attention mask, both int64 [B, L]."""
    import torch  # here, because queries of a lookup table are tokenised without it

    length = max(len(row) for row in ids)
    tokens = np.full((len(ids), length), pad_id, dtype=np.int64)
    mask = np.zeros((len(ids), length), dtype=np.int64)
    for i, row in enumerate(ids):
        tokens[i, : len(row)] = row
        mask[i, : len(row)] = 1
    return torch.from_numpy(tokens), torch.from_numpy(mask)


def tokens_of_rows(vocabulary: Mapping[str, int], size: int) -> list[str]:
    """The token of each row of a matrix with ``size`` rows; ``[row7]`` for row 7 without one."""
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
    """bool [rows], true for tokens in the lexical pool: all but special ones; [UNK] is in."""
    import torch

    special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
    table = torch.ones(rows, dtype=torch.bool)
    table[sorted(special)] = False
    return table
