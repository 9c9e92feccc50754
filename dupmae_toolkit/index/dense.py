"""Dense vectors: a FAISS index and the ids of its rows, as Pyserini lays them out."""

from __future__ import annotations

import re
import struct
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.layout import FAISS_FILE, IDS_FILE
from dupmae_toolkit.index.selecting import selected

#: faiss.METRIC_INNER_PRODUCT, without importing faiss.
METRIC_INNER_PRODUCT = 0
SPEC_EXAMPLES = "Flat, HNSW32, IVF1024,Flat, IVF1024,PQ64 or SQ8"
#: A search of an IVF index visits one in PROBED_SHARE cells; FAISS's default is a single cell.
PROBED_SHARE = 8
HNSW_CONSTRUCTION_DEPTH = 200
HNSW_SEARCH_DEPTH = 128
#: Bytes that any FAISS file may ask for: enough for transforms of 4,096 dimensions. FAISS counts a
#: matrix even where a transform has none (L2norm, Pad), so the size of a small file is too little.
LEAST_READ_LIMIT = 1 << 26
_HEADER = struct.Struct("<4si")  # how a FAISS file begins: kind of index, length of its vectors
_LIMITS = threading.Lock()  # guards FAISS's read limit, which all threads share


def write_faiss(folder: Path, ids: Sequence[str], dense: np.ndarray, spec: str = "Flat") -> None:
    """Write ``index``, as ``write_vectors`` does, and ``docid``, as ``write_ids`` does."""
    write_vectors(folder, dense, spec)
    write_ids(folder, ids)


def write_ids(folder: Path, ids: Sequence[str]) -> None:
    """Write ``docid``, one id per line."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{name}\n" for name in ids)
    (folder / IDS_FILE).write_text(text, "utf-8", newline="\n")


def write_vectors(folder: Path, dense: np.ndarray, spec: str = "Flat") -> None:
    """Write ``index``, inner products over ``dense`` float32 [n, d].

    ``spec`` is a FAISS factory string. The number of cells that an IVF search visits and the depth
    of an HNSW search are set here and stored in the index. Raises InputError for a string that
    FAISS does not know, that does not suit the vectors (too few to train on, a dimension that it
    cannot divide), or whose file FAISS does not read back.
    """
    import faiss

    vectors = np.ascontiguousarray(dense, np.float32)
    index = make_faiss(spec, vectors.shape[1])
    rotations = _set_parameters(index)
    try:
        if not index.is_trained:
            index.train(vectors)
        for rotation, _ in rotations:
            rotation.pq = None
        index.add(vectors)
    except RuntimeError as error:
        raise InputError(
            f"FAISS spec {spec!r} does not suit {len(vectors):,} vectors of {vectors.shape[1]} "
            f"dimensions: {_reason(error)}; use Flat, or a spec that trains on fewer vectors"
        ) from error
    folder.mkdir(parents=True, exist_ok=True)
    # FAISS's own writer does not report a disk that is full when the last bytes are written.
    with (folder / FAISS_FILE).open("wb") as file:
        faiss.write_index(index, faiss.PyCallbackIOWriter(file.write))  # type: ignore[attr-defined]
    del index, rotations  # memory for what is read back
    _read_back(folder, vectors, spec)


def _read_back(folder: Path, vectors: np.ndarray, spec: str) -> None:
    """Remove a written index, with InputError, unless FAISS reads and searches it."""
    fault = ""
    try:
        written = DenseIndex(folder)
        if (len(written), written.dimension) != vectors.shape:
            fault = f"it holds {len(written):,} vectors of {written.dimension} dimensions"
        elif vectors.size:
            written.search(vectors[:1], 1)
    except (DupMAEError, RuntimeError) as error:
        fault = _reason(error).removeprefix(f"{folder / FAISS_FILE}: ")
    if fault:
        (folder / FAISS_FILE).unlink()
        raise InputError(
            f"FAISS spec {spec!r}: FAISS does not read back what it wrote for {len(vectors):,} "
            f"vectors of {vectors.shape[1]} dimensions: {fault}; use {SPEC_EXAMPLES}"
        )


def make_faiss(spec: str, dimension: int) -> Any:
    """An empty inner-product index of a factory string; InputError if FAISS cannot make one."""
    import faiss

    try:
        index = faiss.index_factory(dimension, spec, METRIC_INNER_PRODUCT)
    except RuntimeError as error:
        raise InputError(
            f"FAISS spec {spec!r} cannot be made for {dimension} dimensions: {_reason(error)}; "
            f"use {SPEC_EXAMPLES}"
        ) from error
    if "IDMap" in spec:
        raise InputError(f"FAISS spec {spec!r}: leave out IDMap; rows are numbered from 0 here")
    return index


def keeps_vectors(spec: str) -> bool:
    """Whether an index of this spec holds the vectors unchanged, so that no copy is needed."""
    return spec.strip() == "Flat"


def read_header(folder: Path) -> tuple[bool, int]:
    """Whether the FAISS index in ``folder`` is Flat, and the length of its vectors.

    Reads only the first bytes of its file; InputError if it has fewer.
    """
    path = folder / FAISS_FILE
    try:
        with path.open("rb") as file:
            kind, width = _HEADER.unpack(file.read(_HEADER.size))
    except (OSError, struct.error) as error:
        raise InputError(f"{path}: cannot be read ({error}); it should be a FAISS index") from error
    return kind == b"IxFI", width


class DenseIndex:
    """A FAISS index opened for search; searching from several threads at once is safe."""

    def __init__(self, folder: Path) -> None:
        self.folder = Path(folder)
        path = self.folder / FAISS_FILE
        if not path.is_file():
            raise InputError(f"{path}: no such file; it should be a FAISS index")
        self._index = _read_faiss(path)
        if self._index.metric_type != METRIC_INNER_PRODUCT:
            raise InputError(f"{path}: its scores are distances; an inner-product index is needed")

    def __len__(self) -> int:
        """The number of vectors."""
        return int(self._index.ntotal)

    @property
    def dimension(self) -> int:
        """The length of a vector."""
        return int(self._index.d)

    @property
    def exact(self) -> bool:
        """Whether a search compares the query with every vector, stored unchanged."""
        import faiss

        return isinstance(self._index, faiss.IndexFlat)

    def search(
        self, queries: np.ndarray, k: int, live: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """The best ``k`` vectors for each query (float32 [q, d]).

        live: bool [n], the rows that may be returned; None: all.

        For each: row numbers (int32) and inner products (float32), by descending score, ties by row
        number. There are fewer than ``k`` if the index has, or an approximate search finds, fewer.
        Scores are FAISS's: their last bits can differ from one batch of queries to another. An
        exact index is not searched here but scanned (`search/dense.py`), which is faster.
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        batch = np.ascontiguousarray(queries, np.float32)
        if batch.ndim != 2 or batch.shape[1] != self.dimension:
            raise InputError(
                f"{self.folder}: queries of shape {batch.shape} for vectors of {self.dimension} "
                "dimensions; encode them with the index's encoder"
            )
        alive = len(self) if live is None else int(live.sum())
        wanted = min(k, alive)
        if not len(batch) or not wanted:
            return [_EMPTY] * len(batch)
        # One more than wanted, so that of two equal scores at the cut the first row is kept.
        if live is None:
            scores, rows = self._index.search(batch, min(wanted + 1, len(self)))
        else:
            scores, rows = selected(self._index, batch, min(wanted + 1, alive), live)
        if rows.max() >= len(self) or not _are_distinct(rows):
            raise DupMAEError(
                f"{self.folder / FAISS_FILE}: returned impossible row numbers; run `dupmae verify` "
                "on the index"
            )
        return [_ordered(*found, wanted) for found in zip(rows, scores, strict=True)]

    def vectors(self) -> np.ndarray | None:
        """All vectors, float32 [n, d], without a copy, read-only; None if not exact."""
        import faiss

        if not self.exact:
            return None
        shape = (len(self), self.dimension)
        if not len(self) or not self.dimension:
            return np.empty(shape, np.float32)
        flat: Any = faiss.downcast_index(self._index)
        view = faiss.rev_swig_ptr(flat.get_xb(), shape[0] * shape[1]).reshape(shape)
        view.flags.writeable = False
        return np.asarray(_View(view, self._index))

    def decoded(self) -> np.ndarray | None:
        """All vectors as FAISS reconstructs them, a copy, float32 [n, d]; None if it cannot.

        HNSW32 and IVF1024,Flat return the original vectors, PQ64 approximations.
        """
        try:
            vectors = self._index.reconstruct_n(0, len(self))
        except RuntimeError:
            return None
        return np.asarray(vectors, np.float32).reshape(len(self), self.dimension)


def _read_faiss(path: Path) -> Any:
    """Read an index. FAISS allocates what the header asks for, so a limit is set first."""
    import faiss

    # Only newer versions of FAISS have the limit. What is stored is no larger than the file.
    set_limit = getattr(faiss, "set_deserialization_vector_byte_limit", lambda size: None)
    get_limit = getattr(faiss, "get_deserialization_vector_byte_limit", lambda: 0)
    with _LIMITS:
        before = get_limit()
        set_limit(max(path.stat().st_size, LEAST_READ_LIMIT))
        try:
            return faiss.read_index(str(path))
        except (RuntimeError, MemoryError) as error:
            raise InputError(f"{path}: FAISS cannot read it: {_reason(error)}") from error
        finally:
            set_limit(before)


class _View:
    """An array over FAISS's memory that keeps the FAISS index alive."""

    def __init__(self, array: np.ndarray, owner: Any) -> None:
        self.__array_interface__ = array.__array_interface__
        self.owner = owner


_EMPTY = (np.empty(0, np.int32), np.empty(0, np.float32))


def _ordered(rows: np.ndarray, scores: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    found = rows >= 0
    rows, scores = rows[found].astype(np.int32), scores[found]
    order = np.lexsort((rows, -scores))[:k]
    return rows[order], scores[order]


def _are_distinct(rows: np.ndarray) -> bool:
    """Whether no query got a row twice; -1 means no row."""
    ordered = np.sort(rows, axis=1)
    return not ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any()


def _set_parameters(index: Any) -> list[tuple[Any, Any]]:
    """Set the search parameters, and allow training on small collections without warnings.

    Returns the OPQ rotations, each with the quantizer that it may hold only during training.
    """
    import faiss

    rotations = []
    inner = faiss.downcast_index(index)
    while isinstance(inner, faiss.IndexPreTransform):
        chain: Any = inner.chain
        for number in range(chain.size()):
            rotation = faiss.downcast_VectorTransform(chain.at(number))
            if isinstance(rotation, faiss.OPQMatrix):
                quantizer = faiss.ProductQuantizer(rotation.d_out, rotation.M, 8)
                quantizer.cp.min_points_per_centroid = 1
                rotation.pq = quantizer
                rotations.append((rotation, quantizer))
        inner = faiss.downcast_index(inner.index)
    if isinstance(inner, faiss.IndexIVF):
        inner.cp.min_points_per_centroid = 1
        inner.nprobe = max(1, inner.nlist // PROBED_SHARE)
    if isinstance(inner, faiss.IndexHNSW):
        inner.hnsw.efConstruction = HNSW_CONSTRUCTION_DEPTH
        inner.hnsw.efSearch = HNSW_SEARCH_DEPTH
    for holder in (inner, getattr(inner, "storage", None)):
        product = getattr(holder, "pq", None)
        if product is not None:
            product.cp.min_points_per_centroid = 1
    return rotations


def _reason(error: Exception) -> str:
    """FAISS's message, without the places in its source code."""
    text = " ".join(str(error).split())
    text = re.sub(r"^Error in .*? at \S+:\d+: ", "", text)
    return re.sub(r"^Error: '.*?' failed:? ?", "", text) or "FAISS refuses"
