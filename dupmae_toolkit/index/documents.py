"""A segment's ids, titles and texts by row, in a Parquet file that is read group by group."""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document

_COLUMNS = ("id", "title", "text")
_ROWS_IN_A_GROUP = 512
_GROUPS_KEPT = 64
_FEW = 64  # for more rows of a group than this, converting the whole group is cheaper


def write_documents(
    path: Path, ids: Sequence[str], titles: Sequence[str], texts: Sequence[str]
) -> None:
    """Write the columns id, title, text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [pa.array(list(values), pa.large_string()) for values in (ids, titles, texts)]
    table = pa.table(columns, names=list(_COLUMNS))
    pq.write_table(
        table,
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
        for name in _COLUMNS:
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
            columns = [table.column(name) for name in _COLUMNS]
            with _explained(self.path):
                # Not table.take: it makes Arrow import pandas, which takes longer than a search.
                if len(rows) > _FEW:
                    columns = [column.to_pylist() for column in columns]
                    values = [[column[row] for row in rows] for column in columns]
                else:
                    values = [[column[row].as_py() for row in rows] for column in columns]
            found.update(zip(here.tolist(), map(Document, *values), strict=True))
        return list(map(found.__getitem__, wanted.tolist()))

    def ids(self) -> list[str]:
        """The ids of all documents, by row."""
        with _explained(self.path):
            return self._file.read(columns=["id"]).column("id").to_pylist()

    def _group(self, number: int) -> Any:
        with self._lock:
            if number not in self._groups:
                with _explained(self.path):
                    group = self._file.read_row_group(number, list(_COLUMNS))
                    if group.num_rows != self._starts[number + 1] - self._starts[number]:
                        raise InputError(f"{self.path}: holds other rows than its footer says")
                    self._groups[number] = group
                if len(self._groups) > _GROUPS_KEPT:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(number)
            return self._groups[number]


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn the errors of reading Parquet into an InputError of one line."""
    import pyarrow as pa

    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the index is incomplete") from error
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({' '.join(str(error).split())})") from error
