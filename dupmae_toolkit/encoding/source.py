"""The texts to encode, read in windows of fixed size, each with a digest of its contents."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass, field
from typing import Any, Protocol

from dupmae_toolkit.collection.lines import check_id, check_text, id_text, two_ids
from dupmae_toolkit.collection.metadata import OWN_FIELDS, metadata_text, read_metadata_text
from dupmae_toolkit.encoding.duplicates import IdRegister
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import cannot_write
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Query

#: In a digest, announces metadata: no text has this length.
_METADATA = b"\xff" * 8
#: The keys of a mapping that are no metadata.
_OWN_KEYS = {*OWN_FIELDS, "_id", "contents"}


class Source(Protocol):
    """What encoding requires of a corpus: read it repeatedly, with a line number per document."""

    source: str

    def numbered(self) -> Iterator[tuple[int, Any]]: ...

    def count(self) -> int | None: ...


@dataclass(slots=True)
class Window:
    """Consecutive texts that become one part.

    metadata: as ``metadata_text`` writes it. digest: covers ids, titles, texts and metadata.
    """

    ids: list[str] = field(default_factory=list)
    titles: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    metadata: list[str] = field(default_factory=list)
    contents: list[str] = field(default_factory=list)
    places: list[int] = field(default_factory=list)
    digest: str = ""

    def __len__(self) -> int:
        return len(self.ids)


class Memory:
    """Documents or queries in memory, numbered from 1. Iterators are spooled to a file."""

    def __init__(self, items: Iterable[Any], source: str = "the documents given") -> None:
        self.source = source
        self._items = items
        self._spool: Any = None
        if iter(items) is items:
            # Closed, and so removed, when this object is collected.
            self._spool = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115
            for number, item in enumerate(items, 1):
                record = self._record(number, item)
                kept = metadata_text(getattr(record, "metadata", {}), source, number)
                fields = [record.id, getattr(record, "title", None), record.text, kept]
                self._write(json.dumps(fields) + "\n")
            self._write("")

    def _write(self, line: str) -> None:
        """Write a line to the spool; an empty one flushes it."""
        try:
            self._spool.write(line)
            if not line:
                self._spool.flush()
        except OSError as error:
            raise cannot_write(tempfile.gettempdir(), error) from error

    def numbered(self) -> Iterator[tuple[int, Any]]:
        if self._spool is None:
            for number, item in enumerate(self._items, 1):
                yield number, self._record(number, item)
            return
        self._spool.seek(0)
        for number, line in enumerate(self._spool, 1):
            name, title, text, kept = json.loads(line)
            if title is None:
                yield number, Query(name, text)
            else:
                yield number, Document(name, title, text, read_metadata_text(kept))

    def count(self) -> int | None:
        return len(self._items) if isinstance(self._items, Sized) else None

    def _record(self, number: int, item: Any) -> Document | Query:
        if isinstance(item, Document | Query):
            return item
        if not isinstance(item, Mapping):
            kind = type(item).__name__
            raise self._refuse(number, f"a {kind} is neither a Document nor a dict")
        if wrong := two_ids(item):
            raise self._refuse(number, wrong)
        name = id_text(item.get("_id") if item.get("id") is None else item["id"])
        title, text = item.get("title"), item.get("text", item.get("contents"))
        if not isinstance(name, str):
            raise self._refuse(number, f"its id is {name!r}; it must be a string")
        for value in (title, text):
            if value is not None and not isinstance(value, str):
                raise self._refuse(number, f"{value!r} is not a string; title and text must be")
        metadata = {key: value for key, value in item.items() if key not in _OWN_KEYS}
        nested = metadata.get("metadata")  # as BEIR has it
        if isinstance(nested, Mapping):
            del metadata["metadata"]
            metadata |= nested
        return Document(name, title or "", text or "", metadata)

    def _refuse(self, number: int, message: str) -> InputError:
        return InputError.at(self.source, number, message)


def as_source(corpus: Any) -> Source:
    """A corpus unchanged; any other iterable wrapped in ``Memory``."""
    return corpus if hasattr(corpus, "numbered") else Memory(corpus)


def windows(source: Source, size: int) -> Iterator[Window]:
    """Cut a source into windows of ``size`` texts; the last may be shorter."""
    window, digest = Window(), hashlib.sha256()
    for place, item in source.numbered():
        title = getattr(item, "title", "")
        contents = item.contents if isinstance(item, Document) else item.text
        check_id(item.id, source.source, place)
        if not contents.strip():
            raise InputError.at(source.source, place, f"{item.id!r} has no text; remove it")
        for value in (item.id, title, item.text):
            check_text(value, source.source, place, f"the text of {item.id}")
            _add(digest, value)
        metadata = metadata_text(getattr(item, "metadata", {}), source.source, place)
        if metadata:
            digest.update(_METADATA)
            _add(digest, metadata)
        window.ids.append(item.id)
        window.titles.append(title)
        window.texts.append(item.text)
        window.metadata.append(metadata)
        window.contents.append(contents)
        window.places.append(place)
        if len(window) == size:
            window.digest = digest.hexdigest()
            yield window
            window, digest = Window(), hashlib.sha256()
    if len(window):
        window.digest = digest.hexdigest()
        yield window


def _add(digest: Any, text: str) -> None:
    data = text.encode()
    digest.update(len(data).to_bytes(8, "little"))
    digest.update(data)


def read_beginning(source: Source, count: int = 100) -> None:
    """Read the first ``count`` texts; raises InputError as ``survey`` does.

    Finds a source that is not one of texts before an encoder is loaded, which takes seconds.
    """
    next(windows(source, count), None)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to encode: the count and the digest of each window."""

    windows: list[tuple[int, str]]

    @property
    def count(self) -> int:
        return sum(count for count, _ in self.windows)

    @property
    def digest(self) -> str:
        return hashlib.sha256("".join(digest for _, digest in self.windows).encode()).hexdigest()


def survey(
    source: Source,
    size: int,
    progress: Progress = silent,
    look: Callable[[Window], None] = lambda window: None,
) -> Plan:
    """Read a source once, to the end, before anything is encoded or written.

    This finds a broken line, an empty text or a duplicate id now, not after hours of encoding. The
    digests show whether an existing folder was made from the same texts. look: called with each
    window; may raise.
    """
    register, found = IdRegister(), []
    with progress(f"reading {source.source}", source.count()) as advance:
        for window in windows(source, size):
            for row in register.suspects(window.ids):
                _refuse_duplicate(source, window.places[row], window.ids[row])
            look(window)
            found.append((len(window), window.digest))
            advance(len(window))
    if not found:
        raise InputError.at(source.source, None, "nothing in it to encode")
    return Plan(found)


def _refuse_duplicate(source: Source, place: int, name: str) -> None:
    for earlier, item in source.numbered():
        if earlier >= place:
            return  # not a duplicate: two ids share a hash
        if item.id == name:
            raise InputError.at(
                source.source,
                place,
                f"the id {name!r} is already on line {earlier}; ids must be unique",
            )
