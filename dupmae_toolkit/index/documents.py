"""A segment's ids, titles, texts and metadata by row, in a Parquet file read group by group.

Documents with metadata have them as JSON in the column ``metadata``, and again as typed columns
(`fields.py`), whose fields and kinds the footer names.
"""

from __future__ import annotations

import contextlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.collection.metadata import OWN_FIELDS, read_metadata_text
from dupmae_toolkit.collection.passages import SPAN
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.fields import KINDS, arrow_type, columns_of, frequent_fields
from dupmae_toolkit.records import Document

_COLUMNS = OWN_FIELDS
_METADATA = "metadata"
#: In the footer: the typed columns, each a field and a kind; and whether other fields have none.
_FIELDS, _OTHERS = b"dupmae.fields", b"dupmae.other_fields"
_ROWS_IN_A_GROUP = 512
_GROUPS_KEPT = 64
#: Bytes of typed columns that are kept.
_FIELDS_KEPT = 2**26
_FEW = 64  # for more rows of a group than this, converting the whole group is cheaper


def write_documents(
    path: Path,
    ids: Sequence[str],
    titles: Sequence[str],
    texts: Sequence[str],
    metadata: Sequence[str] = (),
) -> None:
    """Write the columns id, title, text and, if any document has some, those of metadata.

    metadata: of each document, as ``metadata_text`` writes it.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(list(values), pa.large_string()) for values in (ids, titles, texts)]
    names = list(_COLUMNS)
    footer = {}
    if any(metadata):
        rows = list(map(read_metadata_text, metadata))
        kept, others = frequent_fields(rows)
        typed = columns_of([{k: v for k, v in row.items() if k in kept} for row in rows])
        columns += [pa.array(list(metadata), pa.large_string()), *typed.values()]
        # Not the fields' own names: Parquet takes a dot in a name for a path.
        names += [_METADATA, *(_typed(number) for number in range(len(typed)))]
        footer = {_FIELDS: json.dumps(list(typed)), _OTHERS: json.dumps(others)}
    table = pa.table(columns, names=names)
    pq.write_table(
        table.replace_schema_metadata(footer) if footer else table,
        path,
        row_group_size=_ROWS_IN_A_GROUP,
        compression="zstd",
        write_page_checksum=True,
    )


class SegmentDocuments:
    """Documents by row. Row groups are read when needed; the most recently used ones are kept."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        self.path = Path(path)
        with _explained(self.path):
            self._file = pq.ParquetFile(self.path, memory_map=True, page_checksum_verification=True)
            schema = self._file.schema_arrow
        self._columns = [*_COLUMNS, _METADATA] if _METADATA in schema.names else [*_COLUMNS]
        for name in self._columns:
            if name not in schema.names:
                raise InputError(f"{path}: the column {name!r} is missing")
            kind = schema.field(name).type
            if not (pa.types.is_string(kind) or pa.types.is_large_string(kind)):
                raise InputError(f"{path}: the column {name!r} is {kind}; it must be string")
        metadata = self._file.metadata
        rows = [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]
        if min(rows, default=0) < 0:
            raise InputError(f"{path}: its footer counts {min(rows)} rows; it is damaged")
        self._starts = np.concatenate([[0], np.cumsum(rows)]).astype(np.int64)
        self._groups: OrderedDict[int, Any] = OrderedDict()
        self._lock = threading.Lock()
        self._fields: TypedColumns | None = None

    def __len__(self) -> int:
        return int(self._starts[-1])

    def get(self, numbers: Sequence[int] | np.ndarray) -> list[Document]:
        """The documents of these rows, in the order asked for; IndexError beyond the end."""
        wanted = np.asarray(numbers, np.int64)
        if len(wanted) and (wanted.min() < 0 or wanted.max() >= len(self)):
            raise IndexError(f"{self.path}: document numbers go from 0 to {len(self) - 1}")
        groups = np.searchsorted(self._starts, wanted, side="right") - 1
        found: dict[int, Document] = {}
        for group in np.unique(groups).tolist():
            table = self._group(group)
            here = np.unique(wanted[groups == group])
            rows = (here - self._starts[group]).tolist()
            columns = [table.column(name) for name in self._columns]
            with _explained(self.path):
                # Not table.take: it makes Arrow import pandas, which takes longer than a search.
                if len(rows) > _FEW:
                    columns = [column.to_pylist() for column in columns]
                    values = [[column[row] for row in rows] for column in columns]
                else:
                    values = [[column[row].as_py() for row in rows] for column in columns]
                if len(values) > len(_COLUMNS):
                    values[-1] = [read_metadata_text(text or "") for text in values[-1]]
            found.update(zip(here.tolist(), map(Document, *values), strict=True))
        return list(map(found.__getitem__, wanted.tolist()))

    def ids(self) -> list[str]:
        """The ids of all documents, by row."""
        with _explained(self.path):
            return self._file.read(columns=["id"]).column("id").to_pylist()

    @property
    def fields(self) -> TypedColumns:
        """The columns that filters read."""
        if self._fields is None:
            with self._lock:
                self._fields = self._fields or TypedColumns(self.path, self._file)
        return self._fields

    def _group(self, number: int) -> Any:
        with self._lock:
            if number not in self._groups:
                with _explained(self.path):
                    group = self._file.read_row_group(number, self._columns)
                    if group.num_rows != self._starts[number + 1] - self._starts[number]:
                        raise InputError(f"{self.path}: holds other rows than its footer says")
                    self._groups[number] = group
                if len(self._groups) > _GROUPS_KEPT:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
            return self._groups[number]


class TypedColumns:
    """The typed columns of a segment's documents, and id, title and text as fields of strings.

    Fields that have no columns, because there are too many, are read from the metadata's JSON.
    """

    def __init__(self, path: Path, file: Any) -> None:
        self._path, self._file = path, file
        self._lock = threading.Lock()
        #: The name of the column of each kind, by field.
        self._names: dict[str, dict[str, str]] = {name: {"str": name} for name in _COLUMNS}
        self._has_others = False
        self._others: dict[str, dict[str, Any]] | None = None
        self._kept: OrderedDict[str, Any] = OrderedDict()
        with _explained(path):
            self._read_footer()

    def __len__(self) -> int:
        """The number of rows."""
        return int(self._file.metadata.num_rows)

    def kinds(self) -> Mapping[str, Sequence[str]]:
        """The kinds of values that documents of this segment have in each field."""
        found = {name: tuple(kinds) for name, kinds in self._names.items()}
        if self._has_others:
            found |= {name: tuple(kinds) for name, kinds in self._from_json().items()}
        return found

    def columns(self, field: str) -> dict[str, Any]:
        """The columns of a field by kind, Arrow arrays of all rows; none if no document has it."""
        if field in self._names:
            return {kind: self._column(name) for kind, name in self._names[field].items()}
        return self._from_json().get(field, {}) if self._has_others else {}

    def _column(self, name: str) -> Any:
        with self._lock:
            if name not in self._kept:
                with _explained(self._path):
                    read = self._file.read(columns=[name]).column(name)
                    column = read.combine_chunks()
                if len(column) != len(self):
                    raise InputError(f"{self._path}: holds other rows than its footer says")
                if name == "text":
                    return column
                self._kept[name] = column
                while len(self._kept) > 1 and self._size() > _FIELDS_KEPT:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]

    def _size(self) -> int:
        return sum(column.nbytes for column in self._kept.values())

    def _from_json(self) -> dict[str, dict[str, Any]]:
        """The columns of the fields that have none in the file."""
        with self._lock:
            if self._others is None:
                with _explained(self._path):
                    texts = self._file.read(columns=[_METADATA]).column(_METADATA).to_pylist()
                    rows = [read_metadata_text(text or "") for text in texts]
                self._others = {}
                for (name, kind), column in columns_of(rows, without=self._names).items():
                    self._others.setdefault(name, {})[kind] = column
            return self._others

    def _read_footer(self) -> None:
        schema = self._file.schema_arrow
        footer = schema.metadata or {}
        listed = json.loads(footer.get(_FIELDS, b"[]"))
        for number, (field, kind) in enumerate(listed):
            name = _typed(number)
            known = isinstance(field, str) and kind in KINDS and name in schema.names
            if not known or schema.field(name).type != arrow_type(kind):
                raise ValueError("its footer names other columns than it has")
            self._names.setdefault(field, {})[kind] = name
        self._has_others = bool(json.loads(footer.get(_OTHERS, b"false")))


class PassageColumns(TypedColumns):
    """The columns of a segment of passages, as fields of the documents that they are of."""

    def __init__(self, columns: TypedColumns) -> None:
        self._rows = columns

    def __len__(self) -> int:
        """The number of rows."""
        return len(self._rows)

    def kinds(self) -> Mapping[str, Sequence[str]]:
        """See ``TypedColumns.kinds``."""
        return {name: kinds for name, kinds in self._rows.kinds().items() if name != SPAN}

    def columns(self, field: str) -> dict[str, Any]:
        """See ``TypedColumns.columns``; InputError for the text, which no row has as a whole."""
        if field == "text":
            raise InputError(
                "an index of passages has no whole texts, which a filter on 'text' would read; "
                "filter by other fields"
            )
        found = self._rows.columns(field)
        if field != "id":
            return found
        import pyarrow.compute as pc

        return {"str": pc.replace_substring_regex(found["str"], "#[0-9]+$", "")}


def _typed(number: int) -> str:
    """The name of a typed column."""
    return f"field-{number}"


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of reading Parquet, or JSON in it, into an InputError of one line."""
    import pyarrow as pa

    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the index is incomplete") from error
    except (OSError, pa.ArrowException, ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from error
