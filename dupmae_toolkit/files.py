"""Atomic writing: a process killed at any point leaves either the old state or the new one."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from dupmae_toolkit.errors import DupMAEError, InputError

if TYPE_CHECKING:
    import numpy as np

TEMPORARY_PREFIX = ".tmp-"
CHANGED = "was changed or damaged (its checksum differs)"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def fsync_path(path: Path) -> None:
    """Flush a file, or a folder's entries, to the disk. Does nothing for a folder on Windows."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDWR if os.name == "nt" else os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> Path:
    """Create a folder and its parents, and check that it is writable; raise InputError if not."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        if error.errno in _FULL:
            raise cannot_write(path, error) from error
        raise InputError.at(
            path, None, f"cannot be created ({error.strerror}); name a writable folder"
        ) from error
    if not os.access(path, os.W_OK):
        raise InputError.at(path, None, "cannot be written; name a writable folder")
    return path


def cannot_write(path: object, error: OSError) -> DupMAEError:
    """The error to raise when the system failed to write ``path``: the reason and the remedy.

    Not an InputError: the same call succeeds once there is room.
    """
    why = "the disk is full, " if error.errno in _FULL else ""
    advice = "make room" if why else "make it writable"
    return DupMAEError(
        f"{path}: cannot be written ({why}{error.strerror or error}); {advice} and run the same "
        "command to continue"
    )


@contextlib.contextmanager
def _refusing(path: Path) -> Iterator[None]:
    """Turn an OSError into one line saying that ``path`` cannot be written."""
    try:
        yield
    except OSError as error:
        if error.errno in _FULL:
            raise cannot_write(path, error) from error
        raise InputError.at(
            path, None, f"cannot be written ({error.strerror}); name a writable place"
        ) from error


def check_file_output(path: Path, what: str) -> None:
    """Raise InputError if no file can be written at ``path``, before the work that fills it.

    what: the file's contents, for the message.
    """
    if path.is_dir():
        raise InputError.at(path, None, f"is a folder; name a file for {what}")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError.at(path, None, f"cannot be written; name another file for {what}")


@contextlib.contextmanager
def open_packed(temporary: Path, path: Path) -> Iterator[BinaryIO]:
    """Open ``temporary`` for writing bytes, compressed as the suffix of ``path`` says.

    ``path`` is its final name; ``.gz``, ``.bz2``, ``.xz`` and ``.zst`` are compressions. The same
    contents give the same bytes: the gzip header gets no name and no time.
    """
    suffix = path.suffix.lower()
    with contextlib.ExitStack() as stack:
        file: Any
        if suffix == ".zst":
            import pyarrow

            sink = stack.enter_context(pyarrow.OSFile(str(temporary), "wb"))
            file = stack.enter_context(pyarrow.CompressedOutputStream(sink, "zstd"))
        else:
            file = stack.enter_context(temporary.open("wb"))
        if suffix == ".gz":
            import gzip

            file = stack.enter_context(gzip.GzipFile("", "wb", fileobj=file, mtime=0))
        elif suffix == ".bz2":
            import bz2

            file = stack.enter_context(bz2.BZ2File(file, "wb"))
        elif suffix == ".xz":
            import lzma

            file = stack.enter_context(lzma.LZMAFile(file, "wb"))
        yield cast(BinaryIO, file)


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it replaces ``path`` in one step."""
    make_folder(path.parent)
    with _refusing(path):
        handle, name = tempfile.mkstemp(
            dir=path.parent, prefix=TEMPORARY_PREFIX, suffix=path.suffix
        )
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        os.chmod(temporary, 0o666 & ~_umask())
        fsync_path(temporary)
        os.replace(temporary, path)
        fsync_path(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; on success it becomes ``path``.

    ``path`` must not exist: a folder cannot be replaced in one step.
    """
    make_folder(path.parent)
    with _refusing(path):
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=TEMPORARY_PREFIX))
    try:
        yield temporary
        os.chmod(temporary, 0o777 & ~_umask())
        for folder, _, names in os.walk(temporary):
            for name in names:
                # Some writers create files that only their owner can read.
                _set_mode(Path(folder, name), 0o666 & ~_umask())
                fsync_path(Path(folder, name))
            fsync_path(Path(folder))
        os.rename(temporary, path)
        fsync_path(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


@contextlib.contextmanager
def replace_folder(path: Path) -> Iterator[Path]:
    """Like ``atomic_folder``, but replaces an existing folder.

    On Linux the two folders are exchanged in one step. Elsewhere this takes two renames, and a kill
    between them leaves both folders under temporary names.
    """
    if not path.exists():
        with atomic_folder(path) as temporary:
            yield temporary
        return
    fresh = path.parent / f"{TEMPORARY_PREFIX}new-{path.name}"
    old = path.parent / f"{TEMPORARY_PREFIX}old-{path.name}"
    shutil.rmtree(fresh, ignore_errors=True)
    with atomic_folder(fresh) as temporary:
        yield temporary
    if _exchange(fresh, path):
        old = fresh
    else:
        shutil.rmtree(old, ignore_errors=True)
        os.rename(path, old)
        os.rename(fresh, path)
    fsync_path(path.parent)
    shutil.rmtree(old, ignore_errors=True)


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two paths in one step by Linux's renameat2(2); False if it is not available."""
    if not sys.platform.startswith("linux"):
        return False
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):  # a libc without it
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return call(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


def remove_leftovers(folder: Path) -> None:
    """Remove the temporary files and folders that a killed process left directly in ``folder``."""
    for path in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, indented, keys in the given order."""
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", "utf-8")


def save_array(path: Path, array: np.ndarray) -> None:
    """Like ``numpy.save``, but an OSError keeps its reason, such as a full disk."""
    import numpy as np

    # Given a real file, numpy writes through C and loses errno; given only ``write``, it does not.
    class WriteOnly:
        def __init__(self, write: Any) -> None:
            self.write = write

    with path.open("wb") as file:
        np.save(WriteOnly(file.write), array, allow_pickle=False)


def read_json(path: Path) -> Any:
    """Read JSON; a file that is missing or does not parse raises InputError."""
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise InputError.at(path, None, "no such file") from error
    except (ValueError, OSError, RecursionError) as error:
        raise InputError.at(path, None, f"not readable as JSON ({error})") from error


def manifest_in(folder: Path) -> dict[str, Any]:
    """The manifest in a folder, of whatever kind; empty if there is none or it is broken."""
    return json_object(folder / "manifest.json")


def json_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none, or if it is broken or something else."""
    try:
        values = read_json(path)
    except InputError:
        return {}
    return values if isinstance(values, dict) else {}


def sha256_file(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sha256_with_ids(path: Path) -> str:
    """The same; for vectors as NAME.npy, of the file and of NAME.ids, which names their texts."""
    ids = path.with_suffix(".ids")
    if path.suffix != ".npy" or not ids.is_file():
        return sha256_file(path)
    return sha256_lines([sha256_file(path), sha256_file(ids)])


def wrong_contents(path: Path, sha256: str) -> str:
    """What is wrong with a file that should have this SHA-256 (hexadecimal); "" if nothing is."""
    try:
        return "" if sha256_file(path) == sha256 else CHANGED
    except OSError as error:
        return f"cannot be read ({error.strerror})"


def sha256_lines(lines: list[str]) -> str:
    """Hexadecimal SHA-256 of strings, each preceded by its length to keep lists distinct."""
    parts: list[bytes] = []
    for line in lines:
        data = line.encode("utf-8", "surrogatepass")
        parts += (len(data).to_bytes(8, "little"), data)
    return hashlib.sha256(b"".join(parts)).hexdigest()


def _set_mode(path: Path, mode: int) -> None:
    """Change a file's mode only if it differs: a change would have to be flushed too."""
    if path.stat().st_mode & 0o777 != mode:
        os.chmod(path, mode)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
