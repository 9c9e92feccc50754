"""What a disk without room does to those who write: one line that says so, and no half file."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest

from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import atomic_file, atomic_folder, make_folder, save_array
from dupmae_toolkit.index.build import says_why
from dupmae_toolkit.index.dense import DenseIndex, write_faiss
from dupmae_toolkit.index.layout import FAISS_FILE
from dupmae_toolkit.java_homes import JavaError

FULL = Path("/dev/full")  # every write finds no room
needs_it = pytest.mark.skipif(not FULL.exists(), reason="no /dev/full on this system")


@needs_it
@pytest.mark.parametrize("count", [1, 20, 5000])
def test_vectors_that_found_no_room_are_no_index(tmp_path, count):
    vectors = np.ones((count, 8), np.float32)
    (tmp_path / FAISS_FILE).symlink_to(FULL)
    with pytest.raises(OSError, match="No space left"):
        write_faiss(tmp_path, [str(n) for n in range(count)], vectors)


def test_vectors_are_written_as_faiss_writes_them(tmp_path):
    import faiss

    vectors = np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32)
    write_faiss(tmp_path, [str(n) for n in range(300)], vectors, "HNSW8")
    faiss.write_index(faiss.read_index(str(tmp_path / FAISS_FILE)), str(tmp_path / "theirs"))
    assert (tmp_path / FAISS_FILE).read_bytes() == (tmp_path / "theirs").read_bytes()
    assert len(DenseIndex(tmp_path)) == 300


@needs_it
def test_an_array_that_found_no_room_says_so():
    with pytest.raises(OSError, match="No space left") as caught:
        save_array(FULL, np.zeros(100_000))
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("array", [np.arange(10), np.zeros((0, 3), np.uint8), np.ones((4, 2)).T])
def test_an_array_is_written_as_numpy_writes_it(tmp_path, array):
    save_array(tmp_path / "ours", array)
    np.save(tmp_path / "theirs.npy", array)
    assert (tmp_path / "ours").read_bytes() == (tmp_path / "theirs.npy").read_bytes()


@pytest.mark.parametrize(
    ("module", "name", "act"),
    [
        (os, "mkdir", lambda path: make_folder(path / "new")),
        (tempfile, "mkstemp", lambda path: atomic_file(path / "file").__enter__()),
        (tempfile, "mkdtemp", lambda path: atomic_folder(path / "folder").__enter__()),
    ],
)
def test_no_room_for_a_new_file_is_no_bad_input(tmp_path, monkeypatch, module, name, act):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(module, name, full)
    with pytest.raises(DupMAEError, match=r"the disk is full, .*; make room and run") as caught:
        act(tmp_path)
    assert not isinstance(caught.value, InputError)
    assert str(tmp_path) in str(caught.value)


def test_java_finds_no_room_either(tmp_path):
    with pytest.raises(DupMAEError, match=f"{tmp_path}: .*the disk is full, No space left"):  # noqa: SIM117
        with says_why(tmp_path):
            raise JavaError("x: IOException: No space left on device", disk_full=True)
    with pytest.raises(JavaError, match="broken"), says_why(tmp_path):
        raise JavaError("x: broken")


@needs_it
def test_documents_from_an_iterator_that_find_no_room(monkeypatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda *_, **__: FULL.open("w"))
    with pytest.raises(DupMAEError, match="the disk is full"):
        Memory(iter([{"id": "a", "text": "some words"}]))
