"""Lists of document ids, one per line."""

from __future__ import annotations

import codecs
import sys
from pathlib import Path

from dupmae_toolkit.collection.identifiers import check_id
from dupmae_toolkit.errors import InputError


def read_ids(file: Path) -> list[str]:
    """The ids in a file, or on standard input if ``file`` is ``-``; at least one.

    White space around an id is not part of it, white space within it is. The file is UTF-8, or
    UTF-16 with a byte order mark. Raises InputError for a file that cannot be read or decoded, for
    a line that no id can be, and for a file without ids.
    """
    name = "standard input" if str(file) == "-" else str(file)
    if file.is_dir():
        raise InputError(f"{name}: is a folder; name a file of ids")
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if marked else "utf-8-sig"
    try:
        lines = data.decode(encoding).split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not {'UTF-16' if marked else 'UTF-8'} ({error.reason} at byte {error.start})"
        ) from error
    ids = [
        check_id(line.strip(), name, number) for number, line in enumerate(lines, 1) if line.strip()
    ]
    if not ids:
        raise InputError(f"{name}: no ids in it")
    return ids
