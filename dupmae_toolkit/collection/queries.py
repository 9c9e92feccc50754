"""Topics: ids and texts, from BEIR, JSON lines, TSV or ir_datasets."""

from __future__ import annotations

from collections.abc import Iterator

from dupmae_toolkit.collection.lines import (
    FORMATS,
    ID_KEYS,
    JSON_SUFFIXES,
    TSV_SUFFIXES,
    JsonLine,
    tsv_pairs,
)
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query

QUERY_ID_KEYS = (*ID_KEYS, "qid", "query_id")
QUERY_TEXT_KEYS = ("text", "query", "contents", "title")


def read_query_file(file: TextSource) -> list[Query]:
    """The topics in one file of JSON lines or of id TAB text, in the order of its lines.

    Raises InputError with file and line for a line that is not a topic, for an empty text, and for
    a duplicate id (with both lines).
    """
    if file.suffix in TSV_SUFFIXES:
        records = tsv_pairs(file)
    elif file.suffix in JSON_SUFFIXES:
        records = _json_pairs(file)
    else:
        raise InputError.at(file, None, f"unknown topics format; use {FORMATS}")
    queries: list[Query] = []
    seen: dict[str, int] = {}
    for number, identifier, text in records:
        if identifier in seen:
            raise InputError.at(
                file,
                number,
                f"topic {identifier} is already in line {seen[identifier]}; remove one",
            )
        if not text.strip():
            raise InputError.at(file, number, f"topic {identifier} has no text")
        seen[identifier] = number
        queries.append(Query(identifier, text))
    if not queries:
        raise InputError.at(file, None, "no topics in it")
    return queries


def _json_pairs(file: TextSource) -> Iterator[tuple[int, str, str]]:
    for number, text in file.lines():
        line = JsonLine(text, file, number)
        yield number, line.get_id(QUERY_ID_KEYS), line.get_text(QUERY_TEXT_KEYS, required=True)
