"""Write the columns of an encoded corpus, and read them from a file of any engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix

from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.collection.metadata import metadata_text, read_metadata_text
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.records import Representations

COLUMNS = ("id", "title", "text", "dense", "terms", "weights")
#: A column that a corpus without metadata lacks.
METADATA = "metadata"

#: The most rows to read at a time, however large another engine made its files.
MAX_ROWS = 32_768


@dataclass(slots=True)
class Part:
    """Rows of an encoded corpus, n of them.

    ids, titles, texts: n strings each. dense: float32 [n, d]. lexical: CSR float32 [n, |V|],
    positive, column indices sorted. metadata: n strings, see ``collection.metadata``. ``file`` and
    ``first_row`` (from 0) say where the rows are.
    """

    file: Path
    first_row: int
    ids: list[str]
    titles: list[str]
    texts: list[str]
    dense: np.ndarray
    lexical: csr_matrix
    metadata: list[str]

    def __len__(self) -> int:
        return len(self.ids)


def write_part(
    path: Path,
    titles: Sequence[str],
    texts: Sequence[str],
    representations: Representations,
    dense_dtype: str,
    footer: Mapping[str, str],
    metadata: Sequence[str] = (),
) -> None:
    """Write one part; the same input gives the same bytes.

    ``footer`` goes into the file's footer under keys that start with ``dupmae.``. metadata: of
    each text, as ``metadata_text`` writes it.
    """
    lexical = representations.lexical
    if lexical.nnz > np.iinfo(np.int32).max:
        raise InputError.at(
            path.parent,
            None,
            f"{lexical.nnz:,} terms in {len(titles):,} texts are too many for one "
            "part; choose a smaller part size",
        )
    dense = representations.dense.astype(dense_dtype, copy=False)
    offsets = pa.array(lexical.indptr.astype(np.int32))
    columns = [
        pa.array(representations.ids, pa.string()),
        pa.array(titles, pa.string()),
        pa.array(texts, pa.string()),
        _dense_column(dense),
        pa.ListArray.from_arrays(offsets, pa.array(lexical.indices.astype(np.int32))),
        pa.ListArray.from_arrays(offsets, pa.array(lexical.data.astype(np.float32))),
    ]
    names = list(COLUMNS)
    if any(metadata):
        names.append(METADATA)
        columns.append(pa.array(metadata, pa.string()))
    table = pa.Table.from_arrays(columns, names=names).replace_schema_metadata(
        {f"dupmae.{key}": value for key, value in footer.items()}
    )
    # Statistics and dictionaries cost time and are useless for these columns.
    pq.write_table(
        table,
        path,
        compression="zstd",
        compression_level=3,
        use_dictionary=False,
        write_statistics=False,
        row_group_size=MAX_ROWS,
    )


def _dense_column(dense: np.ndarray) -> Any:
    """Rows of [n, d] as lists; Arrow's lists of a fixed size cannot be of size 0."""
    if dense.shape[1]:
        return pa.FixedSizeListArray.from_arrays(pa.array(dense.reshape(-1)), dense.shape[1])
    starts = pa.array(np.zeros(len(dense) + 1, np.int32))
    return pa.ListArray.from_arrays(starts, pa.array(dense.reshape(-1)))


def read_metadata(path: Path) -> dict[str, str]:
    """The metadata that ``write_part`` stored; empty for a file of another engine."""
    with _open(path) as file:
        stored = file.schema_arrow.metadata or {}
    prefix = b"dupmae."
    return {
        key[len(prefix) :].decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in stored.items()
        if key.startswith(prefix)
    }


def count_rows(path: Path) -> int:
    """The number of rows in one file, from its footer."""
    with _open(path) as file:
        return file.metadata.num_rows


def read_ids(path: Path) -> list[str]:
    """The ids of one file; the other columns are not read."""
    ids: list[str] = []
    with _open(path) as file:
        for batch in _batches(path, file, ["id"]):
            ids += _Rows(path, len(ids), batch).strings("id")
    return ids


def read_texts(path: Path) -> Iterator[tuple[list[str], list[str], list[dict[str, Any]]]]:
    """The ids, texts and metadata of one file, in pieces; metadata: by name, with their types."""
    with _open(path) as file:
        held = [name for name in ("id", "text", METADATA) if name in file.schema_arrow.names]
        first = 0
        for batch in _batches(path, file, held):
            rows = _Rows(path, first, batch)
            yield rows.ids(), rows.strings("text"), rows.fields()
            first += batch.num_rows


def read_parts(path: Path, dense_dim: int, vocabulary_size: int) -> Iterator[Part]:
    """Read one file in pieces of at most ``MAX_ROWS`` rows, checking every value.

    Accepts strings or large strings, lists of any kind, and floats of any width. Raises
    InputError; the message names the file and the row (from 0).
    """
    with _open(path) as file:
        missing = [name for name in COLUMNS if name not in file.schema_arrow.names]
        if missing:
            raise InputError.at(
                path,
                None,
                f"no column {', '.join(missing)}; an encoded corpus has the columns "
                f"{', '.join(COLUMNS)}",
            )
        first_row = 0
        columns = [name for name in (*COLUMNS, METADATA) if name in file.schema_arrow.names]
        for batch in _batches(path, file, columns):
            reader = _Rows(path, first_row, batch)
            yield reader.part(dense_dim, vocabulary_size)
            first_row += batch.num_rows


def _batches(path: Path, file: Any, columns: Sequence[str]) -> Iterator[Any]:
    """The rows of an open file, at most ``MAX_ROWS`` at a time."""
    try:
        yield from file.iter_batches(batch_size=MAX_ROWS, columns=list(columns))
    except (pa.ArrowException, OSError) as error:
        raise _unreadable(path, error) from error


class _Rows:
    """Convert the rows of one record batch to arrays; error messages name the row."""

    def __init__(self, path: Path, first_row: int, batch: Any) -> None:
        self.path, self.first_row, self.batch = path, first_row, batch

    def part(self, dense_dim: int, vocabulary_size: int) -> Part:
        return Part(
            file=self.path,
            first_row=self.first_row,
            ids=self.ids(),
            titles=self.strings("title"),
            texts=self.strings("text"),
            dense=self.dense(dense_dim),
            lexical=self.lexical(vocabulary_size),
            metadata=self.metadata(),
        )

    def refuse(self, row: int, message: str) -> InputError:
        return InputError.at(
            self.path, None, f"row {self.first_row + int(row)} (from 0): {message}"
        )

    def column(self, name: str) -> Any:
        column = self.batch.column(name)
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.null_count:
            row = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]
            raise self.refuse(row, f"{name} is null")
        return column

    def strings(self, name: str) -> list[str]:
        column = self.column(name)
        kind = column.type
        if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or _is_view(kind)):
            raise InputError.at(self.path, None, f"the column {name} is {kind}; it must be string")
        try:
            return column.to_pylist()
        except UnicodeDecodeError as error:  # Arrow does not validate strings
            raise self.refuse(_first_broken(column), f"{name} is not UTF-8") from error

    def ids(self) -> list[str]:
        ids = self.strings("id")
        for row, name in enumerate(ids, self.first_row):
            check_id(name, f"{self.path}: row {row} (from 0)", None)
        return ids

    def metadata(self) -> list[str]:
        """The metadata as ``metadata_text`` writes it."""
        return [
            metadata_text(values, f"{self.path}: row {row} (from 0)", None)
            for row, values in enumerate(self.fields(), self.first_row)
        ]

    def fields(self) -> list[dict[str, Any]]:
        """The metadata by name, from JSON or from a struct; null is none."""
        if METADATA not in self.batch.schema.names:
            return [{}] * self.batch.num_rows
        found = []
        for row, value in enumerate(self.batch.column(METADATA).to_pylist()):
            try:
                values = read_metadata_text(value) if isinstance(value, str) else value or {}
                if not isinstance(values, dict):
                    raise ValueError("it is a list or a number")
            except (TypeError, ValueError) as error:
                raise self.refuse(row, f"metadata is no JSON object ({error})") from error
            found.append(values)
        return found

    def lists(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """The lengths of a list column's rows, and its values, concatenated."""
        column = self.column(name)
        kind = column.type
        if pa.types.is_fixed_size_list(kind):
            lengths = np.full(len(column), kind.list_size, np.int64)
        elif pa.types.is_list(kind) or pa.types.is_large_list(kind):
            lengths = column.value_lengths().to_numpy(zero_copy_only=False).astype(np.int64)
        else:
            raise InputError.at(self.path, None, f"the column {name} is {kind}; it must be a list")
        values = column.flatten()
        if values.null_count:
            position = np.flatnonzero(values.is_null().to_numpy(zero_copy_only=False))[0]
            raise self.refuse(_row_of(lengths, position), f"{name} holds a null")
        if not len(values):  # an empty column can have any type, such as Arrow's null
            return lengths, np.zeros(0, np.int32 if name == "terms" else np.float32)
        return lengths, values.to_numpy(zero_copy_only=False)

    def dense(self, dim: int) -> np.ndarray:
        lengths, values = self.lists("dense")
        if values.dtype.kind != "f":
            raise InputError.at(self.path, None, f"dense holds {values.dtype}; it must hold floats")
        wrong = np.flatnonzero(lengths != dim)
        if len(wrong):
            raise self.refuse(
                wrong[0],
                f"dense has {lengths[wrong[0]]} values; the manifest's encoder makes {dim}",
            )
        with np.errstate(over="ignore"):
            dense = values.astype(np.float32, copy=False).reshape(len(lengths), dim)
        wrong = np.flatnonzero(~np.isfinite(dense).all(axis=1))
        if len(wrong):
            raise self.refuse(wrong[0], "dense holds a value that is not a finite float32")
        return dense

    def lexical(self, size: int) -> csr_matrix:
        lengths, terms = self.lists("terms")
        weight_lengths, weights = self.lists("weights")
        if len(wrong := np.flatnonzero(lengths != weight_lengths)):
            row = wrong[0]
            raise self.refuse(
                row,
                f"{lengths[row]} terms but {weight_lengths[row]} weights; give one per term",
            )
        if terms.dtype.kind not in "iu":
            raise InputError.at(
                self.path, None, f"terms holds {terms.dtype}; it must hold integers"
            )
        if weights.dtype.kind not in "fiu":
            raise InputError.at(
                self.path, None, f"weights holds {weights.dtype}; it must hold floats"
            )
        if len(wrong := np.flatnonzero((terms < 0) | (terms >= size))):
            raise self.refuse(
                _row_of(lengths, wrong[0]),
                f"the term {terms[wrong[0]]} is not in the vocabulary, which has {size} entries",
            )
        with np.errstate(over="ignore"):
            weights = weights.astype(np.float32, copy=False)
        if len(wrong := np.flatnonzero(~(np.isfinite(weights) & (weights >= 0)))):
            raise self.refuse(
                _row_of(lengths, wrong[0]),
                f"the weight {weights[wrong[0]]} is not a finite number of at least 0",
            )
        rows = np.repeat(np.arange(len(lengths)), lengths)
        order = np.lexsort((terms, rows))
        rows, terms, weights = rows[order], terms[order].astype(np.int32), weights[order]
        twice = np.flatnonzero((rows[1:] == rows[:-1]) & (terms[1:] == terms[:-1]))
        if len(twice):
            raise self.refuse(rows[twice[0]], f"the term {terms[twice[0]]} occurs twice")
        kept = weights > 0
        indptr = np.zeros(len(lengths) + 1, np.int64)
        np.cumsum(np.bincount(rows[kept], minlength=len(lengths)), out=indptr[1:])
        matrix = csr_matrix((weights[kept], terms[kept], indptr), shape=(len(lengths), size))
        matrix.has_sorted_indices = matrix.has_canonical_format = True
        return matrix


def _first_broken(column: Any) -> int:
    for row, value in enumerate(column):
        try:
            value.as_py()
        except UnicodeDecodeError:
            return row
    return 0


def _row_of(lengths: np.ndarray, position: int) -> int:
    """The row that holds the value at ``position`` of a flattened list column."""
    return int(np.searchsorted(np.cumsum(lengths), position, side="right"))


def _is_view(kind: Any) -> bool:
    return hasattr(pa.types, "is_string_view") and pa.types.is_string_view(kind)


def _open(path: Path) -> Any:
    try:
        file = pq.ParquetFile(path)
        _ = file.schema_arrow  # raises for column names that are not text
        return file
    except FileNotFoundError as error:
        raise InputError.at(path, None, "no such file; the encoded corpus is incomplete") from error
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: Exception) -> DupMAEError:
    text = " ".join(str(error).split())[:200]
    return InputError.at(
        path, None, f"not readable as Parquet ({text}); delete it and encode again"
    )
