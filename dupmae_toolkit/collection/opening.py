"""Open the corpus, topics or judgements that a user names or gives, in any supported format."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

from dupmae_toolkit.collection.beir import open_beir, real_qrels
from dupmae_toolkit.collection.corpora import Corpus, RowCorpus, file_safe
from dupmae_toolkit.collection.duplicates import DUPLICATES, WithoutDuplicates
from dupmae_toolkit.collection.fields import ANY_COLUMNS, QUERY_NAMES, Columns, RecordReader
from dupmae_toolkit.collection.formats import How, named_rows
from dupmae_toolkit.collection.given import given_rows
from dupmae_toolkit.collection.irds import (
    IrdsCorpus,
    irds_qrels,
    irds_queries,
    irds_subtopics,
)
from dupmae_toolkit.collection.locate import IRDS_PREFIX, irds_id
from dupmae_toolkit.collection.qrels import (
    QRELS_NAMES,
    Qrels,
    RealQrels,
    read_real_qrels_file,
    real_qrels_of,
)
from dupmae_toolkit.collection.queries import Topics, topics_of
from dupmae_toolkit.collection.rows import Rows
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.spooled import STANDARD_INPUT, standard_input
from dupmae_toolkit.collection.subtopics import Subtopics, read_subtopics_file
from dupmae_toolkit.errors import InputError, type_of
from dupmae_toolkit.records import Document, Query


def open_corpus(
    source: Any,
    *,
    skip_invalid: bool = False,
    columns: Columns = ANY_COLUMNS,
    duplicates: str = "error",
) -> Corpus:
    """The corpus that ``source`` names.

    - JSON lines, a JSON array of objects or texts, or a JSON object of either by id;
    - CSV or TSV, with or without a header, see ``delimited``; ``.txt``: a text on each line;
    - Parquet: a file, or a folder of them;
    - a folder of ``.txt`` and ``.md`` files: each is a document, its path there its id;
    - a folder of files of records, which are read in the order of their paths;
    - a pattern such as ``notes/**/*.md``;
    - a folder or zip in BEIR's layout (``corpus.jsonl``);
    - a data set of ir_datasets: ``irds:NAME``, or NAME where no such file exists;
    - ``hf:NAME:CONFIG@SPLIT``, a data set of the hub, or a folder that ``datasets`` saved;
    - ``-``: standard input; JSON, TSV or CSV, by its first line.

    Text files may be compressed (``sources.COMPRESSED``). ``source`` may also be what
    ``given_rows`` takes: a data frame, an Arrow table, dicts, texts, a mapping of ids to either.

    columns: the names of the fields with id, title and text; by default the first of the usual
    names, see ``fields``. Records without any id get their row's number, from 0; the corpus's
    ``notes`` say so. The other fields are the documents' ``metadata``.

    duplicates: ``error``, which leaves it to the caller to find them, ``first`` or ``last``.
    ``skip_invalid`` skips records that are not documents, and counts them in ``skipped``.
    Raises InputError if nothing has that name; errors in the contents are raised when iterating.
    """
    if duplicates not in DUPLICATES:
        raise InputError(f"duplicates {duplicates!r}: choose one of {', '.join(DUPLICATES)}")
    found = _open(source, How("corpus", columns))
    corpus: Corpus
    if isinstance(found, str):
        corpus = IrdsCorpus(found, skip_invalid=skip_invalid)
    else:
        rows, name = found
        corpus = RowCorpus(rows, name, columns, skip_invalid=skip_invalid)
    return corpus if duplicates == "error" else WithoutDuplicates(corpus, duplicates)


def read_texts(source: str | Path, columns: Columns = ANY_COLUMNS) -> Iterator[Document]:
    """The titles and texts of a corpus, for training: they need no ids, and may be empty.

    Only the columns of tables that hold them are read, and data sets of the hub are streamed.
    Raises InputError as a corpus does.
    """
    found = _open(source, How("corpus", columns, texts_only=True))
    if isinstance(found, str):
        yield from IrdsCorpus(found)
        return
    rows, _ = found
    reader = RecordReader(columns, ids=False)
    number = 0

    def fault(message: str) -> InputError:
        return InputError.at(*rows.where(number), message)

    for place, (number, row) in enumerate(rows):  # noqa: B007
        if isinstance(row, InputError):
            raise row
        yield reader.document(row, place, fault)


def read_queries(
    source: Any, split: str | None = None, columns: Columns = ANY_COLUMNS
) -> list[Query]:
    """The topics that ``source`` names, in their original order; see ``read_topics``."""
    return read_topics(source, split, columns).queries


def read_topics(source: Any, split: str | None = None, columns: Columns = ANY_COLUMNS) -> Topics:
    """The topics that ``source`` names, in their original order, and how they were read.

    ``source`` has any format of a corpus; of a BEIR folder or zip, its queries are read. ``split``
    keeps the topics that are judged in that split of a BEIR data set. Raises InputError as
    ``topics_of`` does, and if nothing has that name.
    """
    if split is not None:
        found = open_beir(source).queries(split)
        return Topics(found, RecordReader().reading)
    opened = _open(source, How("queries", columns, QUERY_NAMES))
    if isinstance(opened, str):
        return Topics(irds_queries(opened), RecordReader().reading)
    return topics_of(opened[0], columns)


def read_qrels(source: Any, split: str | None = None) -> Qrels:
    """The judgements that ``source`` names.

    ``source`` is a file, plain or compressed:

    - BEIR's three columns (topic, document, grade; with or without a header, which may also name
      the document first and the topic second), separated by tabs, so that ids may hold spaces, or
      by white space;
    - TREC's four (topic, iteration, document, grade), with white space in ids escaped, see
      ``identifiers``. Lines that begin with ``#`` and are no judgements are comments;
    - JSON: {topic: {document: grade}};
    - CSV, JSON lines or Parquet with fields of the usual names (``query-id``, ``corpus-id``,
      ``score`` and others).

    With ``split`` it is a BEIR folder or zip; ``irds:NAME`` is a data set of ir_datasets. In
    Python it may also be a data frame, an Arrow table or a list of dicts. Raises InputError as
    ``read_qrels_file`` does, and if nothing has that name.
    """
    return Qrels(cast(dict[str, dict[str, int]], _read_qrels(source, split, False)))


def read_real_qrels(source: Any, split: str | None = None) -> RealQrels:
    """Like ``read_qrels``, but grades may be fractions, such as 0.5; whole ones are integers."""
    return _read_qrels(source, split, True)


def read_subtopics(source: str | Path) -> Subtopics:
    """Judgements by subtopic, from topic to document to subtopic to grade.

    ``source`` is a file of four columns (topic, subtopic, document, grade), plain or compressed,
    ``-`` for standard input, or ``irds:NAME``. Raises InputError as
    ``read_subtopics_file`` does, if nothing has that name, and for what is no name.
    """
    if not isinstance(source, str | Path):
        raise InputError(f"judgements by subtopic: {type_of(source)}; name their file")
    if str(source).startswith(IRDS_PREFIX):
        return irds_subtopics(str(source).removeprefix(IRDS_PREFIX))
    return read_subtopics_file(_judgement_file(source))


def _read_qrels(source: Any, split: str | None, fractions: bool) -> RealQrels:
    if split is not None:
        dataset = open_beir(source)
        return real_qrels(dataset, split) if fractions else cast(RealQrels, dataset.qrels(split))
    if not isinstance(source, str | Path):
        rows: Rows = given_rows(source, "the judgements given", names=QRELS_NAMES)
        return real_qrels_of(rows, fractions=fractions)
    if str(source).startswith(IRDS_PREFIX):
        return cast(RealQrels, irds_qrels(str(source).removeprefix(IRDS_PREFIX)))
    if Path(source).suffix.lower() == ".parquet":
        rows = named_rows(Path(source), How("qrels", ANY_COLUMNS, QRELS_NAMES))[0]
        return real_qrels_of(rows, fractions=fractions)
    return read_real_qrels_file(_judgement_file(source), fractions=fractions)


def _judgement_file(source: str | Path) -> TextSource:
    """The file of judgements of that name; InputError for what holds several files."""
    if str(source) == STANDARD_INPUT:
        return standard_input()
    path = Path(source)
    if path.is_dir() or path.suffix.lower() == ".zip":
        what = "a folder" if path.is_dir() else "a zip"
        raise InputError.at(
            path,
            None,
            f"{what}; name a file of judgements, or a split of a BEIR data set (--split, split=…)",
        )
    return TextSource(path)


def _open(source: Any, how: How) -> tuple[Rows, str] | str:
    """The records that ``source`` names or holds, with the collection's name; or an irds id."""
    if not isinstance(source, str | os.PathLike):
        name = "the documents given" if how.part == "corpus" else "the queries given"
        return given_rows(source, name, columns=how.columns, names=how.names), "documents"
    text = os.fspath(source)
    if text == STANDARD_INPUT:
        return how.file(standard_input()), "stdin"
    found = named_rows(source, how, missing_ok=True)
    if found is not None:
        return found
    irds = irds_id(source if isinstance(source, Path) else text)
    assert irds is not None  # a file was found
    return irds


__all__ = [
    "file_safe",
    "open_corpus",
    "read_qrels",
    "read_queries",
    "read_real_qrels",
    "read_subtopics",
    "read_texts",
    "read_topics",
]
