"""Data sets of ir_datasets, by id. Of this folder, only this module may use the network."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from dupmae_toolkit.collection.corpora import Corpus, file_safe
from dupmae_toolkit.collection.lines import check_id, check_text
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Document, Query

_TEXT_FIELDS = ("text", "body", "contents", "abstract")


def is_registered(name: str) -> bool:
    """Whether ir_datasets has a data set of that name. Does not use the network."""
    import ir_datasets

    return name in ir_datasets.registry


def load(name: str) -> Any:
    """The data set, not yet downloaded. Raises InputError if there is none of that name."""
    import ir_datasets

    try:
        return ir_datasets.load(name)
    except KeyError as error:
        raise InputError.at(
            f"irds:{name}", None, "ir_datasets has no data set of that name"
        ) from error


@contextlib.contextmanager
def explained(name: str) -> Iterator[None]:
    """Turn any error from downloading or parsing into a one-line DupMAEError."""
    try:
        yield
    except DupMAEError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())[:300] or type(error).__name__
        raise DupMAEError(f"irds:{name}: ir_datasets cannot load it ({text})") from error


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
        place = 0
        with explained(self._id):
            for place, record in enumerate(self._dataset.docs_iter(), 1):
                try:
                    document = self._document(record, place)
                except InputError:
                    if not self.skip_invalid:
                        raise
                    self._skip(place)
                    continue
                yield place, document
        if place == self.skipped:
            raise InputError.at(self.source, None, "no documents in it")

    def _document(self, record: Any, place: int) -> Document:
        identifier = check_id(str(record.doc_id), self.source, place)
        title = str(getattr(record, "title", "") or "")
        field = next((name for name in _TEXT_FIELDS if hasattr(record, name)), None)
        if field is None:
            title, text = "", record.default_text()
        else:
            text = str(getattr(record, field) or "")
        if not text.strip() and not title.strip():
            raise InputError.at(self.source, place, f"document {identifier} has no text")
        check_text(title, self.source, place, "title")
        return Document(identifier, title, check_text(text, self.source, place, "text"))


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
            for place, record in enumerate(dataset.queries_iter(), 1)
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
        for record in dataset.qrels_iter():
            qrels.setdefault(str(record.query_id), {})[str(record.doc_id)] = int(record.relevance)
    return qrels


def judged_parts(name: str) -> dict[str, str]:
    """From split to data set id: the data set itself if it has qrels, and its direct parts.

    ``beir/scifact`` gives ``{"test": "beir/scifact/test", "train": "beir/scifact/train"}``.
    """
    import ir_datasets

    parts = {}
    if load(name).has_qrels():
        parts[name.rpartition("/")[2]] = name
    for candidate in ir_datasets.registry:
        head, _, tail = candidate.rpartition("/")
        if head == name and ir_datasets.load(candidate).has_qrels():
            parts[tail] = candidate
    return parts
