"""Data sets of ir_datasets, by id. Of this folder, only this module may use the network."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import Any

from dupmae_toolkit.collection.corpora import Corpus, file_safe
from dupmae_toolkit.collection.fields import RecordReader
from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.lines import check_text
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Document, Query

_BEIR_SPLITS = ("dev", "test", "train")
_TEXT_FIELDS = ("text", "body", "contents", "abstract")


def is_registered(name: str) -> bool:
    """Whether ir_datasets has a data set of that name, or a group. Does not use the network."""
    import ir_datasets

    return name in ir_datasets.registry or bool(members_of(name))


def members_of(name: str) -> list[str]:
    """The data sets of a group that is not a data set itself: the twelve of ``beir/cqadupstack``.

    Empty for a data set, and for names that ir_datasets does not have.
    """
    import ir_datasets

    if name in ir_datasets.registry:
        return []
    return [each for each in ir_datasets.registry if each.rpartition("/")[0] == name]


def load(name: str) -> Any:
    """The data set, not yet downloaded. Raises InputError if there is none with that name."""
    import ir_datasets

    try:
        return ir_datasets.load(name)
    except KeyError as error:
        raise InputError.at(
            f"irds:{name}", None, "ir_datasets has no data set of that name"
        ) from error


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn any error from downloading or parsing into a one-line DupMAEError.

    What ir_datasets logs meanwhile is not shown, because the error says it.
    """
    logger = logging.getLogger("ir_datasets")
    shown, logger.disabled = logger.disabled, True
    try:
        yield
    except DupMAEError:
        raise
    except Exception as error:
        raise DupMAEError(f"irds:{name}: {_reason(error)}") from error
    finally:
        logger.disabled = shown


@contextlib.contextmanager
def _without_bars() -> Iterator[None]:
    """Hide the progress bars that ir_datasets draws, unless a terminal shows them."""
    if sys.stderr is None or sys.stderr.isatty():
        yield
        return
    with contextlib.redirect_stderr(io.StringIO()):
        yield


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    if any(sign in text for sign in ("Max retries", "download sources failed", "Connection")):
        host = re.search(r"host=['\"]([^'\"]+)", text)
        where = f"{host[1]} cannot be reached" if host else "its source cannot be reached"
        return f"ir_datasets cannot download it ({where}); name a BEIR folder or zip instead"
    text = textwrap.shorten(text, 300, placeholder=" …") or type(error).__name__
    return f"ir_datasets cannot load it ({text})"


class IrdsCorpus(Corpus):
    """The documents of a data set of ir_datasets."""

    def __init__(self, name: str, *, skip_invalid: bool = False) -> None:
        self._dataset = load(name)
        if not self._dataset.has_docs():
            raise InputError.at(
                f"irds:{name}", None, "this data set has no documents; name its parent"
            )
        self._id = name
        self.name = file_safe(name)
        self.source = f"irds:{name}"
        self.skip_invalid = skip_invalid

    def count(self) -> int | None:
        with contextlib.suppress(Exception):
            known = (self._dataset.metadata() or {}).get("docs", {}).get("count")
            return int(known) if known is not None and not self.skip_invalid else None
        return None

    def numbered(self) -> Iterator[tuple[int, Document]]:
        self._begin()
        reader = RecordReader()
        self.reading = reader.reading
        place = 0
        with explained(self._id):
            for place, record in enumerate(_quietly(self._dataset.docs_iter), 1):
                try:
                    document = self._document(reader, record, place)
                except InputError as error:
                    if not self.skip_invalid:
                        raise
                    self._skip(place, error)
                    continue
                yield place, document
        if place == self.skipped:
            raise InputError.at(self.source, None, "no documents in it")

    def _document(self, reader: RecordReader, record: Any, place: int) -> Document:
        def fault(message: str) -> InputError:
            return InputError.at(self.source, place, message)

        fields = record._asdict() if hasattr(record, "_asdict") else dict(vars(record))
        name = str(fields.pop("doc_id"))
        title = str(fields.pop("title", "") or "")
        text = next((field for field in _TEXT_FIELDS if field in fields), None)
        row: dict[str, Any] = {"id": name, "title": title}
        if text is None:
            row |= {"title": "", "text": record.default_text()}
        else:
            row["text"] = str(fields.pop(text) or "")
            row |= {key: value for key, value in fields.items() if key not in row}
        return reader.document(row, place - 1, fault)


def _quietly(open_records: Callable[[], Iterator[Any]]) -> Iterator[Any]:
    """The records; progress bars are hidden until the first record, which may need a download."""
    with _without_bars():
        records = iter(open_records())
        first = next(records, None)
    if first is not None:
        yield first
        yield from records


def irds_queries(name: str) -> list[Query]:
    """The topics of a data set, in their original order."""
    dataset = load(name)
    if not dataset.has_queries():
        raise InputError.at(
            f"irds:{name}", None, "this data set has no queries; name one of its parts"
        )
    with explained(name):
        return [
            Query(
                check_id(str(record.query_id), f"irds:{name}", place),
                check_text(str(record.default_text()), f"irds:{name}", place, "query"),
            )
            for place, record in enumerate(_quietly(dataset.queries_iter), 1)
        ]


def irds_qrels(name: str) -> dict[str, dict[str, int]]:
    """The judgements of a data set, by topic and document."""
    dataset = load(name)
    if not dataset.has_qrels():
        raise InputError.at(
            f"irds:{name}", None, "this data set has no qrels; name one of its parts"
        )
    qrels: dict[str, dict[str, int]] = {}
    with explained(name):
        for record in _quietly(dataset.qrels_iter):
            qrels.setdefault(str(record.query_id), {})[str(record.doc_id)] = int(record.relevance)
    return qrels


def irds_subtopics(name: str) -> dict[str, dict[str, dict[str, int]]]:
    """The judgements of a data set by topic, document and subtopic.

    Raises InputError if it has no judgements, or none by subtopic.
    """
    dataset = load(name)
    kind = dataset.qrels_cls() if dataset.has_qrels() else object
    if "subtopic_id" not in getattr(kind, "_fields", ()):
        raise InputError.at(f"irds:{name}", None, "this data set has no judgements by subtopic")
    found: dict[str, dict[str, dict[str, int]]] = {}
    with explained(name):
        for record in _quietly(dataset.qrels_iter):
            grades = found.setdefault(str(record.query_id), {}).setdefault(str(record.doc_id), {})
            grades[str(record.subtopic_id)] = int(record.relevance)
    return found


def judged_parts(name: str) -> dict[str, str]:
    """From split to data set id: the data set itself if it has qrels, and its direct parts.

    ``beir/scifact`` gives ``{"test": "beir/scifact/test", "train": "beir/scifact/train"}``. The
    judgements of a BEIR data set without parts, such as ``beir/arguana``, are called ``test``, as
    in BEIR's own files.
    """
    import ir_datasets

    parts = {}
    if load(name).has_qrels():
        own = name.rpartition("/")[2]
        whole = name.startswith("beir/") and own not in _BEIR_SPLITS
        parts["test" if whole else own] = name
    for candidate in ir_datasets.registry:
        head, _, tail = candidate.rpartition("/")
        if head == name and ir_datasets.load(candidate).has_qrels():
            parts[tail] = candidate
    return parts
