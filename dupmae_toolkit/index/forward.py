"""The forward store: each document's impacts and dense vector by row, memory-mapped.

It serves completion: a document that only one leg returned gets its exact score in the other.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import save_array
from dupmae_toolkit.index.layout import (
    DENSE_FILE,
    FREQUENCIES_FILE,
    IMPACT_ARRAYS,
    LENGTHS_FILE,
    WORDS_FILE,
    impact_file,
)
from dupmae_toolkit.index.words import Words

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

#: The accepted kinds of numbers (letters of ``dtype.kind``) in each of IMPACT_ARRAYS.
_KINDS = dict(zip(IMPACT_ARRAYS, ("i", "i", "u", "iu"), strict=True))
_NPY_MAGIC = b"\x93NUMPY"
#: Bytes. Smaller files are read: mapping them costs more, and empty arrays cannot be mapped.
_MAPPED_FROM = 4096


class ForwardStore:
    """Impacts as CSR arrays, and dense vectors where FAISS cannot give them back, memory-mapped."""

    def __init__(self, impacts: csr_matrix, dense: np.ndarray | None) -> None:
        # [n, |V| + W] of tokens, then words; uint8 or uint16, indices sorted
        self.impacts = impacts
        self._dense = dense
        # Plain views of the mapped arrays: slicing them is cheaper.
        self._starts, self._indices, self._data = map(
            np.asarray, (impacts.indptr, impacts.indices, impacts.data)
        )
        if self._indices.dtype == np.int32:  # so that a damaged, negative index raises IndexError
            self._indices = self._indices.view(np.uint32)

    @staticmethod
    def write(
        folder: Path, tokens: csr_matrix, dense: np.ndarray | None, words: Words | None = None
    ) -> csr_matrix:
        """Write ``write_impacts`` and, unless None, ``dense`` float32 [n, d] into ``folder``."""
        impacts = write_impacts(folder, tokens, words)
        if dense is not None:
            write_dense(folder, dense)
        return impacts

    @classmethod
    def open(cls, folder: Path, dense: np.ndarray | None = None) -> ForwardStore:
        """Map the arrays into memory. dense: used instead of dense.npy.

        Raises InputError for files that are missing, truncated or inconsistent.
        """
        folder = Path(folder)
        impacts = read_impacts(folder)
        if dense is None and (folder / DENSE_FILE).exists():
            dense = read_dense(folder)
        if dense is not None and len(dense) != impacts.shape[0]:
            raise InputError(
                f"{folder}: {len(dense)} dense vectors for {impacts.shape[0]} documents"
            )
        return cls(impacts, dense)

    def __len__(self) -> int:
        """The number of documents."""
        return int(self.impacts.shape[0])

    def lexical_scores(
        self, terms: np.ndarray, weights: np.ndarray, docs: np.ndarray
    ) -> np.ndarray:
        """Σ query weight × impact for each of ``docs`` (row numbers), as float64 [len(docs)].

        terms, weights: the query's term numbers and their weights, float32. Scores are not yet
        divided by the scale. With weights from ``round_weights`` they are exact, whatever the order
        of summation.
        """
        by_term = np.zeros(self.impacts.shape[1], np.float64)
        by_term[terms] = weights
        docs = np.asarray(docs, np.int64)
        starts = self._starts[docs]
        lengths = self._starts[docs + 1] - starts
        ends = np.cumsum(lengths)
        places = np.repeat(starts - (ends - lengths), lengths) + np.arange(lengths.sum())
        try:
            products = by_term[self._indices[places]] * self._data[places]
        except IndexError as error:
            raise _unknown_terms() from error
        owners = np.repeat(np.arange(len(docs)), lengths)
        return np.bincount(owners, weights=products, minlength=len(docs))

    def dense(self, docs: np.ndarray) -> np.ndarray:
        """The dense vectors of ``docs`` (row numbers), float32 [len(docs), d]."""
        if self._dense is None:
            raise InputError("this index stores no dense vectors that can be read back")
        # ``take`` copies whole rows: three times as fast as indexing a mapped array.
        return np.asarray(self._dense.take(np.asarray(docs, np.int64), axis=0), np.float32)

    @property
    def dense_matrix(self) -> np.ndarray | None:
        """All dense vectors, float32 [n, d], mapped, read-only; None if there are none."""
        return self._dense


def write_impacts(folder: Path, tokens: csr_matrix, words: Words | None = None) -> csr_matrix:
    """Write impacts of tokens [n, |V|] and of words, if any, into ``folder``, which is created.

    Returns all impacts, [n, |V| + W].
    """
    impacts = all_impacts(tokens, words)
    write_columns(folder, impacts, None if words is None else words.words)
    if words is not None:
        write_lengths(folder, words.lengths)
    return impacts


def write_columns(folder: Path, impacts: csr_matrix, words: Sequence[str] | None) -> None:
    """Write all impacts, [n, |V| + W], into ``folder``, which is created; words: of the last W."""
    folder.mkdir(parents=True, exist_ok=True)
    if words is not None:
        lines = "".join(f"{word}\n" for word in words)
        (folder / WORDS_FILE).write_bytes(lines.encode("utf-8", "surrogatepass"))
    frequencies = np.bincount(impacts.indices, minlength=impacts.shape[1])
    save_array(folder / FREQUENCIES_FILE, frequencies.astype(np.int32))
    wide = impacts.nnz >= 2**31 or max(impacts.shape) >= 2**31
    numbers = np.int64 if wide else np.int32
    arrays = {
        "indptr": impacts.indptr.astype(numbers),
        "indices": impacts.indices.astype(numbers),
        "data": impacts.data,
        "shape": np.asarray(impacts.shape, np.int64),
    }
    for name, array in arrays.items():
        save_array(folder / impact_file(name), array)


def write_lengths(folder: Path, lengths: np.ndarray) -> None:
    """Write the length of each document, in words, int32 [n], into ``folder``, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    save_array(folder / LENGTHS_FILE, lengths)


def all_impacts(tokens: csr_matrix, words: Words | None) -> csr_matrix:
    """The impacts of tokens [n, |V|], then those of words, if any, [n, |V| + W]; indices sorted."""
    from scipy.sparse import csr_matrix, hstack

    if words is None:
        return tokens
    both = csr_matrix(hstack([tokens, words.impacts], format="csr", dtype=tokens.dtype))
    both.sort_indices()
    return both


def read_words(folder: Path) -> list[str] | None:
    """The words that have columns, in their order; None if the segment has none."""
    path = folder / WORDS_FILE
    try:
        text = path.read_bytes().decode("utf-8", "surrogatepass")
    except FileNotFoundError:
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not readable ({error})") from error
    return text.split("\n")[:-1]


def read_lengths(folder: Path) -> np.ndarray | None:
    """The length of each document, in words; None if words were not counted."""
    path = folder / LENGTHS_FILE
    return read_array(path, "i") if path.exists() else None


def read_frequencies(folder: Path) -> np.ndarray | None:
    """For each column, how many documents have it; None if an earlier version wrote the segment."""
    path = folder / FREQUENCIES_FILE
    return read_array(path, "i") if path.exists() else None


def write_dense(folder: Path, dense: np.ndarray) -> None:
    """Write ``dense`` [n, d] as float32 into ``folder``, which is created."""
    folder.mkdir(parents=True, exist_ok=True)
    save_array(folder / DENSE_FILE, np.ascontiguousarray(dense, np.float32))


def read_impacts(folder: Path) -> csr_matrix:
    """The impacts in ``folder``, mapped; raises InputError as ``ForwardStore.open`` does."""
    from scipy.sparse import csr_matrix

    arrays = {name: read_array(folder / impact_file(name), _KINDS[name]) for name in IMPACT_ARRAYS}
    indptr, indices, data = arrays["indptr"], arrays["indices"], arrays["data"]
    shape = tuple(arrays["shape"].tolist())
    fits = len(shape) == 2 and min(shape) >= 0 and max(shape) < 2**62
    fits = fits and len(indptr) == shape[0] + 1 and len(indices) == len(data)
    # Rows are later sliced by indptr without another check.
    fits = fits and indptr[0] == 0 and indptr[-1] == len(data) and np.all(np.diff(indptr) >= 0)
    if not fits:
        raise InputError(
            f"{folder}: the impact arrays are inconsistent; run `dupmae verify --repair`"
        )
    impacts = csr_matrix(shape, dtype=data.dtype)
    # The constructor would check every index, which is slow; `dupmae verify` checks them.
    impacts.indptr, impacts.indices, impacts.data = indptr, indices, data
    impacts.has_sorted_indices = impacts.has_canonical_format = True
    return impacts


def check_columns(impacts: csr_matrix) -> None:
    """Raise DupMAEError for columns beyond the matrix; ``read_impacts`` does not look for them.

    scipy and numpy trust them: some calls would read outside their arrays, others allocate
    gigabytes.
    """
    columns = impacts.indices
    if len(columns) and (columns.min() < 0 or columns.max() >= impacts.shape[1]):
        raise _unknown_terms()


def _unknown_terms() -> DupMAEError:
    return DupMAEError(
        "the forward store names terms that are not in the vocabulary; run `dupmae verify` on the "
        "index"
    )


def read_dense(folder: Path) -> np.ndarray:
    """The dense vectors in ``folder``, mapped; raises InputError as ``read_array`` does."""
    return read_array(folder / DENSE_FILE, "f", 2)


def read_array(path: Path, kinds: str, dimensions: int = 1) -> np.ndarray:
    """An array from an untrusted .npy file; mapped, and so read-only, if the file is large.

    kinds: the letters of ``dtype.kind`` that are accepted. Nothing is unpickled, and no more memory
    is taken than the file has bytes. Raises InputError if the file is missing, if it does not hold
    an array of such a kind and number of dimensions, or if its size is not what its header implies.
    """
    try:
        with path.open("rb") as file:
            if file.read(len(_NPY_MAGIC)) != _NPY_MAGIC:
                raise ValueError("not a .npy file")
            file.seek(0)
            version = np.lib.format.read_magic(file)
            if version == (1, 0):
                shape, _, dtype = np.lib.format.read_array_header_1_0(file)
            else:
                shape, _, dtype = np.lib.format.read_array_header_2_0(file)
            size = os.fstat(file.fileno()).st_size
            # scipy and torch take only the byte order of this machine.
            fits = dtype.kind in kinds and dtype.isnative
            if not fits or len(shape) != dimensions or min(shape) < 0:
                raise ValueError(f"holds {dtype} of shape {shape}")
            # Checked before anything is allocated: a header can ask for terabytes.
            if file.tell() + math.prod(shape) * dtype.itemsize != size:
                raise ValueError(f"has {size} bytes, which do not fit {dtype} of shape {shape}")
        return np.load(path, mmap_mode="r" if size >= _MAPPED_FROM else None, allow_pickle=False)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; the index is incomplete") from error
    except Exception as error:  # numpy does not document what a bad header can raise
        text = " ".join(str(error).split())[:200]
        raise InputError(f"{path}: not readable ({text or type(error).__name__})") from error
