"""Judgements: topic, document, grade. Topics and documents are strings and are never parsed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Any, cast

from dupmae_toolkit.collection.delimited import Delimited
from dupmae_toolkit.collection.fields import Columns, Names, find_fields
from dupmae_toolkit.collection.grades import grade_of, is_number, warn_of_empty
from dupmae_toolkit.collection.identifiers import check_id, from_trec, id_text, to_trec
from dupmae_toolkit.collection.json_members import JsonMembers, JsonRows, members
from dupmae_toolkit.collection.lines import kind_of
from dupmae_toolkit.collection.rows import Rows
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError, type_of
from dupmae_toolkit.frames import DOCUMENTS as _DOCUMENTS
from dupmae_toolkit.frames import TOPICS as _TOPICS
from dupmae_toolkit.frames import data_frame, id_of, table_columns

#: From topic to document to grade, which may be a fraction; whole grades are integers.
RealQrels = dict[str, dict[str, float]]

_GRADES = ("score", "grade", "relevance", "rel", "label", "judgement", "judgment")
#: The usual names of the three columns, if they have names.
QRELS_NAMES = Names(_TOPICS, _DOCUMENTS, _GRADES, "judgement")

#: A judgement: its place, topic, document and grade, not yet checked.
_Judgement = tuple[int, str, str, Any]
Where = Callable[[int], tuple[object, int | None]]


def read_qrels_file(file: TextSource) -> Qrels:
    """The judgements in one file; see ``opening.read_qrels`` for its formats.

    Raises InputError with file and line for a judgement without three values, for a grade that is
    not an integer ("1.0" is one), and for a document that is judged twice with different grades.
    """
    return _whole(read_real_qrels_file(file, fractions=False))


def read_real_qrels_file(file: TextSource, *, fractions: bool = True) -> RealQrels:
    """Like ``read_qrels_file``, but grades may be fractions."""
    suffix = file.suffix
    head = file.beginning().lstrip()
    named = suffix in (".json", ".jsonl", ".ndjson")
    if named or (head[:1] in (b"{", b"[") and head[1:].lstrip()[:1] in (b'"', b"{", b"}")):
        if suffix not in (".jsonl", ".ndjson") and head[:1] == b"{" and _is_nested(file):
            return _judged(file, JsonMembers(file).where, _named(file), fractions)
        rows = JsonRows(file, (*_TOPICS, *_DOCUMENTS, *_GRADES))
        return real_qrels_of(rows, fractions=fractions)
    if suffix == ".csv":
        delimited = Delimited(file, quoted=True, names=QRELS_NAMES)
        return real_qrels_of(delimited, fractions=fractions)
    return _judged(file, lambda number: (file, number), _lines(file), fractions)


def trec_lines(qrels: RealQrels) -> str:
    """Judgements in TREC's four columns, which ``read_real_qrels_file`` reads back."""
    return "".join(
        f"{to_trec(topic)} 0 {to_trec(document)} {grade}\n"
        for topic, judged in qrels.items()
        for document, grade in judged.items()
    )


def real_qrels_of(rows: Rows, *, fractions: bool = True) -> RealQrels:
    """The judgements in records that have the usual names for topic, document and grade.

    fractions: whether grades may be fractions.
    """

    def found() -> Iterator[_Judgement]:
        for number, row in rows:
            if isinstance(row, InputError):
                raise row
            names = find_fields(tuple(row), QRELS_NAMES, Columns())
            if names.id is None or names.title is None or names.text is None:
                lacks = [
                    f"{what} (one of {', '.join(usual)})"
                    for what, usual, name in (
                        ("topic", _TOPICS, names.id),
                        ("document", _DOCUMENTS, names.title),
                        ("grade", _GRADES, names.text),
                    )
                    if name is None
                ]
                raise InputError.at(*rows.where(number), f"no {', no '.join(lacks)} in it")
            topic, document = id_text(row[names.id]), id_text(row[names.title])
            for name, value in ((names.id, topic), (names.title, document)):
                if not isinstance(value, str):
                    raise InputError.at(*rows.where(number), f"{name} is {kind_of(value)}")
            yield number, topic, document, row[names.text]

    return _judged(rows.source, rows.where, found(), fractions)


def _judged(
    source: object, where: Where, judgements: Iterator[_Judgement], fractions: bool
) -> RealQrels:
    """source: of the judgements, for messages. where: gives file and line of one, by its number."""
    qrels: RealQrels = {}
    lines: dict[tuple[str, str], int] = {}
    for number, topic, document, given in judgements:
        path, line = where(number)
        check_id(topic, path, line, "topic")
        check_id(document, path, line, "document")
        grade = grade_of(given, path, line, fractions=fractions)
        judged = qrels.setdefault(topic, {})
        if judged.setdefault(document, grade) != grade:
            raise InputError.at(
                path,
                line,
                f"topic {topic} judges {document} again with a different grade, "
                f"{grade:g} after {judged[document]:g} {_in(where(lines[topic, document]))}",
            )
        lines.setdefault((topic, document), number)
    if not qrels:
        raise InputError.at(source, None, f"no judgements in it; {_EXPECTED}")
    return qrels


def _in(place: tuple[object, int | None]) -> str:
    path, line = place
    return f"in {path}" if line is None else f"in line {line}"


def _lines(file: TextSource) -> Iterator[_Judgement]:
    """The judgements on lines of three or four columns."""
    for number, columns in columns_of(file):
        yield number, columns[0], columns[-2], columns[-1]


def columns_of(file: TextSource) -> Iterator[tuple[int, list[str]]]:
    """The lines of judgements as columns; tabs separate them if they do so in the first line.

    TREC's form, with four columns or without tabs, escapes white space in ids. BEIR's form, with
    three columns and tabs, does not need to. If names in the first line say that the document comes
    first and the topic last but one, they are read so. Raises InputError for names that say
    something else, and for a line with another number of columns.
    """
    width, tabs, exchanged = 0, False, False
    for number, line in file.lines():
        if not width:
            if _is_comment(line, 0, False):
                continue
            tabs = len(line.split("\t")) in (3, 4)
            width = len(_columns_of(line, tabs))
            if width not in (3, 4):
                hint = ""
                if width == 6 and line.split()[1].casefold() == "q0":
                    hint = "; this looks like a line of a run"
                elif width > 4:
                    hint = "; in an id, write a blank as %%20, or put tabs between the columns"
                raise InputError.at(file, number, f"{_columns(width)}; {_EXPECTED}{hint}")
            columns = _columns_of(line, tabs)
            names = [name.strip().casefold() for name in columns]
            if names[-1] in _GRADES:
                exchanged = _exchanged(file, number, names)
                continue
        columns = _columns_of(line, tabs)
        if _is_comment(line, width, tabs):
            continue
        if len(columns) != width:
            raise InputError.at(file, number, f"{_columns(len(columns))} after lines of {width}")
        columns[-1] = columns[-1].strip()
        if width == 4 or not tabs:
            columns[0], columns[-2] = from_trec(columns[0]), from_trec(columns[-2])
        if exchanged:
            columns[0], columns[-2] = columns[-2], columns[0]
        yield number, columns


def _exchanged(file: TextSource, number: int, names: list[str]) -> bool:
    """Whether a line of names has document and topic in each other's place; names in small letters.

    Names that are not known say nothing.
    """
    last = len(names) - 2
    topics = [place for place in range(last + 1) if names[place] in _TOPICS]
    documents = [place for place in range(last + 1) if names[place] in _DOCUMENTS]
    if (0 in topics or not topics) and (last in documents or not documents):
        return False
    if 0 in documents and last in topics:
        return True
    raise InputError.at(
        file,
        number,
        f"names its columns {', '.join(names)}; the topic belongs into the first and the document "
        "into the last but one",
    )


def _is_comment(line: str, width: int, tabs: bool) -> bool:
    """Whether a line is a comment: it begins with ``#`` and is no judgement.

    A line whose first word is ``#`` alone is one, too. A topic may begin with ``#``, as in
    ``#7 0 d1 1``. width: the number of columns of this file; 0: not known.
    """
    if not line.startswith("#"):
        return False
    columns = _columns_of(line, tabs or (not width and "\t" in line))
    fits = len(columns) == width if width else len(columns) in (3, 4)
    return columns[0] == "#" or not fits or not is_number(columns[-1].strip())


def _columns_of(line: str, tabs: bool) -> list[str]:
    return line.split("\t") if tabs else line.split()


def _is_nested(file: TextSource) -> bool:
    """Whether the first member of a JSON object is an object of grades by document."""
    try:
        _, value = next(members(file))
    except StopIteration:
        return True  # an empty object
    except InputError:
        return False
    return isinstance(value, Mapping)


def _named(file: TextSource) -> Iterator[_Judgement]:
    """The judgements of a JSON object: {topic: {document: grade}}."""
    empty: list[str] = []
    for place, (topic, judged) in enumerate(members(file), 1):
        if topic is None or not isinstance(judged, Mapping):
            raise InputError.at(
                f"{file}: member {place}",
                None,
                f"{kind_of(judged)}; expected {{topic: {{document: grade}}}}",
            )
        if not judged:
            empty.append(topic)
        for document, grade in judged.items():
            yield place, topic, document, grade
    warn_of_empty(file, empty)


_EXPECTED = "expected three (topic, document, grade) or TREC's four (topic, 0, document, grade)"


def why_unjudged(
    qrels: Mapping[str, Any], topics: Iterable[str], documents: Iterable[str] | None = None
) -> str:
    """Why these judgements do not have the topics, as the end of a message.

    documents: that were retrieved; None: not known. Topics and documents may be exchanged if no
    topic is judged, most judged documents are topics, and most judged topics are documents. A few
    are not enough: both may be numbers.
    """
    known = set(topics)
    judged = {document for grades in qrels.values() for document in grades}
    exchanged = not any(topic in known for topic in qrels) and _most(judged, known)
    if not exchanged or (documents is not None and not _most(qrels, set(documents))):
        return "they belong to different sets"
    return (
        "the qrels may have topics and documents exchanged, since "
        f"{min(judged & known)!r} is a document there; write the topic first"
    )


def _most(some: Collection[str], known: set[str]) -> bool:
    return 2 * sum(each in known for each in some) > len(some)


def _columns(count: int) -> str:
    return f"{count} column{'s' if count != 1 else ''}"


_GIVEN = "the judgements given"


def _whole(qrels: RealQrels) -> Qrels:
    """Judgements that were read without fractions."""
    return Qrels(cast(dict[str, dict[str, int]], qrels))


class Qrels(dict[str, dict[str, int]]):
    """Judgements: from topic to document to grade. A plain dict of that shape serves as well."""

    @classmethod
    def from_dict(cls, grades: Mapping[Any, Mapping[Any, Any]]) -> Qrels:
        """Checked judgements: ``{topic: {document: grade}}``, as in pytrec_eval and ranx.

        Integer ids become strings. Topics without judgements are left out, with a warning. Raises
        InputError as ``read_qrels_file`` does.
        """
        if not isinstance(grades, Mapping):
            raise InputError(f"{_GIVEN}: {type_of(grades)}; give {{topic: {{document: grade}}}}")

        def found() -> Iterator[_Judgement]:
            empty: list[object] = []
            for place, (topic, judged) in enumerate(grades.items()):
                if not isinstance(judged, Mapping):
                    raise InputError(
                        f"{_GIVEN}: topic {topic!r} has {type_of(judged)}; give {{document: grade}}"
                    )
                if not judged:
                    empty.append(topic)
                for document, grade in judged.items():
                    names = id_of(topic, _GIVEN, "topic"), id_of(document, _GIVEN, "document")
                    yield place, *names, grade
            warn_of_empty(_GIVEN, empty)

        return _whole(_judged(_GIVEN, lambda place: (_GIVEN, None), found(), False))

    def to_dict(self) -> dict[str, dict[str, int]]:
        """``{topic: {document: grade}}`` as plain dicts."""
        return {topic: dict(judged) for topic, judged in self.items()}

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        topic: str | None = None,
        document: str | None = None,
        grade: str | None = None,
    ) -> Qrels:
        """The judgements in a table of pandas, polars or Arrow, with a row for each judgement.

        topic, document, grade: the names of the columns; None: the first with a usual name, as in
        ``read_qrels``. Raises InputError as ``read_qrels_file`` does, and for a missing column.
        """
        wanted = {
            "topic": (topic, _TOPICS),
            "document": (document, _DOCUMENTS),
            "grade": (grade, _GRADES),
        }
        rows = zip(*table_columns(frame, _GIVEN, wanted), strict=True)
        judgements = (
            (row, id_of(topic, _GIVEN, "topic"), id_of(document, _GIVEN, "document"), given)
            for row, (topic, document, given) in enumerate(rows)
        )

        def where(row: int) -> tuple[str, None]:
            return f"{_GIVEN}: row {row} (from 0)", None

        return _whole(_judged(_GIVEN, where, judgements, False))

    def to_frame(self) -> Any:
        """A pandas data frame: query_id, doc_id, relevance; ir_measures takes it as it is.

        Raises InputError if pandas is not installed.
        """
        rows = [
            (topic, document, grade)
            for topic, judged in self.items()
            for document, grade in judged.items()
        ]
        names = ("query_id", "doc_id", "relevance")
        return data_frame({name: [row[place] for row in rows] for place, name in enumerate(names)})
