"""Where the commands write to, looked at before the work."""

from __future__ import annotations

from pathlib import Path


def check_file_output(path: Path, what: str) -> None:
    """Refuse a place where no file can be written after the work; ``what``: for the messages."""
    import os

    from dupmae_toolkit.errors import InputError

    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file for {what}")
    parent = path.absolute().parent
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise InputError(f"{path}: cannot be written there; name another file for {what}")


def check_examples_output(path: Path) -> None:
    """The same for examples, whose file has to have a name that can be read again."""
    from dupmae_toolkit.collection.lines import JSON_SUFFIXES
    from dupmae_toolkit.collection.sources import TextSource
    from dupmae_toolkit.errors import InputError

    check_file_output(path, "the examples")
    if TextSource(path).suffix not in JSON_SUFFIXES or path.suffix.lower() == ".xz":
        raise InputError(f"{path}: examples are written as .jsonl or .jsonl.gz; name such a file")
