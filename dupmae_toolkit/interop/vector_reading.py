"""Reads the folders that `vector_writing.py` writes: weights, with their documents.

The files may come from anybody. First their checksums are compared with the record's. What can
still be wrong is refused here, or where the values are checked like those of an encoded corpus.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json, sha256_lines, wrong_contents
from dupmae_toolkit.index import stated
from dupmae_toolkit.index.impacts import LARGEST_MAX_IMPACT
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.index.scoring import Scoring
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.interop.vector_formats import read_arrays, read_lines, read_parquet
from dupmae_toolkit.interop.vector_layout import (
    ARRAYS,
    DENSE_ARRAY,
    DENSE_LINES,
    DOCUMENTS,
    FORMATS,
    IDS,
    LEXICAL_LINES,
    PARTS,
    RECORD_FILE,
    RECORD_VERSION,
    VOCABULARY_FILE,
    Vectors,
    array_file,
)
from dupmae_toolkit.records import EncoderInfo

#: No encoder has more; a file may state any number.
_MOST_DIMENSIONS = 16_384
_FILE = re.compile(r"(dense/|lexical/)?[a-z_][a-z0-9-]*\.(jsonl?|npy|txt|parquet)")


def is_export(folder: Path) -> bool:
    """Whether a folder looks like one that `dupmae export` wrote."""
    return (folder / RECORD_FILE).is_file()


def read_vectors(folder: Path) -> Vectors:
    """The documents of a folder; ``record`` has the ``EncoderInfo`` as ``info``.

    Raises InputError for a folder that is incomplete, changed or contradicts itself; errors in
    single values are raised only when the batches are read.
    """
    record = _record(folder)
    for name in sorted(record["files"]):
        if wrong := wrong_contents(folder / name, record["files"][name]["sha256"]):
            raise InputError.at(folder / name, None, wrong, "export it again")
    info: EncoderInfo = record["info"]
    path = folder / VOCABULARY_FILE
    tokens = read_json(path)
    fits = isinstance(tokens, list) and all(isinstance(each, str) for each in tokens)
    if not fits or sha256_lines(tokens) != info.vocabulary_sha256:
        raise InputError.at(path, None, f"not the vocabulary that {RECORD_FILE} names")
    if len(tokens) != info.vocabulary_size:
        raise InputError.at(path, None, f"{len(tokens):,} tokens, not {info.vocabulary_size:,}")
    read = {"jsonl": read_lines, "npy": read_arrays, "parquet": read_parquet}[record["format"]]
    terms = lucene_terms(tokens)

    def batches() -> Iterator[Rows]:
        for rows in read(folder, terms, record):
            _check(folder, rows, info)
            yield rows

    notes = []
    if record["pruning"]:
        notes.append(
            f"{folder}: written from an index that was pruned to {record['pruning']}; an import "
            "counts all words again, and prunes no document that is added later"
        )
    return Vectors(record, tokens, record["count"], batches, notes)


def _record(folder: Path) -> dict[str, Any]:
    path = folder / RECORD_FILE
    values = read_json(path)
    try:
        version = stated.integer(values, "format_version", 1)
        if version > RECORD_VERSION:
            raise InputError.at(path, None, f"format version {version}", "update dupmae-toolkit")
        files = stated.file_checksums(values["files"])
        if foreign := [name for name in files if not _FILE.fullmatch(name)]:
            raise ValueError(f"it names the file {foreign[0]!r}")
        info = EncoderInfo.from_dict(values["encoder"])
        if info.dense_dim > _MOST_DIMENSIONS:
            raise ValueError(f"{info.dense_dim:,} dimensions")
        form = stated.one_of(values, "format", FORMATS)
        lacking = [name for name in _needed(form, info) if name not in files]
        if lacking or (form == "parquet" and not any(map(PARTS.fullmatch, files))):
            raise ValueError(f"it names no file {lacking[0] if lacking else 'part-00000.parquet'}")
        return {
            "format": form,
            "count": stated.integer(values, "count", 1),
            "info": info,
            "scale": None if values["scale"] is None else stated.positive(values, "scale"),
            "max_impact": (
                None
                if values["max_impact"] is None
                else stated.integer(values, "max_impact", 1, LARGEST_MAX_IMPACT)
            ),
            "mean_length": (
                None if values["bm25"] is None else stated.positive(values["bm25"], "mean_length")
            ),
            "bm25": values["bm25"] is not None or values["scale"] is None,
            "scoring": (
                None if values.get("scoring") is None else Scoring.from_dict(values["scoring"])
            ),
            "pruning": stated.text({"pruning": ""} | _without_none(values), "pruning"),
            "faiss": stated.text({"faiss": ""} | _without_none(values), "faiss"),
            "passages": Passages.from_dict(values["passages"]),
            "source": stated.text(values, "source"),
            "reading": stated.mapping(values, "reading"),
            "truncated": (
                None if values["truncated"] is None else stated.integer(values, "truncated")
            ),
            "precision": stated.text(values, "precision"),
            "kind": stated.text({"kind": "documents"} | values, "kind"),
            "files": files,
        }
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError.at(
            path, None, f"not the record of an export ({type(error).__name__}: {error})"
        ) from error


def _needed(form: str, info: EncoderInfo) -> list[str]:
    """The files that an export in this format has, apart from the parts of Parquet."""
    dense, lexical = bool(info.dense_dim), "lexical" in info.sides
    if form == "parquet":
        return [VOCABULARY_FILE]
    if form == "jsonl":
        vectors = [DENSE_LINES] * dense + [LEXICAL_LINES] * lexical
    else:
        vectors = [IDS, *map(array_file, ARRAYS)] + [DENSE_ARRAY] * dense
    return [VOCABULARY_FILE, DOCUMENTS, *vectors]


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def _check(folder: Path, rows: Rows, info: EncoderInfo) -> None:
    wanted = (len(rows), info.dense_dim), (len(rows), info.vocabulary_size)
    if (rows.dense.shape, rows.lexical.shape) != wanted:
        raise InputError.at(
            folder, None, f"vectors of {rows.dense.shape[1]} dimensions, not {info.dense_dim}"
        )
