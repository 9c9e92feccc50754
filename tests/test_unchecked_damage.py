"""Damage that no checksum is compared for, as with check="sizes", is one line or harmless."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_matrix

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.forward import check_columns, read_array
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.words import Words, with_columns
from dupmae_toolkit.search.frequencies import Frequencies
from tests.index_support import documents_of
from tests.support import HashingEncoder

pytestmark = pytest.mark.usefixtures("quick_disk")

ENCODER = HashingEncoder()
DOCUMENTS = documents_of(60, seed=2)
#: In memory, where the three small segments are joined; and by Lucene, one by one.
ENGINES = [1 << 30, 0]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("unchecked") / "index"
    with HybridIndex.build(path, DOCUMENTS, ENCODER, segment_size=20) as index:
        index.delete([sorted(d.id for d in DOCUMENTS)[0], DOCUMENTS[-1].id])
    return path


@pytest.fixture
def index(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "index"))


def change(path: Path, how: Callable[[np.ndarray], None]) -> None:
    """Change an array on the disk, and leave its size as it is."""
    array, size = np.load(path), path.stat().st_size
    how(array)
    np.save(path, array)
    assert path.stat().st_size == size


def told(index: Path, most: int, mode: str) -> str:
    """The one line of an error, or "" for an answer."""
    said = ""
    try:
        with HybridIndex.open(index, ENCODER, max_postings=most, check="sizes") as opened:
            opened.search("w1 w2 w3 w4 title", k=60, mode=mode, exact=True)
    except DupMAEError as error:
        said = str(error)
    assert "\n" not in said
    return said


def every_segment(index: Path, name: str) -> list[Path]:
    return [index / entry.path / "forward" / name for entry in Manifest.load(index).segments]


@pytest.mark.java
@pytest.mark.parametrize("column", [-1, -(2**31), 2**31 - 1, 512 + 400])
def test_columns_that_are_none_are_one_line(index: Path, column: int) -> None:
    for path in every_segment(index, "impacts-indices.npy"):
        change(path, lambda array: array.__setitem__(slice(None, None, 7), column))
    for mode in ("lexical", "bm25", "hybrid"):
        assert "names terms that are not in the vocabulary" in told(index, ENGINES[0], mode)
        for most in ENGINES:
            assert told(index, most, mode), (mode, most)


@pytest.mark.java
def test_the_columns_of_deleted_documents_are_looked_at_before_they_are_counted(
    index: Path,
) -> None:
    """Lucene searches, so nothing else reads the columns of documents that it does not find."""
    for entry in Manifest.load(index).segments:
        if not entry.deletions:
            continue
        dead = np.load(index / entry.deletions)
        bounds = np.load(index / entry.path / "forward/impacts-indptr.npy")
        part = slice(bounds[dead[0]], bounds[dead[0] + 1])
        path = index / entry.path / "forward/impacts-indices.npy"
        change(path, lambda array, part=part: array.__setitem__(part, 2**31 - 1))
    assert "names terms that are not in the vocabulary" in told(index, 0, "lexical")


@pytest.mark.java
@pytest.mark.parametrize("name", ["indptr", "indices", "shape", "frequencies"])
def test_numbers_in_the_byte_order_of_another_machine_are_refused(index: Path, name: str) -> None:
    for path in every_segment(index, f"impacts-{name}.npy"):
        data = path.read_bytes()
        assert data.count(b"'<i") == 1
        path.write_bytes(data.replace(b"'<i", b"'>i"))
        with pytest.raises(InputError, match=r"not readable \(holds >i"):
            read_array(path, "i")
    # Joined segments count for themselves.
    engines = ENGINES[1:] if name == "frequencies" else ENGINES
    assert all("not readable (holds >i" in told(index, most, "hybrid") for most in engines)


@pytest.mark.java
@pytest.mark.parametrize("count", [-1, -(2**31), 61, 2**31 - 1])
def test_frequencies_that_cannot_be_are_one_line(index: Path, count: int) -> None:
    for path in every_segment(index, "impacts-frequencies.npy"):
        change(path, lambda array: array.__setitem__(slice(None), count))
    for mode in ("lexical", "bm25", "hybrid"):
        assert "impossible frequencies of terms; run `dupmae verify`" in told(index, 0, mode)


def test_idf_takes_none_and_all_and_nothing_beyond() -> None:
    counted = Frequencies(10, [], [], 3)
    found = counted.idf(np.array([0, 10]))
    np.testing.assert_allclose(found, np.log([1 + 10.5 / 0.5, 1 + 0.5 / 10.5]), rtol=1e-12)
    assert len(counted.idf(np.zeros(0, np.int64))) == 0
    for bad in (-1, 11):
        with pytest.raises(DupMAEError, match="impossible frequencies"):
            counted.idf(np.array([3, bad]))


@pytest.mark.java
def test_words_out_of_order_move_no_data_of_the_file(index: Path) -> None:
    for path in every_segment(index, "impacts-words.txt"):
        lines = path.read_bytes().split(b"\n")[:-1]
        path.write_bytes(b"".join(line + b"\n" for line in reversed(lines)))
    for most in ENGINES:
        assert told(index, most, "bm25") == told(index, most, "hybrid") == ""


@pytest.mark.parametrize("order", [[0, 1, 2, 3], [3, 1, 0, 2]])
def test_other_columns_leave_the_matrix_as_it_was(order: list[int]) -> None:
    data = np.array([1, 2, 3, 4, 5], np.uint8)
    data.flags.writeable = False  # as a mapped file is
    matrix = csr_matrix((2, 4), dtype=np.uint8)
    matrix.indptr, matrix.indices = np.array([0, 3, 5]), np.array([0, 1, 3, 1, 2])
    matrix.data = data
    expected = np.zeros((2, 4), np.uint8)
    expected[:, order] = matrix.toarray()
    moved = with_columns(matrix, np.array(order)[matrix.indices], 4)
    np.testing.assert_array_equal(moved.toarray(), expected)
    assert moved.has_sorted_indices
    assert data.tolist() == [1, 2, 3, 4, 5]


def test_joined_words_leave_their_parts_as_they_were() -> None:
    parts = [Words.counted(["b a a", "c"]), Words.counted(["z a", "m b b"])]
    before = [(part.words, part.impacts.toarray().tolist()) for part in parts]
    joined = Words.joined(parts)
    rows = [dict(zip(joined.words, row, strict=True)) for row in joined.impacts.toarray().tolist()]
    assert [{w: n for w, n in row.items() if n} for row in rows] == [
        {"b": 1},
        {"c": 1},
        {"z": 1},
        {"m": 1, "b": 2},
    ]
    assert [(part.words, part.impacts.toarray().tolist()) for part in parts] == before


def test_no_columns_at_all_are_fine() -> None:
    check_columns(csr_matrix((3, 0), dtype=np.uint8))
    check_columns(csr_matrix((0, 0), dtype=np.uint8))
