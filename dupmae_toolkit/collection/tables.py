"""Rows of Parquet files, of Arrow and data frames in memory, and of the library datasets."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from dupmae_toolkit.collection.cells import Column
from dupmae_toolkit.collection.fields import (
    ANY_COLUMNS,
    DOCUMENT_NAMES,
    Columns,
    Names,
    find_fields,
)
from dupmae_toolkit.collection.rows import Row, Rows
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.hub import quietly, why_not

HUB_PREFIX = "hf:"
_HUB_NAME = re.compile(
    r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>\w+))?"
)
_SAVED = ("state.json", "dataset_dict.json")
_ROWS = 1024  # read at a time
#: What Hive, Spark and Arrow write for a missing value in the name of a folder.
_NO_PARTITION = "__HIVE_DEFAULT_PARTITION__"
#: The vectors of an encoded corpus, which are no metadata.
_VECTORS = ("dense", "terms", "weights")


class Table(Rows):
    """Rows with numbers from 1; messages count them from 0, as Arrow and pandas do.

    texts_only: read only the columns with title and text, for training.
    """

    def __init__(
        self,
        source: str,
        columns: Columns = ANY_COLUMNS,
        names: Names = DOCUMENT_NAMES,
        *,
        texts_only: bool = False,
    ) -> None:
        self.source, self.columns, self.names = source, columns, names
        self.texts_only = texts_only

    def where(self, number: int) -> tuple[str, int | None]:
        return f"{self.source}: row {number - 1} (from 0)", None

    def wanted(self, present: Sequence[str]) -> list[str]:
        """The columns to read. Raises InputError if one has no name of its own."""
        twice = next((name for name in present if list(present).count(name) > 1), None)
        if twice is not None:
            raise InputError.at(self.source, None, f"two columns are named {twice!r}; rename one")
        found = find_fields(tuple(present), self.names, self.columns)
        if self.texts_only and found.text is not None:
            return [name for name in (found.text, found.title) if name is not None]
        if all(name in present for name in _VECTORS):
            return [name for name in present if name not in _VECTORS]
        return list(present)


class ParquetRows(Table):
    """The rows of Parquet files, one file after another; ``_ROWS`` are in memory at a time.

    folder: where the files lie; a folder such as ``year=2020`` below it gives a column ``year``.
    """

    def __init__(self, files: Sequence[Path], source: str, folder: Path | None, **how: Any) -> None:
        super().__init__(source, **how)
        self.files, self.folder = files, folder
        self._starts: list[int] = []

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        self._starts, number = [], 0
        partitions: dict[str, Column] = {}
        for name, value in (pair for file in self.files for pair in self._pairs(file)):
            partitions.setdefault(name, Column()).add(value)
        for file in self.files:
            self._starts.append(number)
            keys = {name: partitions[name].value(value) for name, value in self._pairs(file)}
            for row in self._rows(file):
                number += 1
                yield number, (keys | row if keys else row)

    def where(self, number: int) -> tuple[str, int | None]:
        place = max(0, bisect_right(self._starts, number - 1) - 1)
        start = self._starts[place] if self._starts else 0
        return f"{self.files[place]}: row {number - start - 1} (from 0)", None

    def count(self) -> int | None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            return sum(pq.read_metadata(file).num_rows for file in self.files)
        except (OSError, pa.ArrowException):
            return None  # iterating will raise it

    def _rows(self, path: Path) -> Iterator[dict[str, Any]]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        try:
            with pq.ParquetFile(path) as file:
                wanted = self.wanted(file.schema_arrow.names)
                for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                    yield from batch_rows(batch)
        except (OSError, pa.ArrowException, UnicodeDecodeError, OverflowError, ValueError) as error:
            if isinstance(error, InputError):
                raise
            raise InputError.at(
                path, None, f"cannot be read as Parquet ({_brief(error)})"
            ) from error

    def _pairs(self, file: Path) -> list[tuple[str, str]]:
        """The columns that the names of folders state, with their values; "" for none."""
        if self.folder is None or self.texts_only:
            return []
        parts = file.relative_to(self.folder).parts[:-1]
        pairs = (part.split("=", 1) for part in parts if "=" in part)
        return [
            (unquote(name), "" if value == _NO_PARTITION else unquote(value))
            for name, value in pairs
        ]


def batch_rows(batch: Any) -> list[dict[str, Any]]:
    """The rows of an Arrow record batch, as Python values.

    Times in nanoseconds become those in microseconds, which Python has.
    """
    import pyarrow as pa

    for place, field in enumerate(batch.schema):
        if pa.types.is_timestamp(field.type) and field.type.unit == "ns":
            kind = pa.timestamp("us", field.type.tz)
            column = batch.column(place).cast(kind, safe=False)
            batch = batch.set_column(place, field.with_type(kind), column)
    rows: list[dict[str, Any]] = batch.to_pylist()
    return rows


class FrameRows(Table):
    """The rows of a data frame of pandas or polars, or of an Arrow table or reader in memory."""

    def __init__(self, frame: Any, source: str, **how: Any) -> None:
        super().__init__(source, **how)
        self.frame = frame

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        number = 0
        for rows in self._pieces():
            for row in rows:
                number += 1
                yield number, row

    def count(self) -> int | None:
        return len(self.frame)

    def _pieces(self) -> Iterator[list[dict[str, Any]]]:
        frame = self.frame
        if hasattr(frame, "to_batches"):  # Arrow
            table = frame.select(self.wanted(frame.schema.names))
            yield from map(batch_rows, table.to_batches(max_chunksize=_ROWS))
        elif hasattr(frame, "iter_rows"):  # polars
            wanted = frame.select(self.wanted(frame.columns))
            for start in range(0, len(wanted), _ROWS):
                yield wanted.slice(start, _ROWS).to_dicts()
        else:  # pandas
            named = any(name is not None for name in frame.index.names)
            if named:
                frame = frame.reset_index()
            elif type(frame.index).__name__ != "RangeIndex":
                self.remarks = [
                    f"{self.source}: the data frame's index, without a name, is not read"
                ]
            places = {str(name): place for place, name in enumerate(frame.columns)}
            wanted = self.wanted([str(name) for name in frame.columns])
            frame = frame.iloc[:, [places[name] for name in wanted]].set_axis(wanted, axis=1)
            for start in range(0, len(frame), _ROWS):
                rows = frame.iloc[start : start + _ROWS].to_dict("records")
                yield [{name: _present(value) for name, value in row.items()} for row in rows]


def is_frame(value: Any) -> bool:
    """Whether ``FrameRows`` reads it."""
    arrow = hasattr(value, "schema") and hasattr(value, "to_batches") and hasattr(value, "select")
    pandas = hasattr(value, "iloc") and hasattr(value, "columns")
    polars = hasattr(value, "iter_rows") and hasattr(value, "to_dicts")
    return arrow or pandas or polars


def _present(value: Any) -> Any:
    """A value of pandas; None for those that it has in place of a missing one."""
    missing = type(value).__name__ in ("NAType", "NaTType")
    return None if missing or (isinstance(value, float) and value != value) else value


class DatasetRows(Table):
    """The rows of a data set of the library datasets: of the hub, or saved in a folder.

    stream: read a data set of the hub while it is downloaded, and again with each pass; otherwise
    it is downloaded first, and kept where the library keeps its files.
    """

    def __init__(self, source: str, *, stream: bool = False, **how: Any) -> None:
        super().__init__(source, **how)
        self.stream = stream
        if source.startswith(HUB_PREFIX) and _HUB_NAME.fullmatch(source) is None:
            raise InputError(f"{source}: write a data set of the hub as hf:OWNER/NAME:CONFIG@SPLIT")

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        datasets = self._library()
        try:
            with quietly():
                loaded = self._narrowed(self._load(datasets))
            yield from enumerate(loaded, 1)
        except InputError:
            raise
        except Exception as error:
            raise InputError(
                f"{self.source}: cannot be read as a data set ({why_not(error)})"
            ) from error

    def _load(self, datasets: Any) -> Any:
        match = _HUB_NAME.fullmatch(self.source)
        if match is not None:
            how = {"streaming": True} if self.stream else {}
            split = match["split"] or "train"
            return datasets.load_dataset(match["name"], match["config"], split=split, **how)
        found = datasets.load_from_disk(self.source)
        if isinstance(found, dict):
            if "train" not in found:
                raise InputError(
                    f"{self.source}: no split 'train'; name one of {sorted(found)} in it"
                )
            found = found["train"]
        return found

    def _narrowed(self, dataset: Any) -> Any:
        """The data set with only the columns that are read, if its columns are known."""
        names = getattr(dataset, "column_names", None) or []
        wanted = self.wanted(names)
        return dataset.select_columns(wanted) if len(wanted) < len(names) else dataset

    def _library(self) -> Any:
        try:
            import datasets
        except ImportError as error:
            raise InputError(
                f"{self.source}: needs the package datasets; pip install datasets"
            ) from error
        return datasets


def is_saved(folder: Path) -> bool:
    """Whether the library datasets saved a data set in a folder."""
    return any((folder / name).is_file() for name in _SAVED)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
