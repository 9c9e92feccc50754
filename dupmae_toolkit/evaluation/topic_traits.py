"""Kinds of topics: by the terms of the query, by its length, and by how its answer matches it.

A topic's answer is the document of the highest grade that the index holds, the first by id if there
are several. So it does not depend on any ranking.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.analysis import count_words

#: A word is rare if at most one in so many documents has it.
RARE = 500
#: Upper bounds of the lengths that are taken together, in words.
QUERY_LENGTHS, ANSWER_LENGTHS = (4, 8, 16), (50, 100, 200)

#: Headings of the groups.
TERMS, QUERY_LENGTH, ANSWER_LENGTH = "query has", "query length", "answer length"
MATCHED, EXPANDED = "query's words in the answer", "lexical score by expansion"

_WORD = re.compile(r"[^\W_]+")
_SPACED = ("▁", "Ġ")


@dataclass(frozen=True, slots=True)
class Group:
    """A heading and the name of one group of topics under it."""

    by: str
    name: str


class Vocabulary:
    """The tokens of an encoder, as pieces of words.

    Whether a tokenizer splits a word is read from the tokens: it does unless the word is one. This
    needs no tokenizer, and is what WordPiece does; for other kinds it is nearly so.
    """

    def __init__(self, tokens: Sequence[str]) -> None:
        spaced = any(token.startswith(_SPACED) for token in tokens)
        self._pieces: list[str] = []
        begins: list[bool] = []
        for token in tokens:
            marked = token.startswith(_SPACED)
            begins.append(marked if spaced else not token.startswith("##"))
            self._pieces.append(fold(token[1:] if marked else token.removeprefix("##")))
        self._begins = np.array(begins, dtype=bool)
        self._words = {
            piece for piece, first in zip(self._pieces, begins, strict=True) if first and piece
        }

    def splits(self, word: str) -> bool:
        """Whether a word, as ``fold`` gives it, is no token by itself."""
        return word not in self._words

    def stands_in(self, columns: np.ndarray, text: str) -> np.ndarray:
        """Which tokens, by number, occur in a text as a word or as a piece of one, bool [n]."""
        folded = fold(text)
        words = set(_WORD.findall(folded))
        split = "".join(f" {word}" for word in words if self.splits(word))
        found = np.zeros(len(columns), dtype=bool)
        for place, column in enumerate(columns.tolist()):
            piece = self._pieces[column]
            if not piece:
                continue
            begins = bool(self._begins[column])
            is_sign = not any(map(str.isalnum, piece)) and piece in folded
            is_piece = (f" {piece}" if begins else piece) in split
            found[place] = (begins and piece in words) or is_piece or is_sign
        return found


def fold(text: str) -> str:
    """The text in lower case, without accents."""
    if text.isascii():
        return text.lower()
    apart = unicodedata.normalize("NFD", text)
    return "".join(c for c in apart if unicodedata.category(c) != "Mn").lower()


def length(text: str) -> int:
    """The number of words, stop words included."""
    return len(_WORD.findall(text))


def term_groups(
    text: str, vocabulary: Vocabulary, frequencies: Mapping[str, int] | None, documents: int
) -> list[Group]:
    """The groups under ``TERMS`` that a query belongs to; "common words only" if to no other.

    frequencies: how many of the ``documents`` have each of the query's words, by word as BM25
    counts it; None: not known. A name is a word with a capital letter, unless that is the first
    letter of the query.
    """
    names = []
    if frequencies is not None:
        held = list(frequencies.values())
        if any(0 < count * RARE <= max(documents, RARE) for count in held):
            names.append("a rare word")
        if 0 in held:
            names.append("a word in no document")
    words = _WORD.findall(fold(text))
    has_digit = [any(map(str.isdigit, word)) for word in words]
    if any(
        vocabulary.splits(word) for word, digit in zip(words, has_digit, strict=True) if not digit
    ):
        names.append("a split word")
    if any(has_digit):
        names.append("a number")
    if any(c.isupper() for c in text.lstrip()[1:]):
        names.append("a name")
    return [Group(TERMS, name) for name in names or ["common words only"]]


def length_groups(query: str, answer: str | None) -> list[Group]:
    """The groups of a topic by length; answer: the text of the answer, if the index holds one."""
    groups = [Group(QUERY_LENGTH, _binned(length(query), QUERY_LENGTHS))]
    if answer is not None:
        groups.append(Group(ANSWER_LENGTH, _binned(length(answer), ANSWER_LENGTHS)))
    return groups


def match_group(query: str, answer: str) -> Group | None:
    """How many of a query's words, as BM25 counts them, are in the answer; None without words."""
    words = count_words(query)
    if not words:
        return None
    share = len(words.keys() & count_words(answer).keys()) / len(words)
    names = ((0.0, "none"), (0.5, "at most half"), (0.999, "more than half"), (1.0, "all"))
    return Group(MATCHED, next(name for most, name in names if share <= most))


def expansion_group(literal: float, whole: float) -> Group:
    """How much of the answer's lexical score comes from tokens that are not in both texts.

    literal: the score by tokens that stand in the query and in the answer. whole: by all.
    """
    if whole <= 0:
        return Group(EXPANDED, "no lexical score")
    share = 1 - literal / whole
    names = ((0.25, "at most ¼"), (0.5, "¼ to ½"), (0.75, "½ to ¾"), (2.0, "more than ¾"))
    return Group(EXPANDED, next(name for most, name in names if share <= most))


#: All groups in the order in which they are listed.
ORDER = [
    *(
        Group(TERMS, name)
        for name in (
            "a rare word",
            "a word in no document",
            "a split word",
            "a number",
            "a name",
            "common words only",
        )
    ),
    *(Group(MATCHED, name) for name in ("all", "more than half", "at most half", "none")),
    *(
        Group(EXPANDED, name)
        for name in ("at most ¼", "¼ to ½", "½ to ¾", "more than ¾", "no lexical score")
    ),
]


def _binned(value: int, bounds: Sequence[int]) -> str:
    low = 1
    for bound in bounds:
        if value <= bound:
            return f"{low}–{bound} words"
        low = bound + 1
    return f"{low} words or more"


ORDER += [
    Group(by, _binned(value, bounds))
    for by, bounds in ((QUERY_LENGTH, QUERY_LENGTHS), (ANSWER_LENGTH, ANSWER_LENGTHS))
    for value in (*bounds, bounds[-1] + 1)
]
