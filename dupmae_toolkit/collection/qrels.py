"""Judgements: topic, document, grade. Topics and documents are strings and are never parsed."""

from __future__ import annotations

import re

from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError

#: From topic to document to grade.
Qrels = dict[str, dict[str, int]]

_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
#: Names of the third column in the headers of BEIR and others.
_HEADER_WORDS = ("score", "grade", "relevance", "rel", "label", "judgement", "judgment")
#: trec_eval counts documents by grade in an array of this length.
MAX_GRADE = 10_000


def read_qrels_file(file: TextSource) -> Qrels:
    """The judgements in one file: BEIR's three columns or TREC's four; see ``opening.read_qrels``.

    Raises InputError with file and line for any other number of columns, for a grade that is not an
    integer, and for a document that is judged twice with different grades.
    """
    qrels: Qrels = {}
    lines: dict[tuple[str, str], int] = {}
    width = 0
    for number, line in file.lines():
        columns = line.split()
        if not width:
            width = len(columns)
            if width not in (3, 4):
                raise InputError.at(file, number, f"{_columns(width)}; {_EXPECTED}")
            if width == 3 and columns[2].lower() in _HEADER_WORDS:
                continue
        if len(columns) != width:
            raise InputError.at(file, number, f"{_columns(len(columns))} after lines of {width}")
        topic, document, grade = columns[0], columns[-2], _grade(columns[-1], file, number)
        judged = qrels.setdefault(topic, {})
        if judged.setdefault(document, grade) != grade:
            raise InputError.at(
                file,
                number,
                f"topic {topic} judges {document} again with a different grade, "
                f"{grade} after {judged[document]} in line {lines[topic, document]}",
            )
        lines.setdefault((topic, document), number)
    if not qrels:
        raise InputError.at(file, None, f"no judgements in it; {_EXPECTED}")
    return qrels


_EXPECTED = "expected three (topic, document, grade) or TREC's four (topic, 0, document, grade)"


def _columns(count: int) -> str:
    return f"{count} column{'s' if count != 1 else ''}"


def _grade(text: str, file: TextSource, number: int) -> int:
    if not _INTEGER.fullmatch(text):
        raise InputError.at(file, number, f"grade {text[:40]!r} is not an integer")
    if len(text) > 8 or abs(int(text)) > MAX_GRADE:
        raise InputError.at(file, number, f"grade {text[:40]} is beyond {MAX_GRADE:,}")
    return int(text)
