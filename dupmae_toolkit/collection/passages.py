"""Passages: pieces of long texts, each a row of an index, and the ids of those rows.

Passage 12 of the document ``doc`` is the row ``doc#00012``. Every row of such an index has a
number, so the last ``#`` always ends the document's id, whatever characters the id has. The span of
a passage in its text is kept with the row's metadata, under a name that users may not give.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Passage, is_blank

#: The field of a row's metadata that holds the passage's span, [start, end), and the length of the
#: document's text, all in code points.
SPAN = "$passage"
#: Where a sentence ends: after its sign, closing quotes and brackets, or at an empty line. What
#: follows, white space included, belongs to the next; ideographic stops need no white space.
SENTENCE_END = re.compile(r"""[.!?…]["'”’»)\]]*(?=\s)|[。！？｡][”’」』）]*|\n[ \t\r]*(?=\n)""")

#: What is said of ``is_old_span``.
OLD_SPAN = "a passage's span without the length of the text, as an unreleased version wrote it"

_ROW = re.compile(r"(.+)#([0-9]{5,})", re.DOTALL)
#: The last part of a passage in which an end of a sentence, or of a word, is near.
_NEAR = 3


@dataclass(frozen=True, slots=True)
class Passages:
    """How texts are cut: passages of at most ``size`` tokens, of which ``overlap`` are shared.

    Both count the tokens of the encoder's tokenizer in the text alone, without title and special
    tokens. Raises InputError for numbers that do not fit together.
    """

    size: int = 200
    overlap: int = 50

    def __post_init__(self) -> None:
        for value in (self.size, self.overlap):
            if not isinstance(value, int) or isinstance(value, bool):
                raise InputError(f"passages of {value!r} tokens; it must be a whole number")
        if self.size < 1:
            raise InputError(f"passages of {self.size} tokens; give at least 1")
        if not 0 <= self.overlap < self.size:
            raise InputError(
                f"an overlap of {self.overlap} tokens; it must be at least 0 and less than the "
                f"{self.size} tokens of a passage"
            )

    def to_dict(self) -> dict[str, int]:
        return {"size": self.size, "overlap": self.overlap}

    @classmethod
    def from_dict(cls, values: Any) -> Passages | None:
        """What ``to_dict`` gave; None for None. Raises ValueError for anything else."""
        if values is None:
            return None
        if not isinstance(values, Mapping) or "size" not in values or "overlap" not in values:
            raise ValueError(f"passages is {values!r}")
        try:
            return cls(values["size"], values["overlap"])
        except InputError as error:
            raise ValueError(str(error)) from error

    def __str__(self) -> str:
        return f"passages of {self.size} tokens that overlap by {self.overlap}"


def passages_of(size: int | None, overlap: int | None) -> Passages | None:
    """The passages asked for; None if none are. overlap: None for a quarter of the size."""
    if size is None:
        if overlap is not None:
            raise InputError("an overlap goes with passages; give --passages (passages=…) too")
        return None
    if overlap is None and isinstance(size, int):
        overlap = size // 4
    return Passages(size, 0 if overlap is None else overlap)


def row_id(document: str, number: int) -> str:
    """The id of the row that holds a passage; numbers count from 0."""
    return f"{document}#{number:05d}"


def split_row_id(name: str) -> tuple[str, int]:
    """The document's id and the passage's number; InputError for an id that is no row's."""
    found = _ROW.fullmatch(name)
    if found is None:
        raise InputError(f"the id {name[:80]!r} names no passage; it must end like #00012")
    return found[1], int(found[2])


def document_of(name: str) -> str:
    """The id of the document that a row belongs to."""
    return name[: name.rindex("#")]


def cut(
    text: str, tokens: Iterable[tuple[int, int, int]], passages: Passages
) -> list[tuple[int, int]]:
    """The spans of a text's passages, in order; together they cover the text, without gaps.

    tokens: as ``token_offsets`` gives them, by their beginning. A passage ends with a sentence that
    ends in its last third, otherwise between words, otherwise between tokens. The next begins with
    a sentence that shares at least half of ``overlap``, otherwise with a word.
    """
    starts = [start for _, start, _ in tokens]
    count = len(starts)
    breaks = sorted({bisect_left(starts, end.end()) for end in SENTENCE_END.finditer(text)})
    spans: list[tuple[int, int]] = []
    first = 0
    while count - first > passages.size:
        most = first + passages.size
        least = max(most - passages.size // _NEAR, first + passages.overlap + 1)
        last = _last(breaks, least, most) or _word(text, starts, range(most, least - 1, -1)) or most
        while last < count and starts[last] == starts[last - 1]:
            last += 1  # some tokens are parts of one character
        if last == count:
            break
        spans.append((starts[first] if spans else 0, starts[last]))
        least = max(last - passages.overlap, first + 1)
        near = last - passages.overlap // 2
        first = _first(breaks, least, near) or _word(text, starts, range(least, last)) or last
    spans.append((starts[first] if spans else 0, len(text)))
    return _not_blank(text, spans)


def _last(breaks: Sequence[int], least: int, most: int) -> int | None:
    """The last of the sorted ``breaks`` from ``least`` to ``most``; None if there is none."""
    place = bisect_left(breaks, most + 1) - 1
    return breaks[place] if place >= 0 and breaks[place] >= least else None


def _first(breaks: Sequence[int], least: int, most: int) -> int | None:
    """The first of the sorted ``breaks`` from ``least`` to ``most``; None if there is none."""
    place = bisect_left(breaks, least)
    return breaks[place] if place < len(breaks) and breaks[place] <= most else None


def _word(text: str, starts: Sequence[int], places: range) -> int | None:
    """The first of these tokens that begins a word; else the first that begins a character."""
    clean = [n for n in places if n == 0 or starts[n] > starts[n - 1]]
    for number in clean:
        start = starts[number]
        if text[start].isspace() or not start or text[start - 1].isspace():
            return number
    return clean[0] if clean else None


def _not_blank(text: str, spans: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """The same spans, where those without anything to read are joined to a neighbour."""
    kept: list[tuple[int, int]] = []
    for start, end in spans:
        if kept and (is_blank(text[start:end]) or is_blank(text[slice(*kept[-1])])):
            kept[-1] = kept[-1][0], end
        else:
            kept.append((start, end))
    return kept


def as_passage(row: Document) -> Document:
    """A row of an index as what a search shows: the document's id, with the passage's place."""
    name, number = split_row_id(row.id)
    span: Any = row.metadata.get(SPAN)
    if not is_span(span, row.text):
        if is_old_span(span):
            raise InputError(f"the row {row.id!r} has {OLD_SPAN}; build the index again")
        raise InputError(f"the row {row.id!r} has no span of a passage; run `dupmae verify`")
    rest = {key: value for key, value in row.metadata.items() if key != SPAN}
    return Document(name, row.title, row.text, rest, Passage(number, span[0], span[1]))


def is_old_span(span: Any) -> bool:
    """Whether metadata hold a span as versions before the first release wrote it."""
    return isinstance(span, list) and len(span) == 2 and all(type(end) is int for end in span)


def is_span(span: Any, text: str) -> bool:
    """Whether metadata hold the span of a passage with this text."""
    fine = isinstance(span, list) and len(span) == 3 and all(type(end) is int for end in span)
    return fine and span[0] >= 0 and span[1] - span[0] == len(text) and span[1] <= span[2]


def whole(passages: Iterable[Document]) -> Document:
    """The document of these passages, as ``as_passage`` gives them, in any order.

    Raises InputError if some of the text is missing.
    """
    ordered = sorted(passages, key=lambda each: each.passage or (0, 0, 0))
    first, text = ordered[0], ""
    for each in ordered:
        assert each.passage is not None
        if each.passage.start > len(text):
            raise InputError(
                f"{first.id!r}: its text from {len(text)} to {each.passage.start} is in no passage"
            )
        text += each.text[len(text) - each.passage.start :] if each.passage.end > len(text) else ""
    return Document(first.id, first.title, text, first.metadata)
