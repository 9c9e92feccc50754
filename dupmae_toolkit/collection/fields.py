"""Which fields of a record are its id, its title and its text, and what becomes of the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, NamedTuple

from dupmae_toolkit.collection.cells import Cells
from dupmae_toolkit.collection.identifiers import check_id, id_text, two_ids
from dupmae_toolkit.collection.lines import ID_KEYS, check_text, kind_of
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Query, is_blank

#: Other fields of BEIR's documents come in an object of this name.
METADATA = "metadata"


class Names(NamedTuple):
    """The usual names of fields; of several in a record, the first in this order counts."""

    id: tuple[str, ...]
    title: tuple[str, ...]
    text: tuple[str, ...]
    what: str


TEXT_KEYS = ("text", "contents", "content", "body", "passage", "document")
DOCUMENT_NAMES = Names(ID_KEYS, ("title", "headline", "name"), TEXT_KEYS, "document")
QUERY_NAMES = Names(
    (*ID_KEYS, "qid", "query_id", "query-id", "topic_id"),
    (),
    ("text", "query", "question", "contents", "content", "body", "title"),
    "topic",
)


#: What ``Reading.to_dict`` says of ids that nobody gave.
ROW_NUMBERS = "row numbers, from 0"
_NUMBERED = f"no field is an id, so ids are {ROW_NUMBERS} (--id, Columns(id=…) name one)"


@dataclass(frozen=True, slots=True)
class Columns:
    """The fields to read; None: the first that has a usual name.

    header: whether the first line of a CSV or TSV names its columns; None: see ``delimited``.
    """

    id: str | None = None
    title: str | None = None
    text: str | None = None
    header: bool | None = None

    def named(self) -> list[str]:
        """The names that were given."""
        return [name for name in (self.id, self.title, self.text) if name is not None]


ANY_COLUMNS = Columns()


class Found(NamedTuple):
    """The fields of a record with certain names; None for what it lacks."""

    id: str | None
    title: str | None
    text: str | None
    others: tuple[str, ...]


@lru_cache(4096)
def find_fields(present: tuple[str, ...], names: Names, columns: Columns) -> Found:
    """The fields among ``present``: those that ``columns`` names, else those with usual names.

    A name in other letters ("Text", "ID") counts where no field has the name itself.
    """
    folded: dict[str, str] = {}
    for name in present:
        folded.setdefault(name.strip().casefold(), name)

    def find(wanted: str | None, usual: tuple[str, ...], taken: set[str]) -> str | None:
        for name in usual if wanted is None else (wanted,):
            found = name if name in present else folded.get(name.casefold())
            if found is not None and found not in taken:
                return found
        return None

    given = set(columns.named())
    text = find(columns.text, names.text, given - {columns.text or ""})
    found = given | {text or ""}
    identifier = find(columns.id, names.id, found - {columns.id or ""})
    found |= {identifier or ""}
    title = find(columns.title, names.title, found - {columns.title or ""})
    taken = {identifier, title, text}
    return Found(identifier, title, text, tuple(name for name in present if name not in taken))


@dataclass(slots=True)
class Reading:
    """What a reader took for what, so that commands and manifests can say it.

    fields: the field that gave id, title and text, of the first record. numbered: whether rows were
    numbered, for want of ids. others: the names of the other fields. remarks: further lines, such
    as on files of a folder that were not read.
    """

    fields: dict[str, str] = field(default_factory=dict)
    numbered: bool = False
    others: dict[str, None] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)

    def notes(self) -> list[str]:
        """What a user should know, a line each; none if all was as usual."""
        found = list(self.remarks)
        if self.numbered:
            found.append(_NUMBERED)
        if self.others:
            found.append(f"other fields, kept as metadata: {', '.join(self.others)}")
        return found

    def warnings(self) -> list[str]:
        """What a program should be told: ``notes``, but for what is as it was meant.

        Texts alone have no ids; records with other fields may have them under another name.
        """
        meant = not (self.numbered and self.others)
        return [*self.remarks, *([] if meant else [_NUMBERED])]

    def to_dict(self) -> dict[str, Any]:
        """For manifests."""
        ids = ROW_NUMBERS if self.numbered else self.fields.get("id", "")
        return {"ids": ids, "fields": dict(self.fields), "other_fields": list(self.others)}


#: Makes an error of a fault in a record, with its place.
Fault = Callable[[str], InputError]
#: How many names of other fields are remembered; beyond that a record has data in its names.
_MOST_NAMES = 100


class RecordReader:
    """Makes documents of records, mappings from names to values.

    ids: if False, records need no ids and texts may be empty, as in training; ids are row numbers.
    The first record decides whether records have ids. All methods raise InputError.
    """

    def __init__(
        self, columns: Columns = ANY_COLUMNS, names: Names = DOCUMENT_NAMES, *, ids: bool = True
    ) -> None:
        self.columns, self.names, self.ids = columns, names, ids
        self.reading = Reading()
        self._first = True

    def has_id(self, record: Mapping[str, Any]) -> bool:
        """Whether a record has an id of its own."""
        return find_fields(tuple(record), self.names, self.columns).id is not None

    def given(self, row: Any, place: int, fault: Fault) -> Any:
        """``document``; a Document or Query is checked and returned as it is."""
        if not isinstance(row, Document | Query):
            return self.document(row, place, fault)
        _checked_id(row.id, "id", fault)
        self._first = False
        title = getattr(row, "title", "")
        if not isinstance(row.text, str) or not isinstance(title, str):
            raise fault(f"title and text of {row.id!r} must be strings")
        if is_blank(row.text) and is_blank(title):
            raise fault(f"{row.id!r} has no text; remove it")
        return row

    def document(self, record: Mapping[str, Any], row: int, fault: Fault) -> Document:
        """The document of a record; row: its number, from 0."""
        try:
            found = find_fields(tuple(record), self.names, self.columns)
        except (AttributeError, TypeError) as error:
            raise fault("a name of a field is no string") from error
        self._check_named(found, record, fault)
        if found.text is None:
            raise fault(
                f"no text (one of {', '.join(self.names.text)}) in it; it has {_listed(record)}; "
                "name another field with --text (Columns(text=…))"
            )
        identifier = self._id(found, record, row, fault)
        title = _text(record, found.title, fault) if found.title is not None else ""
        text = _text(record, found.text, fault, required=True)
        if self._first:
            self._begin(found)
        if not self.ids:
            return Document(identifier, title, text)
        if is_blank(text) and is_blank(title):
            raise fault(
                f"{self.names.what} {identifier} has no text; give it one, or use --skip-invalid "
                "(skip_invalid=True)"
            )
        return Document(identifier, title, text, self._metadata(found.others, record))

    def _begin(self, found: Found) -> None:
        self._first = False
        pairs = zip(("id", "title", "text"), (found.id, found.title, found.text), strict=True)
        self.reading.fields = {what: name for what, name in pairs if name is not None}
        self.reading.numbered = self.ids and found.id is None
        if self.reading.numbered:
            self.reading.fields.pop("id", None)

    def _check_named(self, found: Found, record: Mapping[str, Any], fault: Fault) -> None:
        """Refuse a record without a field that was named. A missing title is an empty one."""
        for what in ("id", "text"):
            wanted = getattr(self.columns, what)
            if wanted is not None and getattr(found, what) is None:
                raise fault(f"no field {wanted!r} in it; it has {_listed(record)}")
        if self.columns.title is not None and found.title is None and self._first:
            raise fault(f"no field {self.columns.title!r} in it; it has {_listed(record)}")

    def _id(self, found: Found, record: Mapping[str, Any], row: int, fault: Fault) -> str:
        if not self.ids:
            return str(row)
        if self._first and found.id is None:
            return str(row)
        if self.reading.numbered:
            if found.id is not None:
                raise fault(
                    f"{found.id} is in this {self.names.what}, but those before it have no id; "
                    "give all an id, or none"
                )
            return str(row)
        if found.id is None:
            raise fault(f"no id (one of {', '.join(self.names.id)})")
        if self.columns.id is None and (wrong := two_ids(record)):
            raise fault(wrong)
        return _checked_id(id_text(record[found.id]), found.id, fault)

    def _metadata(self, others: tuple[str, ...], record: Mapping[str, Any]) -> dict[str, object]:
        if not others:
            return {}
        values = {name: record[name] for name in others}
        if isinstance(record, Cells):
            values = {name: record.value(name) for name in others}
        inner = values.get(METADATA)
        if isinstance(inner, Mapping):
            del values[METADATA]
            values = {str(name): value for name, value in inner.items()} | values
        known = self.reading.others
        if len(known) < _MOST_NAMES:
            known.update(dict.fromkeys(name for name in values if name not in known))
        return values


def _checked_id(value: Any, what: str, fault: Fault) -> str:
    if not isinstance(value, str):
        raise fault(f"{what} is {kind_of(value)}; an id is a string")
    try:
        return check_id(value, "", None, what)
    except InputError as error:
        raise fault(str(error).removeprefix(": ")) from error


def _text(record: Mapping[str, Any], name: str, fault: Fault, *, required: bool = False) -> str:
    value = record[name]
    if value is None and not required:
        return ""
    if not isinstance(value, str):
        raise fault(f"{name} is {kind_of(value)}; a string is expected")
    if not value.isascii():
        try:
            check_text(value, "", None, name)
        except InputError as error:
            raise fault(str(error).removeprefix(": ")) from error
    return value


def _listed(record: Mapping[str, Any]) -> str:
    return ", ".join(map(str, list(record)[:20])) or "none"
