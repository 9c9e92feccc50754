"""The three formats of vectors, read in the order of their documents; see `vector_layout.py`."""

from __future__ import annotations

import contextlib
import itertools
import json
import sys
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.collection.metadata import metadata_text, read_metadata_text
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.forward import read_array
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.interop.vector_layout import (
    ARRAYS,
    BATCH,
    DENSE_ARRAY,
    DENSE_LINES,
    DOCUMENTS,
    IDS,
    LEXICAL_LINES,
    PARTS,
    VOCABULARY_FILE,
    array_file,
)
from dupmae_toolkit.records import EncoderInfo

#: Integers in JSON may be longer than any float.
_LARGEST = sys.float_info.max


def _lines(path: Path) -> Generator[tuple[int | None, dict[str, Any]], None, None]:
    """The objects in a file of JSON lines, with their line numbers."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                value = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError.at(path, number, f"not JSON ({error})") from error
            if not isinstance(value, dict) or not isinstance(value.get("id"), str):
                raise InputError.at(path, number, "no object with an id")
            yield number, value


def _documents(folder: Path, record: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """The documents in ``DOCUMENTS``, ``BATCH`` at a time; metadata as from ``metadata_text``."""
    path = folder / DOCUMENTS
    total = 0
    lines = _lines(path)
    while batch := list(itertools.islice(lines, BATCH)):
        for number, item in batch:
            if not all(isinstance(item.get(key), str) for key in ("title", "text")):
                raise InputError.at(path, number, "no title and text, both strings")
            try:
                stored = json.dumps(item["metadata"]) if item.get("metadata") else ""
                values = read_metadata_text(stored)
            except (TypeError, ValueError) as error:
                raise InputError.at(path, number, f"metadata: {error}") from error
            item["metadata"] = metadata_text(values, path, number)
        total += len(batch)
        yield [item for _, item in batch]
    if total != record["count"]:
        raise _miscounted(path, total, record)


def _miscounted(path: Path, total: int, record: dict[str, Any]) -> InputError:
    return InputError.at(path, None, f"{total:,} documents, not {record['count']:,}")


def _rows(documents: list[dict[str, Any]], dense: np.ndarray, lexical: csr_matrix) -> Rows:
    names = ("id", "title", "text", "metadata")
    ids, titles, texts, metadata = ([each[name] for each in documents] for name in names)
    return Rows(ids, titles, texts, dense, lexical, metadata)


def read_lines(folder: Path, terms: list[str], record: dict[str, Any]) -> Iterator[Rows]:
    """The vectors, float32 weights, of a folder with this record. terms: the vocabulary's.

    Raises InputError where a file does not fit the record or another file.
    """
    info: EncoderInfo = record["info"]
    columns = {term: column for column, term in enumerate(terms)}
    scale = record["scale"] or 1.0
    with contextlib.ExitStack() as stack:

        def vectors(name: str) -> Callable[[str], Any]:
            lines = _lines(folder / name)
            stack.callback(lines.close)
            ended: tuple[int | None, dict[str, Any]] = (None, {})

            def following(wanted: str) -> tuple[int | None, Any]:
                number, item = next(lines, ended)
                if item.get("id") != wanted:
                    fault = f"not the vector of the next document, {wanted!r}"
                    raise InputError.at(folder / name, number, fault)
                return number, item.get("vector")

            return following

        next_dense = vectors(DENSE_LINES) if info.dense_dim else None
        next_lexical = vectors(LEXICAL_LINES) if "lexical" in info.sides else None
        for documents in _documents(folder, record):
            dense = np.zeros((len(documents), info.dense_dim), np.float32)
            indices: list[int] = []
            data: list[float] = []
            starts = [0]
            for row, document in enumerate(documents):
                if next_dense is not None:
                    number, found = next_dense(document["id"])
                    if not _are_numbers(found) or len(found) != info.dense_dim:
                        fault = f"no vector of {info.dense_dim} numbers"
                        raise InputError.at(folder / DENSE_LINES, number, fault)
                    with np.errstate(over="ignore"):
                        dense[row] = found
                if next_lexical is not None:
                    number, found = next_lexical(document["id"])
                    place = folder / LEXICAL_LINES
                    if not isinstance(found, dict) or not _are_numbers(list(found.values())):
                        raise InputError.at(place, number, "no vector of terms and numbers")
                    unknown = next((term for term in found if term not in columns), None)
                    if unknown is not None:
                        fault = f"the term {unknown!r} is not in {VOCABULARY_FILE}"
                        raise InputError.at(place, number, fault)
                    indices += [columns[term] for term in found]
                    data += found.values()
                starts.append(len(indices))
            weights = np.array(data, np.float64) / scale
            arrays = (weights.astype(np.float32), np.array(indices, np.int32), np.array(starts))
            yield _rows(documents, dense, csr_matrix(arrays, (len(documents), len(terms))))


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(
        isinstance(each, int | float) and not isinstance(each, bool) and abs(each) <= _LARGEST
        for each in values
    )


def read_arrays(folder: Path, terms: list[str], record: dict[str, Any]) -> Iterator[Rows]:
    """The vectors, float32 weights, of a folder with this record. terms: the vocabulary's.

    Raises InputError where a file does not fit the record or another file.
    """
    info: EncoderInfo = record["info"]
    kinds = dict(zip(ARRAYS, ("i", "i", "uf", "i"), strict=True))
    found = {name: read_array(folder / array_file(name), kinds[name]) for name in ARRAYS}
    starts, indices, data = (found[name] for name in ("indptr", "indices", "data"))
    count = record["count"]
    # Compared, not subtracted: differences of hostile numbers would wrap.
    fits = len(starts) == count + 1 and starts[0] == 0 and (starts[1:] >= starts[:-1]).all()
    fits = fits and starts[-1] == len(indices) == len(data)
    fits = fits and (not len(indices) or 0 <= indices.min() <= indices.max() < len(terms))
    if not fits or found["shape"].tolist() != [count, len(terms)]:
        raise InputError.at(folder, None, "the arrays of the lexical vectors are inconsistent")
    dense = np.zeros((count, 0), np.float32)
    if info.dense_dim:
        dense = read_array(folder / DENSE_ARRAY, "f", 2)
    if len(dense) != count:
        raise _miscounted(folder / DENSE_ARRAY, len(dense), record)
    with (folder / IDS).open(encoding="utf-8", newline="\n") as ids:
        first = 0
        for documents in _documents(folder, record):
            for document in documents:
                if ids.readline() != f"{document['id']}\n":
                    fault = f"does not name {document['id']!r} where {DOCUMENTS} does"
                    raise InputError.at(folder / IDS, None, fault)
            last = first + len(documents)
            if last > count:
                raise _miscounted(folder / DOCUMENTS, last, record)
            span = slice(starts[first], starts[last])
            weights = (data[span].astype(np.float64) / (record["scale"] or 1.0)).astype(np.float32)
            arrays = (weights, np.array(indices[span]), starts[first : last + 1] - starts[first])
            lexical = csr_matrix(arrays, (len(documents), len(terms)))
            yield _rows(documents, np.array(dense[first:last], np.float32), lexical)
            first = last


def read_parquet(folder: Path, terms: list[str], record: dict[str, Any]) -> Iterator[Rows]:
    """The vectors, float32 weights, of a folder with this record. terms: the vocabulary's.

    Raises InputError where a file does not fit the record or another file.
    """
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    known = pa.array(terms, pa.string())
    names = ("id", "title", "text", "metadata", "dense", "terms", "weights")
    total = 0
    parts = [name for name in record["files"] if PARTS.fullmatch(name)]
    for path in (folder / name for name in sorted(parts, key=lambda name: (len(name), name))):
        try:
            table = pq.read_table(path, columns=list(names), partitioning=None)
            table = table.combine_chunks()
            _check_lists(path, table, record["info"].dense_dim)
            documents = table.select(names[:4]).to_pylist()
            columns = pc.index_in(pc.list_flatten(table["terms"]), value_set=known)
            if columns.null_count:
                raise InputError.at(path, None, f"has a term that is not in {VOCABULARY_FILE}")
            lengths = pc.list_value_length(table["terms"]).to_numpy()
            weights = pc.list_flatten(table["weights"]).to_numpy()
            dense = pc.list_flatten(table["dense"]).to_numpy().astype(np.float32)
            for document in documents:
                document["metadata"] = document["metadata"] or ""
            starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
            arrays = (weights.astype(np.float32), columns.to_numpy().astype(np.int32), starts)
            lexical = csr_matrix(arrays, (len(documents), len(terms)))
            dense = dense.reshape(len(documents), record["info"].dense_dim)
            _check_texts(path, documents)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            if isinstance(error, InputError):
                raise
            fault = " ".join(str(error).split())[:200]
            raise InputError.at(path, None, f"not readable as vectors ({fault})") from error
        total += len(documents)
        yield _rows(documents, dense, lexical)
    if total != record["count"]:
        raise _miscounted(folder, total, record)


def _check_lists(path: Path, table: Any, dense_dim: int) -> None:
    """Refuse lists that are null or hold nulls, or whose lengths do not fit, row by row."""
    import pyarrow.compute as pc

    for name in ("dense", "terms", "weights"):
        if table[name].null_count or pc.list_flatten(table[name]).null_count:
            raise InputError.at(path, None, f"{name} has nulls")
    terms, weights, dense = (
        pc.list_value_length(table[name]).to_numpy() for name in ("terms", "weights", "dense")
    )
    for what, wrong in (
        ("as many weights as terms", weights != terms),
        (f"a dense vector of {dense_dim} numbers", dense != dense_dim),
    ):
        if wrong.any():
            raise InputError.at(
                path, None, f"row {int(wrong.argmax())} (from 0) does not have {what}"
            )


def _check_texts(path: Path, documents: list[dict[str, Any]]) -> None:
    for row, document in enumerate(documents):
        for name in ("id", "title", "text", "metadata"):
            if not isinstance(document[name], str):
                raise InputError.at(path, None, f"row {row} (from 0): {name} is no string")
        metadata_text(read_metadata_text(document["metadata"]), path, row)
