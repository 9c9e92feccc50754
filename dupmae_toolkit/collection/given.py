"""Records that Python code gives: documents, dicts, texts, mappings, data frames, iterators."""

from __future__ import annotations

import datetime
import decimal
import json
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Any

from dupmae_toolkit.collection.rows import Row, Rows
from dupmae_toolkit.collection.tables import FrameRows, is_frame
from dupmae_toolkit.errors import InputError, type_of
from dupmae_toolkit.files import cannot_write
from dupmae_toolkit.records import Document, Query

GIVEN = "the documents given"
WANTED = (
    "give Documents, dicts, texts, a mapping of ids to either, a data frame, an Arrow table, or "
    "the name of a file"
)


def given_rows(items: Any, source: str = GIVEN, **how: Any) -> Rows:
    """The records of objects in memory; iterators are copied to a temporary file.

    how: see ``FrameRows``. Raises InputError for objects that hold no records.
    """
    if is_frame(items):
        return FrameRows(items, source, **how)
    if hasattr(items, "read_next_batch"):  # a reader of Arrow's can be read once
        return FrameRows(items.read_all(), source, **how)
    if isinstance(items, Mapping):
        return ItemRows(items, source, mapping_row)
    if isinstance(items, Document | Query | str | bytes) or not isinstance(items, Iterable):
        raise InputError(f"{source}: {type_of(items)}; {WANTED}")
    return ItemRows(items, source) if iter(items) is not items else SpooledRows(items, source)


def item_row(item: Any) -> Any:
    """An item of a list as a record; None if it is none."""
    if isinstance(item, Document | Query):
        return item
    if isinstance(item, str):
        return {"text": item}
    return item if isinstance(item, Mapping) else None


def mapping_row(item: tuple[Any, Any]) -> Any:
    """An item of a mapping as a record."""
    name, value = item
    if isinstance(value, Document):
        return value
    if isinstance(value, str):
        return {"_id": name, "text": value}
    return {"_id": name} | dict(value) if isinstance(value, Mapping) else None


class ItemRows(Rows):
    """Items of a collection that can be iterated repeatedly, numbered from 1."""

    def __init__(
        self, items: Iterable[Any], source: str, row: Callable[[Any], Any] = item_row
    ) -> None:
        self.items, self.source, self._row = items, source, row

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        items = self.items.items() if isinstance(self.items, Mapping) else self.items
        for number, item in enumerate(items, 1):
            row = self._row(item)
            yield number, (self._refused(number, item) if row is None else row)

    def count(self) -> int | None:
        return len(self.items) if isinstance(self.items, Sized) else None

    def _refused(self, number: int, item: Any) -> InputError:
        if isinstance(self.items, Mapping):
            item = item[1]
        return InputError.at(
            self.source, number, f"{type_of(item)} is neither a Document nor a dict"
        )


class SpooledRows(ItemRows):
    """The items of an iterator, which can be read only once, copied to a temporary file."""

    def __init__(self, items: Iterable[Any], source: str) -> None:
        super().__init__(items, source)
        # Closed, and so removed, when this object is collected.
        self._spool = tempfile.TemporaryFile("w+", encoding="ascii")  # noqa: SIM115
        self._count = 0
        for _, row in ItemRows.__iter__(self):
            if isinstance(row, InputError):
                raise row
            self._count += 1
            self._write(self._line(row))
        self.items = ()
        self._write("")

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        self._spool.seek(0)
        for number, line in enumerate(self._spool, 1):
            value = json.loads(line, object_hook=_restored)
            yield number, (_KINDS[len(value)](*value) if isinstance(value, list) else value)

    def count(self) -> int | None:
        return self._count

    def _line(self, row: Any) -> str:
        if isinstance(row, Document):
            value: Any = [row.id, row.title, row.text, row.metadata]
        else:
            value = [row.id, row.text] if isinstance(row, Query) else dict(row)
        try:
            return json.dumps(value, default=_stored) + "\n"
        except (TypeError, ValueError) as error:
            raise InputError.at(
                self.source, self._count, f"{error}; give a list instead of an iterator"
            ) from error

    def _write(self, line: str) -> None:
        """Write a line to the spool; an empty one flushes it."""
        try:
            self._spool.write(line)
            if not line:
                self._spool.flush()
        except OSError as error:
            raise cannot_write(tempfile.gettempdir(), error) from error


#: How values that JSON lacks are stored in the spool: by the name of their type.
_TYPES: dict[str, tuple[type, Callable[[Any], Any], Callable[[Any], Any]]] = {
    "datetime": (datetime.datetime, datetime.datetime.isoformat, datetime.datetime.fromisoformat),
    "date": (datetime.date, datetime.date.isoformat, datetime.date.fromisoformat),
    "time": (datetime.time, datetime.time.isoformat, datetime.time.fromisoformat),
    "decimal": (decimal.Decimal, str, decimal.Decimal),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}
_MARK = "\0type"
#: Records are stored as lists of their fields.
_KINDS: dict[int, Callable[..., Any]] = {2: Query, 4: Document}


def _stored(value: Any) -> Any:
    for name, (kind, write, _) in _TYPES.items():
        if isinstance(value, kind):
            return {_MARK: name, "value": write(value)}
    if hasattr(value, "tolist"):  # numpy
        return value.tolist()
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a value of type {type(value).__name__} cannot be kept")


def _restored(values: dict[str, Any]) -> Any:
    name = values.get(_MARK)
    return _TYPES[name][2](values["value"]) if isinstance(name, str) and name in _TYPES else values
