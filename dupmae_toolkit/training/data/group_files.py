"""Parses lines of training data into groups: JSON in three forms, pairs and triples of texts."""

from __future__ import annotations

from typing import Any

from dupmae_toolkit.collection.lines import JsonLine, check_text
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, is_blank
from dupmae_toolkit.training.data.groups import Group, ScoredText

QUERY_KEYS = ("query", "anchor", "question")
DOCUMENT_KEYS = ("positive", "document", "passage", "answer", "text")
NEGATIVE_KEYS = ("negative",)
#: Keys of positives and negatives as lists of objects: this project's, then Tevatron's.
_OBJECTS = (("positives", "negatives"), ("positive_passages", "negative_passages"))


def parse_group(text: str, source: object, number: int) -> Group:
    """A group from a line of JSON, in any of these forms.

    - ours, as ``dupmae mine`` and ``dupmae teach`` write it: ``query``; ``positives`` and
      ``negatives``, lists of objects with ``text`` and optional ``title`` and ``score``;
    - Tevatron's: the same under ``positive_passages`` and ``negative_passages``;
    - FlagEmbedding's: ``query``; ``pos`` and ``neg``, lists of texts; optional ``pos_scores`` and
      ``neg_scores``.

    Raises InputError with file and line for a line that is none of these, for an empty text, for a
    score that float32 cannot hold, and for a group without a positive.
    """
    line = JsonLine(text, source, number)
    query = _filled(line.get_text(QUERY_KEYS, required=True), line, "the query")
    for names in _OBJECTS:
        if names[0] in line.values:
            positives, negatives = (_objects(line, name) for name in names)
            break
    else:
        if "pos" not in line.values:
            raise line.error(
                "no positives; expected a list under positives, positive_passages or pos"
            )
        positives, negatives = (_texts(line, name) for name in ("pos", "neg"))
    if not positives:
        raise line.error("no positive for the query; remove the line")
    return Group(query, positives, negatives, f"{source}:{number}")


def parse_texts(text: str, source: object, number: int, *, json: bool, columns: int) -> Group:
    """A group from a pair (2 columns) or a triple (3): query, positive and, in a triple, negative.

    json: the line is an object with one of ``QUERY_KEYS``, one of ``DOCUMENT_KEYS`` and, for a
    triple, one of ``NEGATIVE_KEYS``; else it has TAB-separated columns. Raises InputError with file
    and line.
    """
    if json:
        line = JsonLine(text, source, number)
        keys = (QUERY_KEYS, DOCUMENT_KEYS, NEGATIVE_KEYS)[:columns]
        values = [line.get_text(names, required=True) for names in keys]
    else:
        values = split_columns(text, source, number, columns)
    for what, value in zip(("query", "positive", "negative"), values, strict=False):
        if is_blank(value):
            raise InputError.at(source, number, f"the {what} is empty; remove the line")
    negatives = [ScoredText(value) for value in values[2:]]
    return Group(values[0], [ScoredText(values[1])], negatives, f"{source}:{number}")


def split_columns(text: str, source: object, number: int, columns: int) -> list[str]:
    """The TAB-separated columns of a line. Raises InputError for a wrong number of columns."""
    values = text.split("\t")
    if len(values) != columns:
        count = f"{len(values)} column{'s' if len(values) > 1 else ''}"
        expected = " TAB ".join(("query", "positive", "negative")[:columns])
        raise InputError.at(source, number, f"{count}; expected {expected}")
    return values


def _list(line: JsonLine, name: str) -> list[Any]:
    value = line.values.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise line.error(f"{name} is not a list")
    return value


def _objects(line: JsonLine, name: str) -> list[ScoredText]:
    found = []
    for place, item in enumerate(_list(line, name), start=1):
        what = f"{name}, number {place}"
        if not isinstance(item, dict):
            raise line.error(f"{what}: not an object with a text")
        title, text = item.get("title"), item.get("text")
        if not isinstance(text, str) or not isinstance(title, str | None):
            raise line.error(f"{what}: text must be a string, and so must title if given")
        contents = Document("", title or "", text).contents
        contents = check_text(_filled(contents, line, what), line.source, line.line, what)
        found.append(ScoredText(contents, line.score(item.get("score"), f"{what}: score")))
    return found


def _texts(line: JsonLine, name: str) -> list[ScoredText]:
    texts, scores = _list(line, name), _list(line, f"{name}_scores")
    if scores and len(scores) != len(texts):
        raise line.error(f"{name} has {len(texts)} texts and {name}_scores {len(scores)} numbers")
    found = []
    for i, text in enumerate(texts):
        what = f"{name}, number {i + 1}"
        if not isinstance(text, str):
            raise line.error(f"{what}: not a string")
        text = check_text(_filled(text.strip(), line, what), line.source, line.line, what)
        score = scores[i] if scores else None
        found.append(ScoredText(text, line.score(score, f"{what}: score")))
    return found


def _filled(text: str, line: JsonLine, what: str) -> str:
    if is_blank(text):
        raise line.error(f"{what} is empty; remove it")
    return text
