"""Judgements by subtopic, as in TREC's Web tracks, for measures of diversity."""

from __future__ import annotations

from dupmae_toolkit.collection.grades import grade_of
from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.qrels import columns_of
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError

#: From topic to document to subtopic to grade.
Subtopics = dict[str, dict[str, dict[str, int]]]

_EXPECTED = "measures of diversity need four columns: topic, subtopic, document, grade"


def read_subtopics_file(file: TextSource) -> Subtopics:
    """The judgements in a file of four columns: topic, subtopic, document, grade.

    Comments and grades are read as in ``read_qrels_file``. Raises InputError with file and line for
    another number of columns, for a grade that is not an integer, and for a document that is judged
    twice for one subtopic with different grades.
    """
    found: Subtopics = {}
    lines: dict[tuple[str, str, str], int] = {}
    for number, columns in columns_of(file):
        if len(columns) != 4:
            raise InputError.at(file, number, f"{len(columns)} columns; {_EXPECTED}")
        topic, subtopic, document, given = columns
        for what, value in (("topic", topic), ("subtopic", subtopic), ("document", document)):
            check_id(value, file, number, what)
        grade = int(grade_of(given, file, number))
        grades = found.setdefault(topic, {}).setdefault(document, {})
        if grades.setdefault(subtopic, grade) != grade:
            raise InputError.at(
                file,
                number,
                f"topic {topic} judges {document} again for subtopic {subtopic} with a different "
                f"grade, {grade} after {grades[subtopic]} in line "
                f"{lines[topic, subtopic, document]}",
            )
        lines.setdefault((topic, subtopic, document), number)
    if not found:
        raise InputError.at(file, None, f"no judgements in it; {_EXPECTED}")
    return found
