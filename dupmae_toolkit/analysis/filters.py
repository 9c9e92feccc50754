"""From tokens to words: possessives off, stop words out, the rest stemmed."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator

from dupmae_toolkit.analysis.porter import stem
from dupmae_toolkit.analysis.tokens import token_spans, tokens

#: Lucene's EnglishAnalyzer.ENGLISH_STOP_WORDS_SET.
_STOP_WORDS = """
a an and are as at be but by for if in into is it no not of on or such that the their then there
these they this to was will with
"""
STOP_WORDS = frozenset(_STOP_WORDS.split())
#: The apostrophes of Lucene's EnglishPossessiveFilter: U+0027, U+2019, U+FF07.
_POSSESSIVES = ("'s", "’s", "＇s")

_KEPT = 1 << 16  # words of tokens to keep: about 16 MB
_LONGEST_KEPT = 40  # characters; longer tokens are rare, and would need more memory


def words(text: str) -> list[str]:
    """The words of a text in order, with repetitions; of a text of any length and content.

    They are those of Anserini's DefaultEnglishAnalyzer. Lone surrogates separate words, as does
    the U+FFFD that Java reads in their place.
    """
    return [word for word in map(_words.__getitem__, tokens(text)) if word]


def count_words(text: str) -> dict[str, int]:
    """How often each of ``words(text)`` occurs, in the order in which they first do."""
    counts: dict[str, int] = {}
    for token, count in Counter(tokens(text)).items():
        word = _words[token]
        if word:
            counts[word] = counts.get(word, 0) + count
    return counts


def word_spans(text: str) -> Iterator[tuple[str, int, int]]:
    """Each of ``words(text)`` with the offsets, in code points, of its token.

    A token includes its possessive: in "dog's", the word is "dog" and the token ends after the s.
    """
    lower, spans = token_spans(text)
    for start, end in spans:
        word = _words[lower[start:end]]
        if word:
            yield word, start, end


class _Words(dict[str, str]):
    """The words of tokens, computed when first asked for; "" for a token that is left out."""

    def __missing__(self, token: str) -> str:
        word = _word(token)
        if len(token) <= _LONGEST_KEPT:
            if len(self) >= _KEPT:
                self.clear()
            self[token] = word
        return word


def _word(token: str) -> str:
    word = token[:-2] if token.endswith(_POSSESSIVES) else token
    if word in STOP_WORDS:
        return ""
    if word.isascii():
        # `tokens` takes low lines alone for a token; StandardTokenizer does not.
        return stem(word) if word.strip("_") else ""
    if max(word) <= "\uffff":
        return stem(word)
    # Lucene stems UTF-16, where a character above U+FFFF is two consonants.
    data = word.encode("utf-16-le")
    units = "".join(map(chr, struct.unpack(f"<{len(data) // 2}H", data)))
    return stem(units).encode("utf-16-le", "surrogatepass").decode("utf-16-le")


_words = _Words()
