"""Vectors that exist already, by the ids of their texts, in the place of an encoder.

Three kinds of files: NAME.npy, floats [n, d], with one id per line in NAME.ids beside it; Parquet
with the columns ``id``, ``dense`` (lists of d numbers) and, or, ``terms`` and ``weights`` (lists of
strings and of numbers); Pyserini's JSON lines, ``{"id": …, "vector": …}``, where the vector is a
list of numbers or a mapping of terms to weights. All vectors of a file are held in memory.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_lines, sha256_with_ids
from dupmae_toolkit.records import Document, EncoderInfo, Representations

#: What an EncoderInfo says of vectors that no encoder here made: name, pooling and lexical head.
GIVEN = "vectors"
#: The vocabulary of vectors without terms: a matrix has a column at least.
_NO_TERMS = ["[none]"]
#: Fields of a document that hold its vector, where one file has texts and vectors.
FIELDS = ("vector",)


class StoredVectors:
    """An Encoder that looks the vectors of texts up by their ids.

    info: what their encoder is known by; None: by ``GIVEN``, with the terms that occur as the
    vocabulary. vocabulary: that of ``info``. dropped: how many weights of terms that are not in the
    vocabulary were left out, which only queries may have.
    """

    def __init__(
        self,
        path: str | Path,
        info: EncoderInfo | None = None,
        vocabulary: Sequence[str] = (),
        *,
        queries: bool = False,
    ) -> None:
        """Read a file; InputError if it is not one of vectors, or does not fit ``info``."""
        self.path = Path(path)
        rows = _read(self.path)
        self._rows: dict[str, int] = {}
        vectors: list[Any] = []
        terms: list[Mapping[str, float]] = []
        for place, (name, dense, weights) in enumerate(rows):
            if self._rows.setdefault(name, place) != place:
                raise InputError.at(self.path, None, f"the id {name!r} comes twice")
            vectors.append(dense)
            terms.append(weights)
        if not terms:
            raise InputError.at(self.path, None, "no vectors in it")
        self.dense = self._matrix(vectors)
        digest = sha256_with_ids(self.path)
        listed = sorted({term for weights in terms for term in weights})
        if info is None:
            self.vocabulary = listed or list(_NO_TERMS)
            lexical_head, pooling = (GIVEN if listed else "none"), GIVEN
            info = EncoderInfo(
                name=GIVEN,
                weights_sha256=digest,
                vocabulary_sha256=sha256_lines(self.vocabulary),
                vocabulary_size=len(self.vocabulary),
                dense_dim=self.dense.shape[1],
                lexical_head=lexical_head,
                activation="relu",
                normalize=False,
                pooling=pooling if self.dense.shape[1] else "none",
            )
        else:
            self.vocabulary = list(vocabulary)
            sides = ("dense",) * bool(self.dense.shape[1]) + ("lexical",) * bool(listed)
            if sides != info.sides or self.dense.shape[1] != info.dense_dim:
                raise InputError.at(
                    self.path,
                    None,
                    f"holds {' and '.join(sides)} vectors of {self.dense.shape[1]} dimensions; "
                    f"those of {info.name!r} are {' and '.join(info.sides)}, of {info.dense_dim}",
                )
        self.info = info
        #: In place of a precision: work that was begun with other vectors is not continued.
        self.arithmetic = f"{GIVEN} {digest[:16]}"
        self.lexical, self.dropped = self._lexical(terms, strict=not queries)

    def __len__(self) -> int:
        """The number of texts that have vectors."""
        return len(self._rows)

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        """The vectors of these ids; InputError for an id without one."""
        rows = []
        for name in ids or ():
            if name not in self._rows:
                raise InputError.at(self.path, None, f"no vector of {name!r} in it; add it")
            rows.append(self._rows[name])
        if len(rows) != len(texts):
            raise InputError.at(self.path, None, "vectors are found by ids; give one for each text")
        place = np.array(rows, np.int64)
        found = Representations(list(ids or ()), self.dense[place], csr_matrix(self.lexical[place]))
        found.texts = list(texts)
        return found

    encode_queries = encode_documents

    def _matrix(self, vectors: list[Any]) -> np.ndarray:
        width = len(vectors[0])
        for name, vector in zip(self._rows, vectors, strict=True):
            if len(vector) != width:
                raise InputError.at(
                    self.path,
                    None,
                    f"the vector of {name!r} has {len(vector)} dimensions, the first {width}",
                )
        try:
            with np.errstate(over="ignore"):
                dense = np.asarray(vectors, np.float32).reshape(len(vectors), width)
        except OverflowError as error:
            raise InputError.at(self.path, None, "a vector is not finite as float32") from error
        except (TypeError, ValueError) as error:
            raise InputError.at(self.path, None, "a vector holds what is no number") from error
        if not np.isfinite(dense).all():
            row = int(np.argmin(np.isfinite(dense).all(axis=1)))
            raise InputError.at(
                self.path, None, f"the vector of {list(self._rows)[row]!r} is not finite"
            )
        return dense

    def _lexical(self, terms: list[Mapping[str, float]], *, strict: bool) -> tuple[csr_matrix, int]:
        columns = {term: column for column, term in enumerate(self.vocabulary)}
        indices, data, starts, dropped = [], [], [0], 0
        for name, weights in zip(self._rows, terms, strict=True):
            kept = sorted((columns[term], w) for term, w in weights.items() if term in columns)
            if strict and len(kept) < len(weights):
                unknown = next(term for term in weights if term not in columns)
                raise InputError.at(
                    self.path,
                    None,
                    f"the term {unknown!r} of {name!r} is not in the vocabulary of the index",
                    "build it again from all vectors",
                )
            dropped += len(weights) - len(kept)
            for column, weight in kept:
                if not isinstance(weight, int | float) or not 0 <= weight < 2.0**96:
                    raise InputError.at(
                        self.path,
                        None,
                        f"{name!r} has the weight {weight!r}; weights must be finite and at least "
                        "0",
                    )
                if weight:
                    indices.append(column)
                    data.append(weight)
            starts.append(len(indices))
        arrays = (np.array(data, np.float32), np.array(indices, np.int32), np.array(starts))
        return csr_matrix(arrays, shape=(len(terms), len(self.vocabulary))), dropped


class TextsAlone:
    """A corpus whose documents' vectors stand in the same file: they are no metadata."""

    def __init__(self, corpus: Any) -> None:
        self._corpus = corpus
        self.source = corpus.source

    def __getattr__(self, name: str) -> Any:
        return getattr(self._corpus, name)

    def numbered(self) -> Iterator[tuple[int, Document]]:
        """The documents with their lines, without the fields that hold vectors."""
        for place, item in self._corpus.numbered():
            metadata = {k: v for k, v in item.metadata.items() if k not in FIELDS}
            yield place, Document(item.id, item.title, item.text, metadata)


def _read(path: Path) -> Iterable[tuple[str, Any, Mapping[str, float]]]:
    """The id, the dense vector (empty if there is none) and the weights of terms of each row."""
    if not path.is_file():
        raise InputError.at(path, None, "no such file; name one of vectors")
    if path.suffix == ".npy":
        return _read_npy(path)
    return _read_parquet(path) if path.suffix == ".parquet" else _read_lines(path)


def _read_npy(path: Path) -> Iterator[tuple[str, Any, Mapping[str, float]]]:
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError.at(path, None, f"not readable as numbers ({error})") from error
    if array.ndim != 2 or array.dtype.kind != "f" or not array.shape[1]:
        raise InputError.at(path, None, f"{array.dtype} of shape {array.shape}; give floats [n, d]")
    names = path.with_suffix(".ids")
    try:
        ids = names.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError.at(
            names, None, f"not readable ({error}); it must hold the id of each row, one per line"
        ) from error
    if len(ids) != len(array):
        raise InputError.at(names, None, f"{len(ids)} ids for {len(array)} vectors in {path}")
    for name, row in zip(ids, array, strict=True):
        yield name, row, {}


def _read_parquet(path: Path) -> Iterator[tuple[str, Any, Mapping[str, float]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        names = set(file.schema_arrow.names)
        lexical = {"terms", "weights"} <= names
        if "id" not in names or not (lexical or "dense" in names):
            raise InputError.at(
                path, None, "no columns id and dense, or id, terms and weights; rename its columns"
            )
        wanted = [name for name in ("id", "dense", "terms", "weights") if name in names]
        for batch in file.iter_batches(columns=wanted):
            for row in batch.to_pylist():
                terms, weights = row.get("terms") or [], row.get("weights") or []
                good = isinstance(terms, list) and isinstance(weights, list)
                if not good or len(terms) != len(weights) or not _are_texts(terms):
                    raise InputError.at(
                        path, None, f"{row['id']!r} has no string and number for each term"
                    )
                yield str(row["id"]), row.get("dense") or [], dict(zip(terms, weights, strict=True))
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise InputError.at(path, None, f"not readable as Parquet ({error})") from error


def _are_texts(values: list[Any]) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _read_lines(path: Path) -> Iterator[tuple[str, Any, Mapping[str, float]]]:
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise InputError.at(path, number, f"not JSON ({error})") from error
            name = item.get("id", item.get("_id")) if isinstance(item, dict) else None
            vector = item.get("vector") if isinstance(item, dict) else None
            good = isinstance(vector, list) or (
                isinstance(vector, dict) and _are_texts(list(vector))
            )
            if not isinstance(name, str | int) or not good:
                raise InputError.at(
                    path, number, 'no {"id": …, "vector": a list, or a mapping of terms}'
                )
            is_dense = isinstance(vector, list)
            yield str(name), vector if is_dense else [], {} if is_dense else vector  # type: ignore[misc]
