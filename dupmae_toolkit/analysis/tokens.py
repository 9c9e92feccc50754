"""Texts into tokens, as Lucene's StandardTokenizer does: the word boundaries of Unicode.

Unicode Standard Annex #29, "Text Segmentation", with Lucene's exceptions: emoji sequences
(UTS #51) are tokens; so is a run of a South-East Asian script, which has no spaces; ideographs and
Hiragana are tokens one by one. What has no letter, digit or emoji is no token.

A text becomes a string of classes, one for each character (``characters``), and the pattern below
finds tokens in that. ASCII takes a short cut. Lucene takes the longest token that begins at a
place, where Python takes the first alternative that matches. So the alternatives here exclude each
other, and each is the longest of its kind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from dupmae_toolkit.analysis import characters

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: UTF-16 units that StandardTokenizer sees of a token. It takes what is a token within them, and
#: goes on after that.
LONGEST = 255

#: ASCII in lower case. Between two letters or two digits, one of these signs joins. Low lines join
#: all; a run of nothing else is no token, and the caller has to leave it out.
_ASCII = re.compile(
    r"\w+(?:[.':,;](?:(?<=[a-z][.':])(?=[a-z])|(?<=[0-9][.',;])(?=[0-9]))\w+)*", re.ASCII
)

# What follows extends the character before it (rule WB4): combining marks, formats, joiners.
# `_MARK` is the same without the selectors of text and emoji presentation, U+FE0E and U+FE0F.
_MARK = "[xzmqTUS]"
_EXT = "[xzmqTUStp]*+"

# WB5 to WB13b. A quotation mark joins two Hebrew letters, and an apostrophe stays with the one
# before it, unless that letter itself was joined to what precedes it by a sign or a quotation mark.
_HEBREW = rf"""h{_EXT}(?:'{_EXT}|"{_EXT}h{_EXT})"""
_LETTERS = rf"(?:a++|[Ah]){_EXT}(?:[:.']{_EXT}[aAh]{_EXT})*+"
_DIGITS = rf"n++{_EXT}(?:[;.']{_EXT}n{_EXT})*+"
_RUN = rf"(?:(?:k{_EXT})++|(?:{_HEBREW}|{_LETTERS}|{_DIGITS})++)"
_LOW_LINES = rf"(?:_++{_EXT})"
_WORD = rf"{_LOW_LINES}*+{_RUN}(?:{_LOW_LINES}++{_RUN})*+{_LOW_LINES}*+"

# Emoji that joiners (z) link, a skin tone (m) among them; one alone may have tags after it.
_LINK = rf"(?:{_MARK}*z(?=[eA])|{_MARK}*p(?:z++(?=[eA])|z(?=m)))"
_LINK_OF_TONE = rf"{_MARK}*z(?=[eA])"
_LINKED = rf"(?:[eA]{_LINK}|m{_LINK_OF_TONE})"
_EMOJI = (
    rf"(?:z++(?=[eA]))?(?:{_LINKED}++(?:[eA]{_MARK}*+p?|m{_MARK}*+)"
    rf"|[eA]{_MARK}*+(?:p(?:T++U)?)?|m{_MARK}*+)"
)
# A few characters are letters as well as emoji (A). The word is longer, or as long, unless the
# sequence goes on to an emoji that is no letter.
_LETTER_EMOJI = rf"(?=A{_LINK}(?:A{_LINK}|m{_LINK_OF_TONE})*+e){_EMOJI}"
_KEYCAP = rf"b(?:{_MARK}*+pq|{_MARK}*q){_MARK}*+"
_FLAG = rf"r{_EXT}r{_EXT}"
_SOUTH_EAST_ASIAN = rf"(?:[sS]{_EXT})++"
_IDEOGRAPH = rf"c{_EXT}"

# Most tokens are plain words, and this finds them in half the time.
_SIMPLE = r"""a++(?=[ ;"]|[.:'] )"""

_ALTERNATIVES = [_SIMPLE, _LETTER_EMOJI, _WORD]
_ALTERNATIVES += [_EMOJI, _KEYCAP, _FLAG, _SOUTH_EAST_ASIAN, _IDEOGRAPH]
_TOKEN = re.compile(f"(?=[^ ])(?:{'|'.join(_ALTERNATIVES)})".encode())


def tokens(text: str) -> list[str]:
    """The tokens of a text, in lower case, and runs of low lines, which are no tokens."""
    if text.isascii():
        found = _ASCII.findall(text.lower())
        if max(map(len, found), default=0) <= LONGEST:
            return found
    lower = _lower(text)
    return [lower[start:end] for start, end in _spans(text)]


def token_spans(text: str) -> tuple[str, list[tuple[int, int]]]:
    """The text in lower case, of the same length, and where its ``tokens`` start and end in it.

    Offsets count code points. Runs of low lines are among them, as they are in ``tokens``.
    """
    lower = _lower(text)
    if text.isascii():
        found = [match.span() for match in _ASCII.finditer(lower)]
        if max((end - start for start, end in found), default=0) <= LONGEST:
            return lower, found
    return lower, _spans(text)


def _lower(text: str) -> str:
    """The text in Java's lower case, which has a character for each, whatever stands beside it.

    Python's has two for İ, and another σ at the end of a word.
    """
    return text.replace("İ", "i").replace("Σ", "σ").lower()


def _spans(text: str) -> list[tuple[int, int]]:
    """Where the tokens start and end."""
    codes = characters.code_points(text)
    found = characters.classes(codes)
    classes = found.tobytes()
    # A character takes one or two units.
    sight = _sight(codes, found) if 2 * len(codes) > LONGEST else None
    if sight is None:
        return [match.span() for match in _TOKEN.finditer(classes)]
    spans, place = [], 0
    while place < len(classes):
        match = _TOKEN.match(classes, place, sight[place])
        if match is None:
            place += 1
        else:
            spans.append(match.span())
            place = match.end()
    return spans


def _sight(codes: NDArray[np.uint32], classes: NDArray[np.uint8]) -> list[int] | None:
    """How far Lucene sees from each character; None if a separator always comes before that."""
    import numpy as np

    units = np.zeros(len(codes) + 1, np.int64)  # UTF-16 units before each character
    np.cumsum(1 + (codes > 0xFFFF), out=units[1:])
    separators = units[np.flatnonzero(classes == ord(characters.SEPARATOR))]
    if np.diff(separators, prepend=0, append=units[-1]).max() <= LONGEST:
        return None
    ends: list[int] = (np.searchsorted(units, units[:-1] + LONGEST, side="right") - 1).tolist()
    return ends
