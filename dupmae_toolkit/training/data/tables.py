"""Training texts from tables: Parquet files, and data sets of the library datasets."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.corpora import TEXT_KEYS
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document

HUB_PREFIX = "hf:"
_HUB_NAME = re.compile(
    r"hf:(?P<name>[\w.-]+(?:/[\w.-]+)?)(?::(?P<config>[\w.-]+))?(?:@(?P<split>\w+))?"
)
_SAVED = ("state.json", "dataset_dict.json")
_ROWS = 1024  # read at a time


def is_table(path: str) -> bool:
    """Whether ``open_table`` reads it: a Parquet file or a folder of them, or a data set.

    An encoded corpus is such a folder of Parquet files.
    """
    if path.startswith(HUB_PREFIX) or path.lower().endswith(".parquet"):
        return True
    folder = Path(path)
    return folder.is_dir() and (_is_saved(folder) or bool(_parts(folder)))


def open_table(path: str) -> Iterator[Document]:
    """The documents of a table with the columns ``text`` (``contents``, ``body``) and ``title``.

    - a ``.parquet`` file, or a folder of them, read in the order of their names;
    - a folder that ``datasets`` saved: the split ``train`` if it has several;
    - ``hf:NAME``, ``hf:NAME:CONFIG``, ``hf:NAME:CONFIG@SPLIT``: a data set of the hub, streamed.

    Ids are row numbers, from 0. Raises InputError that names the file and the row.
    """
    if path.startswith(HUB_PREFIX):
        yield from _documents(_hub_rows(path), path)
        return
    place = Path(path)
    if place.is_dir() and _is_saved(place):
        yield from _documents(_saved_rows(place), path)
        return
    for file in _parts(place) if place.is_dir() else [place]:
        yield from _documents(_parquet_rows(file), str(file))


def _parts(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.parquet"))


def _is_saved(folder: Path) -> bool:
    return any((folder / name).is_file() for name in _SAVED)


def _documents(rows: Iterator[Mapping[str, Any]], source: str) -> Iterator[Document]:
    for number, row in enumerate(rows):
        key = next((key for key in TEXT_KEYS if key in row), None)
        if key is None:
            columns = ", ".join(map(str, row)) or "none"
            raise InputError(
                f"{source}: no column with texts (one of {', '.join(TEXT_KEYS)}); it has {columns}"
            )
        title = row.get("title")
        for name, value in ((key, row[key]), ("title", "" if title is None else title)):
            if not isinstance(value, str):
                kind = "null" if value is None else type(value).__name__
                raise InputError(
                    f"{source}: row {number} (from 0): {name} is {kind}; a string is expected"
                )
        yield Document(str(number), title or "", row[key])


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    """Rows with only the columns that are used; ``_ROWS`` are in memory at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            names = file.schema_arrow.names
            wanted = [name for name in (*TEXT_KEYS, "title") if name in names]
            if not any(name in TEXT_KEYS for name in wanted):
                yield dict.fromkeys(names)
                return
            for batch in file.iter_batches(batch_size=_ROWS, columns=wanted):
                yield from batch.to_pylist()
    except (OSError, pa.ArrowException, UnicodeDecodeError) as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: cannot be read as Parquet ({reason})") from error


def _saved_rows(folder: Path) -> Iterator[dict[str, Any]]:
    datasets = _library(str(folder))
    try:
        found = datasets.load_from_disk(str(folder))
        if isinstance(found, dict):
            if "train" not in found:
                raise InputError(f"{folder}: no split 'train'; name one of {sorted(found)} in it")
            found = found["train"]
        yield from _wanted(found)
    except InputError:
        raise
    except Exception as error:
        raise _failed(str(folder), error) from error


def _hub_rows(path: str) -> Iterator[dict[str, Any]]:
    match = _HUB_NAME.fullmatch(path)
    if match is None:
        raise InputError(f"{path}: write a data set of the hub as hf:OWNER/NAME:CONFIG@SPLIT")
    datasets = _library(path)
    try:
        yield from _wanted(
            datasets.load_dataset(
                match["name"], match["config"], split=match["split"] or "train", streaming=True
            )
        )
    except Exception as error:
        raise _failed(path, error) from error


def _wanted(dataset: Any) -> Any:
    """The data set with only the used columns, if its columns are known and one has texts."""
    names = getattr(dataset, "column_names", None) or []
    wanted = [name for name in (*TEXT_KEYS, "title") if name in names]
    return dataset.select_columns(wanted) if set(wanted) - {"title"} else dataset


def _library(path: str) -> Any:
    try:
        import datasets
    except ImportError as error:
        raise InputError(f"{path}: needs the package datasets; pip install datasets") from error
    return datasets


def _failed(path: str, error: Exception) -> InputError:
    reason = " ".join(str(error).split())[:200] or type(error).__name__
    return InputError(f"{path}: cannot be read as a data set ({reason})")
