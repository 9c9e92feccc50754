"""Writes the vectors of an index, or of an encoded corpus, as JSON lines, .npy or Parquet."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_folder, save_array, write_json
from dupmae_toolkit.index.build import says_why
from dupmae_toolkit.index.manifest import checksums
from dupmae_toolkit.index.vocabulary import lucene_terms, write_vocabulary
from dupmae_toolkit.interop.live_rows import IndexRows
from dupmae_toolkit.interop.vector_layout import (
    BATCH,
    DENSE_ARRAY,
    DENSE_LINES,
    DOCUMENTS,
    FORMATS,
    IDS,
    LEXICAL_LINES,
    PART,
    RECORD_FILE,
    RECORD_VERSION,
    VOCABULARY_FILE,
    Batch,
    Vectors,
    array_file,
)
from dupmae_toolkit.progress import Progress, silent


def write_vectors(
    source: str | Path, folder: str | Path, format: str, progress: Progress = silent
) -> dict[str, Any]:
    """Write a folder in one of ``FORMATS``; returns its record, see `vector_layout.py`.

    source: an index, whose live documents are written in the order of their ids, or an encoded
    corpus, in its order. folder: new or empty. Raises InputError for anything else.
    """
    folder = Path(folder)
    if format not in FORMATS:
        raise InputError(f"format {format!r}: choose one of {', '.join(FORMATS)}")
    check_new_folder(folder, "the vectors")
    with opened(source) as vectors, says_why(folder), atomic_folder(folder) as temporary:
        record = vectors.record | {"format": format}
        terms = lucene_terms(vectors.tokens)
        write = {"jsonl": _write_lines, "npy": _write_arrays, "parquet": _write_parquet}[format]
        with progress(f"writing {format}", vectors.count) as advance:
            write(temporary, _counted(vectors.batches(), advance), terms, record)
        write_vocabulary(temporary / VOCABULARY_FILE, vectors.tokens)
        record["files"] = checksums(temporary, temporary)
        write_json(temporary / RECORD_FILE, record)
    return record


def check_new_folder(folder: Path, what: str) -> None:
    """Raise InputError unless ``folder`` is new or empty. what: what is to be written there."""
    if folder.exists() and not folder.is_dir():
        raise InputError.at(folder, None, f"is a file; name a folder for {what}")
    if folder.is_dir() and any(folder.iterdir()):
        raise InputError.at(folder, None, f"not empty; name a new folder for {what}")


@contextlib.contextmanager
def opened(source: str | Path) -> Iterator[Vectors]:
    """The documents of an index or of an encoded corpus."""
    if EncodedCorpus.is_one(source):
        yield _of_corpus(EncodedCorpus.open(source))
        return
    with IndexRows.opened(source) as rows:
        yield _of_index(rows)


def _of_index(rows: IndexRows) -> Vectors:
    manifest = rows.manifest
    tuned = manifest.scoring
    record = {
        "format_version": RECORD_VERSION,
        "count": len(rows),
        "encoder": manifest.encoder.to_dict(),
        "scale": manifest.scale,
        "max_impact": manifest.max_impact,
        "bm25": manifest.bm25 and manifest.bm25.to_dict(),
        # Those that the encoder states need no record.
        "scoring": tuned.to_dict() if tuned and tuned.origin else None,
        "pruning": str(manifest.pruning) if manifest.pruning else None,
        "faiss": manifest.faiss_spec,
        "passages": manifest.passages and manifest.passages.to_dict(),
        "source": manifest.source,
        "reading": manifest.reading,
        "truncated": manifest.truncated,
        "precision": next(iter(manifest.precision)) if len(manifest.precision) == 1 else "unknown",
    }
    tokens = manifest.vocabulary(rows.index)
    return Vectors(record, tokens, len(rows), lambda: rows.batches(BATCH))


def _of_corpus(encoded: EncodedCorpus) -> Vectors:
    tokens = encoded.vocabulary()
    if tokens is None:
        raise InputError.at(
            encoded.folder, None, "has no vocabulary.json, which names its terms; encode it again"
        )
    record = {
        "format_version": RECORD_VERSION,
        "count": len(encoded),
        "encoder": encoded.info.to_dict(),
        "scale": None,
        "max_impact": None,
        "bm25": None,
        "scoring": None,
        "faiss": None,
        "passages": encoded.passages and encoded.passages.to_dict(),
        "source": encoded.manifest["source"],
        "reading": encoded.reading,
        "truncated": encoded.manifest["truncated"],
        "precision": encoded.precision,
        "kind": encoded.kind,
    }
    return Vectors(record, tokens, len(encoded), encoded.parts)


def _counted(batches: Iterator[Batch], advance: Any) -> Iterator[Batch]:
    for batch in batches:
        yield batch
        advance(len(batch))


def _write_lines(
    folder: Path, batches: Iterator[Batch], terms: list[str], record: dict[str, Any]
) -> None:
    with contextlib.ExitStack() as stack:
        documents = _text(stack, folder / DOCUMENTS)
        files = {side: _text(stack, folder / name) for side, name in _sides(record).items()}
        for batch in batches:
            _write_documents(documents, batch)
            contents = [f"{a} {b}".strip() for a, b in zip(batch.titles, batch.texts, strict=True)]
            starts = batch.lexical.indptr.tolist()
            for row, (name, text) in enumerate(zip(batch.ids, contents, strict=True)):
                line: dict[str, Any] = {"id": name, "contents": text}
                if "dense" in files:
                    _write_line(files["dense"], line | {"vector": batch.dense[row].tolist()})
                if "lexical" in files:
                    span = slice(starts[row], starts[row + 1])
                    named = [terms[column] for column in batch.lexical.indices[span].tolist()]
                    values = batch.lexical.data[span].tolist()
                    vector = dict(zip(named, values, strict=True))
                    _write_line(files["lexical"], line | {"vector": vector})


def _sides(record: dict[str, Any]) -> dict[str, str]:
    """The files of vectors that an encoder gives."""
    dense = {"dense": DENSE_LINES} if record["encoder"]["dense_dim"] else {}
    lexical = record["encoder"]["lexical_head"] != "none"
    return dense | ({"lexical": LEXICAL_LINES} if lexical else {})


def _write_documents(file: TextIO, batch: Batch) -> None:
    rows = zip(batch.ids, batch.titles, batch.texts, batch.metadata, strict=True)
    for name, title, text, metadata in rows:
        line = {"id": name, "title": title, "text": text}
        _write_line(file, line | ({"metadata": json.loads(metadata)} if metadata else {}))


def _write_line(file: TextIO, value: dict[str, Any]) -> None:
    file.write(json.dumps(value, ensure_ascii=False) + "\n")


def _text(stack: contextlib.ExitStack, path: Path) -> TextIO:
    path.parent.mkdir(exist_ok=True)
    return stack.enter_context(path.open("w", encoding="utf-8", newline="\n"))


def _write_arrays(
    folder: Path, batches: Iterator[Batch], terms: list[str], record: dict[str, Any]
) -> None:
    with contextlib.ExitStack() as stack:
        documents, ids = _text(stack, folder / DOCUMENTS), _text(stack, folder / IDS)
        width, size = record["encoder"]["dense_dim"], record["encoder"]["vocabulary_size"]
        dense = stack.enter_context(_growing(folder / DENSE_ARRAY, width)) if width else None
        indices = stack.enter_context(_growing(folder / array_file("indices")))
        data = stack.enter_context(_growing(folder / array_file("data")))
        lengths = [np.zeros(1, np.int64)]
        for batch in batches:
            _write_documents(documents, batch)
            ids.writelines(f"{name}\n" for name in batch.ids)
            if dense is not None:
                dense.append(batch.dense.astype(np.float32, copy=False))
            indices.append(batch.lexical.indices.astype(np.int32))
            data.append(batch.lexical.data)
            lengths.append(np.diff(batch.lexical.indptr).astype(np.int64))
    starts = np.cumsum(np.concatenate(lengths))
    save_array(folder / array_file("indptr"), starts)
    save_array(folder / array_file("shape"), np.array([len(starts) - 1, size], np.int64))


class _Growing:
    """An array that is written piece by piece; its numbers are kept in a file beside it."""

    def __init__(self, file: Any) -> None:
        self.file = file
        self.rows = 0
        self.dtype: np.dtype[Any] = np.dtype(np.float32)

    def append(self, piece: np.ndarray) -> None:
        self.dtype = piece.dtype
        self.rows += len(piece)
        self.file.write(np.ascontiguousarray(piece).data)


@contextlib.contextmanager
def _growing(path: Path, width: int = 0) -> Iterator[_Growing]:
    """An array of ``width`` columns, or of one dimension; the file is whole when the block ends."""
    raw = path.with_suffix(".raw")
    with raw.open("w+b") as file:
        growing = _Growing(file)
        yield growing
        file.seek(0)
        shape = (growing.rows, width) if width else (growing.rows,)
        head = {
            "descr": np.lib.format.dtype_to_descr(growing.dtype),
            "fortran_order": False,
            "shape": shape,
        }
        with path.open("wb") as whole:
            np.lib.format.write_array_header_1_0(whole, head)
            shutil.copyfileobj(file, whole)
    raw.unlink()


def _write_parquet(
    folder: Path, batches: Iterator[Batch], terms: list[str], record: dict[str, Any]
) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = pa.array(terms, pa.string())
    for number, batch in enumerate(batches):
        lexical = batch.lexical
        starts = pa.array(lexical.indptr.astype(np.int32))
        weights = lexical.data.astype(np.float64)
        if record["scale"]:
            weights = weights / record["scale"]
        table = {
            "id": pa.array(batch.ids, pa.string()),
            "title": pa.array(batch.titles, pa.string()),
            "text": pa.array(batch.texts, pa.string()),
            "metadata": pa.array([text or None for text in batch.metadata], pa.string()),
            "dense": _lists(batch.dense.astype(np.float32, copy=False)),
            "terms": pa.ListArray.from_arrays(
                starts, names.take(pa.array(lexical.indices.astype(np.int32)))
            ),
            "weights": pa.ListArray.from_arrays(starts, pa.array(weights.astype(np.float32))),
        }
        path = folder / PART.format(number)
        pq.write_table(pa.table(table), path, compression="zstd", use_dictionary=["terms"])


def _lists(dense: np.ndarray) -> Any:
    """The rows of [n, d] as lists of variable length, which every reader of Parquet knows."""
    import pyarrow as pa

    starts = np.arange(len(dense) + 1, dtype=np.int32) * dense.shape[1]
    return pa.ListArray.from_arrays(pa.array(starts), pa.array(dense.reshape(-1)))
