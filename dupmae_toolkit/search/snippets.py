"""Where a query's terms stand in a text, and the passage of it that holds most of their weight.

All offsets count code points, and point into the text as it is stored.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from dupmae_toolkit.collection.passages import SENTENCE_END
from dupmae_toolkit.errors import InputError

#: Code points of a snippet, unless said otherwise.
LENGTH = 160
_JOINER = "\u200d"

#: The tokens that stand in a text, each as (column, start, end); see ``TextEncoder.token_offsets``.
Offsets = Callable[[str], Iterable[tuple[int, int, int]]]


class Match(NamedTuple):
    """A term of the query in a text. ``key`` tells terms apart: a word, or a token's column."""

    start: int
    end: int
    weight: float
    key: str | int


@dataclass(frozen=True, slots=True)
class Snippet:
    """The passage ``text[start:end]`` of a longer text.

    highlights: where terms of the query stand in the passage, as (start, end) from its beginning,
    ascending and apart. before, after: whether the longer text goes on there.
    """

    text: str
    start: int
    end: int
    highlights: tuple[tuple[int, int], ...] = ()
    before: bool = False
    after: bool = False

    def __str__(self) -> str:
        return ("… " if self.before else "") + self.text + (" …" if self.after else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "text": self.text,
            "start": self.start,
            "end": self.end,
            "highlights": [list(span) for span in self.highlights],
        }


class Matcher:
    """Finds the terms of one query in texts.

    words: the weight of each word, in the form that ``analysis.words`` gives. tokens: that of each
    token, by column. offsets: the encoder's ``token_offsets``; without it no tokens are found.
    """

    def __init__(
        self,
        words: Mapping[str, float],
        tokens: Mapping[int, float] | None = None,
        offsets: Offsets | None = None,
    ) -> None:
        self._words = words
        self._tokens = tokens or {}
        self._offsets = offsets

    def matches(self, text: str) -> list[Match]:
        """Every place where a term stands in a text, by its beginning."""
        from dupmae_toolkit.analysis import word_spans

        found = [
            Match(start, end, self._words[word], word)
            for word, start, end in (word_spans(text) if self._words else ())
            if word in self._words
        ]
        if self._tokens and self._offsets is not None:
            for token, start, end in self._offsets(text):
                if token in self._tokens:
                    while start < end and text[start].isspace():  # some tokens begin with a space
                        start += 1
                    found.append(Match(start, end, self._tokens[token], token))
        found.sort(key=lambda match: match[:2])
        return found

    def highlights(self, text: str) -> tuple[tuple[int, int], ...]:
        """The stretches of a text that terms cover, ascending and apart."""
        return _merged(self.matches(text))

    def snippet(self, text: str, length: int = LENGTH) -> Snippet:
        """The passage of at most ``length`` code points that holds most weight of different terms.

        Of several the first. It begins and ends with sentences where these are near, otherwise with
        words, and only a text without white space is cut elsewhere. A text without terms gives its
        beginning.
        """
        if not isinstance(length, int) or isinstance(length, bool) or length < 1:
            raise InputError(
                f"a snippet of length {length!r}; it must be a whole number of at least 1"
            )
        matches = self.matches(text)
        if len(text) <= length:
            start, end = 0, len(text)
        else:
            start, end = _around(text, *_best_window(matches, length), length)
        kept = [match for match in matches if match.end > start and match.start < end]
        spans = tuple(
            (max(first, start) - start, min(last, end) - start) for first, last in _merged(kept)
        )
        return Snippet(text[start:end], start, end, spans, start > 0, end < len(text))


def _merged(matches: Sequence[Match]) -> tuple[tuple[int, int], ...]:
    """The union of the matches' spans; those that touch become one."""
    spans: list[tuple[int, int]] = []
    for start, end, *_ in matches:
        if spans and start <= spans[-1][1]:
            spans[-1] = spans[-1][0], max(end, spans[-1][1])
        elif end > start:
            spans.append((start, end))
    return tuple(spans)


def _best_window(matches: Sequence[Match], length: int) -> tuple[int, int]:
    """The first stretch of at most ``length``, from a match to a match, with the most weight.

    A term counts once in it, so what repeats is left to the room around. Without matches the
    stretch is empty, at 0.
    """
    matches = [match for match in matches if match.end - match.start <= length]
    held: dict[str | int, int] = {}
    weight, best, found = 0.0, 0.0, (0, 0)
    last = 0
    for first, match in enumerate(matches):
        while last < len(matches) and matches[last].end <= match.start + length:
            key = matches[last].key
            held[key] = held.get(key, 0) + 1
            weight += matches[last].weight if held[key] == 1 else 0.0
            last += 1
        if weight > best * (1 + 1e-9):  # sums in another order differ a little
            best = weight
            once = {each.key: each.end for each in reversed(matches[first:last])}
            found = match.start, max(once.values())
        held[match.key] -= 1
        weight -= match.weight if not held[match.key] else 0.0
    return found


def _around(text: str, start: int, end: int, length: int) -> tuple[int, int]:
    """A window of at most ``length`` that holds ``text[start:end]`` and has good ends."""
    first = _good_start(text, start, max(0, start - (length - (end - start))))
    return first, _good_end(text, end, min(len(text), first + length))


def _good_start(text: str, start: int, least: int) -> int:
    """Where to begin, from ``least`` to ``start``.

    At the text's beginning or a sentence's, otherwise with a word that begins in the last third.
    """
    if not least and start <= LENGTH // 3:
        return 0
    sentences = [match.end() for match in SENTENCE_END.finditer(text, least, start)]
    if sentences:
        return _skip_space(text, sentences[-1], start)
    third = start - (start - least) // 3
    for place in range(third, start):
        if text[place].isspace():
            return _skip_space(text, place, start)
    word = start
    while word > least and not text[word - 1].isspace():
        word -= 1
    return word if not word or text[word - 1].isspace() else _between_letters(text, third, least)


def _good_end(text: str, end: int, most: int) -> int:
    """Where to end, from ``end`` to ``most``: with a sentence in the last third, or with a word."""
    if most == len(text):
        return most
    ends = [match.end() for match in SENTENCE_END.finditer(text, end, most + 1)]
    sentences = [place for place in ends if most - (most - end) // 3 <= place <= most]
    if sentences:
        return end + len(text[end : sentences[-1]].rstrip())
    for place in range(most, end - 1, -1):
        if text[place].isspace():
            return end + len(text[end:place].rstrip())
    return _between_letters(text, most, end)


def _skip_space(text: str, place: int, most: int) -> int:
    while place < most and text[place].isspace():
        place += 1
    return place


def _between_letters(text: str, place: int, least: int) -> int:
    """The last place from ``least`` to ``place`` where a cut parts no mark from its letter."""
    while least < place < len(text) and (_extends(text[place]) or text[place - 1] == _JOINER):
        place -= 1
    return place


def _extends(character: str) -> bool:
    """Whether it belongs to the character before: a combining mark, joiner, selector, skin tone."""
    is_tone = "\U0001f3fb" <= character <= "\U0001f3ff"
    return is_tone or unicodedata.category(character) in ("Mn", "Mc", "Me", "Cf")
