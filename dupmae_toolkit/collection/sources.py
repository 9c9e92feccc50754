"""Lines of plain, compressed and zipped text files, with limits that stop hostile ones.

Nothing is unpacked to disk, so a name in an archive cannot point outside it. No file is held in
memory as a whole.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import io
import lzma
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, cast

from dupmae_toolkit.errors import InputError

#: A longer line is refused: it is not a document, or it is a decompression bomb.
MAX_LINE_BYTES = 64 * 2**20
#: A file that unpacks to more than ``BOMB_FLOOR_BYTES`` is refused if that is more than this many
#: times its size. Text rarely compresses more than tenfold; deflate can reach about 1,000, xz far
#: more.
BOMB_RATIO = 200
BOMB_FLOOR_BYTES = 256 * 2**20

#: How a compressed file is opened, by its suffix.
_OPENERS: dict[str, Callable[[BinaryIO], Any]] = {
    ".gz": lambda stream: gzip.GzipFile(fileobj=stream),
    ".bz2": lambda stream: bz2.BZ2File(stream),
    ".xz": lambda stream: lzma.LZMAFile(stream),  # noqa: SIM115  `_open` closes it
    ".zst": lambda stream: _zstd(stream),
}
COMPRESSED = tuple(_OPENERS)
_MAGIC = {
    b"\x1f\x8b": "gzip (.gz)",
    b"\xfd7zXZ\x00": "xz (.xz)",
    b"BZh": "bzip2 (.bz2)",
    b"\x28\xb5\x2f\xfd": "Zstandard (.zst)",
    b"PK\x03\x04": "zip (.zip)",
    b"PAR1\x15": "Parquet (.parquet)",
}


@dataclass(frozen=True, slots=True)
class TextSource:
    """A UTF-8 text file, plain or compressed (``COMPRESSED``), or such a file inside a zip."""

    path: Path
    member: str | None = None

    def __str__(self) -> str:
        """The name for error messages, such as ``scifact.zip/scifact/corpus.jsonl``."""
        return str(self.path) if self.member is None else f"{self.path}/{self.member}"

    @property
    def file_name(self) -> str:
        """The file's name, without folders."""
        return self.path.name if self.member is None else PurePosixPath(self.member).name

    @property
    def suffix(self) -> str:
        """The suffix that gives the format, in lower case; a suffix of a compression is ignored."""
        name = PurePosixPath(self.file_name.lower())
        if name.suffix in COMPRESSED:
            name = name.with_suffix("")
        return name.suffix

    @property
    def stem(self) -> str:
        """The file's name without its suffixes."""
        name = PurePosixPath(self.file_name)
        if name.suffix.lower() in COMPRESSED:
            name = name.with_suffix("")
        return name.stem

    def lines(self, *, blank: bool = False) -> Iterator[tuple[int, str]]:
        """Line numbers from 1, and lines without their end; blank lines are skipped by default.

        Only a line feed ends a line: Unicode's other line breaks belong to the text. A byte order
        mark at the start is dropped. Raises InputError, with the line, for bytes that are not UTF-8
        text, for lines over ``MAX_LINE_BYTES``, and for files that are damaged, cut off, encrypted
        or missing, or that unpack to more than the limit.
        """
        number = 0
        with self._explained(), self._open() as (stream, size):
            limit = max(BOMB_FLOOR_BYTES, BOMB_RATIO * size)
            total = 0
            while True:
                try:
                    raw = stream.readline(MAX_LINE_BYTES + 1)
                except (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
                    raise InputError.at(
                        self,
                        number + 1,
                        f"the file is damaged or cut off ({_brief(error)}); get it again",
                    ) from error
                if not raw:
                    return
                number += 1
                total += len(raw)
                if len(raw) > MAX_LINE_BYTES:
                    raise InputError.at(
                        self, number, f"a line longer than {MAX_LINE_BYTES >> 20} MiB; split it"
                    )
                if total > limit:
                    raise InputError.at(
                        self,
                        number,
                        f"unpacks to more than {BOMB_RATIO} times its size; if it is meant to, "
                        "unpack it yourself and name the plain file",
                    )
                if number == 1:
                    raw = self._without_mark(raw)
                try:
                    line = raw.decode("utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise InputError.at(
                        self, number, f"not UTF-8 text (byte {error.start + 1} of the line)"
                    ) from error
                if "\0" in line:
                    raise InputError.at(self, number, "a NUL byte: this is not a text file")
                if blank or (line and not line.isspace()):
                    yield number, line

    def beginning(self, size: int = 4096) -> bytes:
        """The first decompressed bytes, without a byte order mark; fewer if there are no more.

        Empty if the file cannot be read: reading it will raise the error.
        """
        try:
            with self._explained(), self._open() as (stream, _):
                return stream.read(size).removeprefix(b"\xef\xbb\xbf")
        except (InputError, EOFError, lzma.LZMAError, zlib.error):
            return b""

    def whole(self) -> str:
        """The text of the whole file, with line feeds as line ends.

        Raises InputError as ``lines`` does, and for more than ``MAX_LINE_BYTES``.
        """
        lines, size = [], 0
        for _, line in self.lines(blank=True):
            lines.append(line)
            size += len(line) + 1
            if size > MAX_LINE_BYTES:
                raise InputError.at(
                    self, None, f"a text of more than {MAX_LINE_BYTES >> 20} MiB; split it"
                )
        return "\n".join(lines)

    def blocks(self, size: int, *, lines: bool = True) -> Iterator[bytes]:
        """The decompressed bytes in blocks of complete lines, ``size`` bytes or slightly more each.

        lines: if False, blocks may end within a line.

        The last line may lack its line feed. This only checks that the file can be read and does
        not unpack to more than the limit; ``lines`` checks the text.
        """
        with self._explained(), self._open() as (stream, packed):
            room = max(BOMB_FLOOR_BYTES, BOMB_RATIO * packed)
            while room > 0:
                try:
                    block = stream.read(size)
                    if lines and block[-1:] != b"\n":
                        block += stream.readline(MAX_LINE_BYTES + 1)
                except (EOFError, OSError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
                    raise InputError.at(
                        self, None, f"the file is damaged or cut off ({_brief(error)})"
                    ) from error
                if not block:
                    return
                room -= len(block)
                yield block
        raise InputError.at(self, None, f"unpacks to more than {BOMB_RATIO} times its size")

    def is_plain(self) -> bool:
        """Whether the file is neither compressed nor inside a zip."""
        return self.member is None and self.path.suffix.lower() not in COMPRESSED

    def _without_mark(self, raw: bytes) -> bytes:
        """The first line without a byte order mark; raises InputError for known binary formats."""
        for magic, kind in _MAGIC.items():
            if raw.startswith(magic):
                raise InputError.at(self, 1, f"this is a {kind} file; rename it with that suffix")
        if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError.at(self, 1, "this is UTF-16 text; convert it to UTF-8")
        return raw.removeprefix(b"\xef\xbb\xbf")

    @contextlib.contextmanager
    def _open(self) -> Iterator[tuple[BinaryIO, int]]:
        """The decompressed stream, and the compressed size."""
        with contextlib.ExitStack() as stack:
            stream, size = stack.enter_context(self._open_raw())
            opened = _OPENERS.get(PurePosixPath(self.file_name.lower()).suffix)
            if opened is not None:
                stream = cast(BinaryIO, stack.enter_context(opened(stream)))
            yield stream, size

    @contextlib.contextmanager
    def _open_raw(self) -> Iterator[tuple[BinaryIO, int]]:
        """The stream as it is stored, and its size."""
        with contextlib.ExitStack() as stack:
            stream: BinaryIO
            if self.member is None:
                if self.path.exists() and not self.path.is_file():
                    what = "a folder" if self.path.is_dir() else "not a file"
                    raise InputError.at(self, None, f"this is {what}; name a file")
                stream = stack.enter_context(self.path.open("rb"))
                size = self.path.stat().st_size
            else:
                archive = stack.enter_context(zipfile.ZipFile(self.path))
                info = archive.getinfo(self.member)
                stream = cast(BinaryIO, stack.enter_context(archive.open(info)))
                size = min(info.compress_size, self.path.stat().st_size)
            yield stream, size

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn the errors of opening and reading into a one-line InputError."""
        try:
            yield
        except InputError:
            raise
        except FileNotFoundError as error:
            raise InputError.at(self, None, "no such file") from error
        except KeyError as error:
            raise InputError.at(self, None, "no such file in the zip") from error
        except zipfile.BadZipFile as error:
            raise InputError.at(
                self, None, f"not a readable zip ({_brief(error)}); get it again"
            ) from error
        except (RuntimeError, NotImplementedError) as error:
            # zipfile raises these for encrypted members and for unknown compression methods.
            raise InputError.at(
                self, None, f"cannot be unpacked ({_brief(error)}); unpack it yourself"
            ) from error
        except OSError as error:
            reason = error.strerror or str(error)
            raise InputError.at(self, None, f"cannot be read ({reason})") from error


def _zstd(stream: BinaryIO) -> BinaryIO:
    """The decompressed bytes of Zstandard's frames."""
    import pyarrow

    packed = pyarrow.CompressedInputStream(pyarrow.PythonFile(stream, "r"), "zstd")
    return cast(BinaryIO, io.BufferedReader(packed))


def _brief(error: Exception) -> str:
    """A library's message in one short line."""
    return " ".join(str(error).split())[:120] or type(error).__name__


def list_members(path: Path) -> list[PurePosixPath]:
    """The files in a zip, sorted, except hidden ones and those whose names point outside it.

    Raises InputError if it is not a zip.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # zipfile fails on a member without a name.
            members = [info for info in archive.infolist() if info.filename]
            names = [info.filename for info in members if not info.is_dir()]
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError.at(
            path, None, f"not a readable zip ({_brief(error)}); get it again"
        ) from error
    kept = []
    for name in names:
        member = PurePosixPath(name)
        odd = member.is_absolute() or ".." in member.parts or "\\" in name
        odd = odd or not name.isprintable()
        hidden = any(part.startswith((".", "__MACOSX")) for part in member.parts)
        # Parsing changes a name such as "a//b", so zipfile could not find it again.
        if not odd and not hidden and str(member) == name:
            kept.append(member)
    return sorted(set(kept))
