"""Which tokens begin a word, for the three conventions of vocabularies.

Whole-word masking needs words, and packed token ids no longer have their texts. But the vocabulary
marks words: WordPiece marks continuations (``##ing``), byte-level BPE and SentencePiece mark tokens
after a space (``Ġthe``, ``▁the``).
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

# Scripts without spaces between words, where a whole sentence would count as one word: Thai to
# Tibetan, Myanmar, Khmer, then kana and Han characters. Here each character begins a word.
_UNSPACED = (
    (0x0E00, 0x0FFF),
    (0x1000, 0x109F),
    (0x1780, 0x17FF),
    (0x3040, 0x30FF),
    (0x31F0, 0x31FF),
    (0x3400, 0x4DBF),
    (0x4E00, 0x9FFF),
    (0xF900, 0xFAFF),
    (0xFF66, 0xFF9F),
    (0x20000, 0x323AF),
)


class Words:
    """Word boundaries of one tokenizer's ids.

    A token begins a word if its vocabulary marks it so, if it is or follows punctuation, or if it
    starts with a character of a script without spaces. But a bare mark (a space that is a token by
    itself) belongs to the word after it. In a vocabulary without marks (characters, whole words)
    every token is a word.

    ordinary: bool [size], false for the special tokens ([UNK] is an ordinary one).
    """

    def __init__(self, tokenizer: Any) -> None:
        vocabulary = tokenizer.get_vocab()
        size = max([len(tokenizer), *[i + 1 for i in vocabulary.values()]])
        self.ordinary = np.ones(size, dtype=bool)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        self.ordinary[sorted(special)] = False
        self._begins = np.ones(size, dtype=bool)
        self._apart = np.zeros(size, dtype=bool)
        self._bare = np.zeros(size, dtype=bool)
        marker = _marker(list(vocabulary))
        for token, i in vocabulary.items():
            if not self.ordinary[i]:
                continue
            begins, text = _read(token, marker)
            self._bare[i] = begins and not text
            self._apart[i] = bool(text) and all(_is_punctuation(c) for c in text)
            self._begins[i] = begins or (bool(text) and _is_unspaced(text[0]))

    def number(self, ids: np.ndarray, candidates: np.ndarray) -> np.ndarray:
        """The word that each token belongs to, int64 [B, L], counted from 0 in each row.

        ids: int [B, L]. candidates: bool [B, L], the tokens that may be masked; others get -1.
        """
        apart = self._apart[ids]
        begins = self._begins[ids] | apart
        begins[:, 1:] |= apart[:, :-1]
        begins[:, 1:] &= ~self._bare[ids[:, :-1]]
        begins[:, 1:] |= ~candidates[:, :-1]
        begins[:, 0] = True
        return np.where(candidates, np.cumsum(begins & candidates, axis=1) - 1, -1)


def _marker(tokens: list[str]) -> str:
    """The vocabulary's mark: the most frequent of the three, or "" if it has none of them."""
    counts = {mark: sum(t.startswith(mark) and t != mark for t in tokens) for mark in "Ġ▁"}
    counts["##"] = sum(t.startswith("##") and len(t) > 2 for t in tokens)
    best = max(counts, key=lambda mark: counts[mark])
    return best if counts[best] else ""


def _read(token: str, marker: str) -> tuple[bool, str]:
    """Whether a token begins a word, and its text as far as it can be decoded."""
    if marker == "##":
        return not token.startswith("##"), token.removeprefix("##")
    if marker == "▁":
        return token.startswith("▁"), token.removeprefix("▁")
    if marker == "Ġ":
        data = bytes(_BYTES.get(c, 0x20) for c in token)
        begins = data[:1].isspace()
        text = data.strip().decode("utf-8", "ignore")
        # Part of a character. The first byte of one from U+3000 to U+9FFF begins a word; for other
        # bytes the character is unknown.
        if not text and data.strip():
            return begins or data[:1] in _LEADING, _LETTER
        return begins, text
    return True, token


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's characters for bytes: printable bytes as they are, others from U+0100 on."""
    printing = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = [byte for byte in range(256) if byte not in printing]
    alphabet = {chr(byte): byte for byte in printing}
    alphabet.update({chr(0x100 + i): byte for i, byte in enumerate(others)})
    return alphabet


_BYTES = _byte_alphabet()
_LETTER = "x"  # stands in for a character that cannot be decoded
_LEADING = {bytes([byte]) for byte in range(0xE3, 0xEA)}


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character)[0] in "PS"


def _is_unspaced(character: str) -> bool:
    code = ord(character)
    return any(low <= code <= high for low, high in _UNSPACED)
