"""The texts to encode, read in windows of fixed size, each with a digest of its contents."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from dupmae_toolkit.collection.corpora import RowCorpus
from dupmae_toolkit.collection.duplicates import IdRegister
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.given import GIVEN, given_rows
from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.lines import check_text
from dupmae_toolkit.collection.metadata import metadata_text
from dupmae_toolkit.collection.opening import open_corpus
from dupmae_toolkit.collection.passages import document_of
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, is_blank

#: In a digest, announces metadata: no text has this length.
_METADATA = b"\xff" * 8


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


class Memory(RowCorpus):
    """Documents or queries in memory, see ``given_rows``. Iterators are copied to a file."""

    def __init__(self, items: Any, source: str = GIVEN, columns: Columns = ANY_COLUMNS) -> None:
        super().__init__(given_rows(items, source, columns=columns), "documents", columns)


def as_source(corpus: Any) -> Source:
    """A corpus unchanged; anything else as ``open_corpus`` opens it.

    Since nobody else says it then, a warning says how records were read if it may not be as meant.
    """
    if hasattr(corpus, "numbered"):
        return corpus  # type: ignore[no-any-return]
    opened = open_corpus(corpus)
    if isinstance(opened, RowCorpus):
        opened.tell = _warn
    return opened


def _warn(line: str) -> None:
    warnings.warn(line, stacklevel=2)


def place_of(source: Source, number: int) -> tuple[object, int | None]:
    """The file and line of a text, for error messages. number: as ``numbered`` gave it."""
    where = getattr(source, "where", None)
    return (source.source, number) if where is None else where(number)


def windows(source: Source, size: int) -> Iterator[Window]:
    """Cut a source into windows of ``size`` texts; the last may be shorter."""
    window, digest = Window(), hashlib.sha256()
    for place, item in source.numbered():
        title = getattr(item, "title", "")
        contents = item.contents if isinstance(item, Document) else item.text
        if wrong := _fault(item, title):
            raise InputError.at(*place_of(source, place), wrong)
        for value in (item.id, title, item.text):
            _add(digest, value)
        metadata = metadata_text(getattr(item, "metadata", {}), *place_of(source, place))
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


def _fault(item: Any, title: str) -> str:
    """What forbids to encode a text, in its id or in itself; "" if nothing does."""
    try:
        check_id(item.id, "", None)
        for value in (title, item.text):
            check_text(value, "", None, f"the text of {item.id}")
    except InputError as error:
        return str(error).removeprefix(": ")
    blank = is_blank(item.text) and is_blank(title)
    return f"{item.id!r} has no text; remove it" if blank else ""


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
            path, line = place_of(source, earlier)
            where = f"in {path}" if line is None else f"on line {line}"
            if line is not None and path != place_of(source, place)[0]:
                where += f" of {path}"
            if getattr(source, "passages", None) is not None:
                name = document_of(name)
            raise InputError.at(
                *place_of(source, place),
                f"the id {name!r} is already {where}; ids must be unique "
                "(--duplicates first, duplicates='first', keeps one)",
            )
