"""Topics: ids and texts, in the same formats as corpora."""

from __future__ import annotations

from dataclasses import dataclass

from dupmae_toolkit.collection.fields import (
    ANY_COLUMNS,
    QUERY_NAMES,
    Columns,
    Reading,
    RecordReader,
)
from dupmae_toolkit.collection.rows import Rows
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query


@dataclass(frozen=True, slots=True)
class Topics:
    """Topics in their original order, and what was taken for what in reading them."""

    queries: list[Query]
    reading: Reading


def topics_of(rows: Rows, columns: Columns = ANY_COLUMNS) -> Topics:
    """The topics that are records of any format, in their order.

    Raises InputError with the place of a record that is no topic, of an empty text, and of a
    duplicate id (with both places).
    """
    reader = RecordReader(columns, QUERY_NAMES)
    queries: list[Query] = []
    seen: dict[str, int] = {}
    number = 0

    def fault(message: str) -> InputError:
        return InputError.at(*rows.where(number), message)

    for place, (number, row) in enumerate(rows):
        if isinstance(row, InputError):
            raise row
        found = reader.given(row, place, fault)
        if found.id in seen:
            path, line = rows.where(seen[found.id])
            where = f"line {line}" if line is not None else path
            raise fault(f"topic {found.id} is already in {where}; remove one")
        seen[found.id] = number
        queries.append(Query(found.id, found.text))
    if not queries:
        raise InputError.at(rows.source, None, "no topics in it")
    reader.reading.remarks = list(rows.remarks)
    return Topics(queries, reader.reading)
