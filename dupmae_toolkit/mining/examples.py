"""Training examples as JSON lines: a query, its positives, its negatives, and a score for each.

    {"query_id": "7", "query": "how do I parse a date",
     "positives": [{"id": "strptime", "title": "strptime", "text": "Parse …", "score": 21.4}],
     "negatives": [{"id": "strftime", "title": "strftime", "text": "…", "score": 20.1, "rank": 3}]}

`dupmae mine` writes them with the search's scores; `dupmae teach` replaces those with a teacher's.
An unknown score is null. Other keys are kept unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.collection.formats import JSON_SUFFIXES
from dupmae_toolkit.collection.lines import JsonLine
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.trec import sidecar_path
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import (
    atomic_file,
    check_file_output,
    json_object,
    open_packed,
    sha256_file,
    write_json,
)
from dupmae_toolkit.records import Document, is_blank

_LISTS = ("positives", "negatives")


@dataclass(slots=True)
class Passage:
    """A document of an example. rank: where the search listed it, from 1."""

    id: str
    title: str
    text: str
    score: float | None = None
    rank: int | None = None
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def contents(self) -> str:
        """The text that a model reads: title and text with a space between."""
        return Document(self.id, self.title, self.text).contents

    def to_dict(self) -> dict[str, Any]:
        values: dict[str, Any] = {"id": self.id, "title": self.title, "text": self.text}
        values["score"] = self.score
        if self.rank is not None:
            values["rank"] = self.rank
        return values | self.extra


@dataclass(slots=True)
class Example:
    """A query with at least one positive, and perhaps negatives."""

    query_id: str
    query: str
    positives: list[Passage]
    negatives: list[Passage]
    extra: dict[str, Any] = field(default_factory=dict)

    @property
    def passages(self) -> list[Passage]:
        """Positives, then negatives."""
        return self.positives + self.negatives

    def to_json(self) -> str:
        """One line, without the newline."""
        values = {"query_id": self.query_id, "query": self.query}
        lists = {name: [p.to_dict() for p in getattr(self, name)] for name in _LISTS}
        return json.dumps(values | lists | self.extra, ensure_ascii=False, allow_nan=False)


def read_examples(path: str | Path) -> Iterator[tuple[int, Example]]:
    """The examples of a file (plain or compressed) with their line numbers, streamed.

    Raises InputError with file and line for a line that is not an example, and for an empty file.
    """
    file = TextSource(Path(path))
    if file.suffix not in JSON_SUFFIXES:
        raise InputError.at(file, None, "examples are JSON lines (.jsonl, plain or compressed)")
    number = 0
    for number, text in file.lines():
        yield number, _example(JsonLine(text, file, number))
    if not number:
        raise InputError.at(file, None, "no examples in it")


def check_output(path: Path) -> None:
    """Refuse an output that cannot be written, or whose suffix examples are not written with.

    Earlier examples are replaced; a file that holds anything else is refused.
    """
    check_file_output(path, "the examples")
    if TextSource(path).suffix not in JSON_SUFFIXES:
        raise InputError.at(
            path,
            None,
            "examples are written as .jsonl, plain or compressed (.jsonl.gz, .bz2, .xz, .zst)",
            "name such a file",
        )
    if path.is_file() and path.stat().st_size and not _holds_examples(path):
        raise InputError.at(path, None, "exists, and holds no examples; name another file")
    beside = sidecar_path(path)
    if beside.exists() and "sha256" not in json_object(beside):
        raise InputError.at(beside, None, "exists, and belongs to no examples; name another file")


def _holds_examples(path: Path) -> bool:
    try:
        next(read_examples(path))
    except InputError:
        return False
    return True


def write_examples(
    path: Path, examples: Iterable[Example], about: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
    """Write examples, and beside them ``PATH.json``, each atomically. Returns the metadata.

    ``about`` is called when all lines are written, and may still raise: then the old file stays.
    """
    with atomic_file(path) as temporary:
        with open_packed(temporary, path) as file:
            for example in examples:
                file.write(example.to_json().encode("utf-8") + b"\n")
        metadata = about() | {"sha256": sha256_file(temporary)}
        # Written first: if the examples do not follow, its hash shows that the old ones differ.
        write_json(sidecar_path(path), metadata)
    return metadata


def short(score: float) -> float:
    """The score as the float with the shortest decimal text that gives the same float32."""
    return float(str(np.float32(score)))


def _example(line: JsonLine) -> Example:
    query = line.get_text(("query",), required=True)
    if is_blank(query):
        raise line.error("query is empty")
    positives, negatives = (_passages(line, name) for name in _LISTS)
    if not positives:
        raise line.error("no positives; an example has at least one")
    known = {"query_id", "query", *_LISTS}
    extra = {key: value for key, value in line.values.items() if key not in known}
    return Example(line.get_id(("query_id",)), query, positives, negatives, extra)


def _passages(line: JsonLine, name: str) -> list[Passage]:
    given = line.values.get(name)
    if not isinstance(given, list):
        raise line.error(f"{name} is missing, or not a list of documents")
    return [_passage(line, f"{name}[{place}]", values) for place, values in enumerate(given)]


def _passage(line: JsonLine, where: str, values: Any) -> Passage:
    if not isinstance(values, Mapping):
        raise line.error(f"{where} is not an object with id and text")
    inner = JsonLine.of(dict(values), line.source, line.line)
    try:
        passage = Passage(
            inner.get_id(("id",)),
            inner.get_text(("title",), required=False),
            inner.get_text(("text",), required=True),
            inner.score(inner.values.get("score")),
            _rank(inner),
        )
    except InputError as error:
        raise line.error(f"{where}: {error.fault}") from error
    known = Passage.__slots__
    passage.extra = {key: value for key, value in values.items() if key not in known}
    return passage


def _rank(line: JsonLine) -> int | None:
    value = line.values.get("rank")
    if value is None or (isinstance(value, int) and not isinstance(value, bool) and value > 0):
        return value
    raise line.error(f"rank is {str(value)[:40]!r}; ranks count from 1")
