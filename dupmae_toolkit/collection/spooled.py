"""Standard input, copied to a temporary file, because corpora and topics are read repeatedly."""

from __future__ import annotations

import contextlib
import io
import shutil
import sys
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, cast

from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import cannot_write

#: The suffix of a compression, by the first two bytes of what it gives.
_SUFFIXES = {b"\x1f\x8b": ".gz", b"BZ": ".bz2", b"\xfd7": ".xz", b"\x28\xb5": ".zst"}
#: The name that stands for standard input.
STANDARD_INPUT = "-"


class Spooled(TextSource):
    """A copy of a stream in a file without a name; nothing is left of it when the process ends.

    Only the first bytes tell the format and a compression.
    """

    name: str
    size: int  #: in bytes, as it came
    _file: BinaryIO
    _lock: threading.Lock

    def __init__(self, stream: BinaryIO, name: str = "standard input") -> None:
        super().__init__(Path(STANDARD_INPUT))
        # The base class is frozen.
        object.__setattr__(self, "name", name)
        object.__setattr__(self, "_file", tempfile.TemporaryFile())  # noqa: SIM115
        object.__setattr__(self, "_lock", threading.Lock())
        try:
            shutil.copyfileobj(stream, self._file, 1 << 20)
            self._file.flush()
        except OSError as error:
            raise cannot_write(tempfile.gettempdir(), error) from error
        object.__setattr__(self, "size", self._file.tell())

    def __str__(self) -> str:
        return self.name

    @property
    def file_name(self) -> str:
        return "stdin" + _SUFFIXES.get(self._head(), "")

    def is_plain(self) -> bool:
        return False

    def _head(self) -> bytes:
        with self._lock:
            self._file.seek(0)
            return self._file.read(2)

    @contextlib.contextmanager
    def _open_raw(self) -> Iterator[tuple[BinaryIO, int]]:
        raw = _Reader(self._file, self._lock)
        yield cast(BinaryIO, io.BufferedReader(raw)), self.size


class _Reader(io.RawIOBase):
    """A position of its own in a shared file, so that two passes do not disturb each other."""

    def __init__(self, file: BinaryIO, lock: threading.Lock) -> None:
        self._file, self._lock, self._place = file, lock, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:  # type: ignore[no-untyped-def, override]
        with self._lock:
            self._file.seek(self._place)
            data = self._file.read(len(buffer))
        buffer[: len(data)] = data
        self._place += len(data)
        return len(data)


def standard_input() -> Spooled:
    """All of standard input. Raises InputError if it is closed or empty."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or stream.closed:
        raise InputError(f"{STANDARD_INPUT}: standard input is closed; name a file")
    found = Spooled(stream)
    if not found.size:
        raise InputError("standard input: nothing in it; name a file, or send one through a pipe")
    return found
