"""Folders of documents: texts of which each is one, or files of records that are read in a row.

Hidden files and folders are left alone, and linked folders are not followed, so no circle of links
is walked. What lies in a folder and is not read is counted in a remark.
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from dupmae_toolkit.collection.delimited import share_types
from dupmae_toolkit.collection.rows import Row, Rows, Shards
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.tables import ParquetRows
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import manifest_in

TEXT_SUFFIXES = (".md", ".markdown", ".txt")
#: Files of records; of several kinds in a folder, the first that is there is read.
RECORD_SUFFIXES = ((".parquet",), (".jsonl", ".ndjson"), (".csv", ".tsv"), (".json",))
#: Texts about a folder of records.
_ABOUT = ("readme", "license", "licence", "notice", "changelog", "citation")
_MOST_NAMED = 5  # kinds of files that a remark names


class TextFiles(Rows):
    """Each file a document: its id is its path in the folder, its text all of the file."""

    def __init__(
        self, files: Sequence[Path], folder: Path, source: str, remarks: Sequence[str] = ()
    ) -> None:
        self.files, self.folder, self.source, self.remarks = files, folder, source, remarks

    def __iter__(self) -> Iterator[tuple[int, Row]]:
        for number, file in enumerate(self.files, 1):
            try:
                name = file.relative_to(self.folder).as_posix()
                row: Row = {"id": name, "text": TextSource(file).whole()}
            except InputError as error:
                row = error
            yield number, row

    def where(self, number: int) -> tuple[str, int | None]:
        return str(self.files[number - 1]), None

    def count(self) -> int | None:
        return len(self.files)


def folder_rows(
    folder: Path,
    open_file: Callable[[TextSource], Rows],
    open_parquet: Callable[[list[Path], str, Path], ParquetRows],
) -> Rows:
    """The records of all files in a folder and below it, in the order of their paths.

    Raises InputError if no file can be read, if texts lie beside files of records, or if a folder
    cannot be listed.
    """
    files, remarks = _walk(folder)
    return _rows_of(files, folder, str(folder), remarks, open_file, open_parquet)


def pattern_rows(
    pattern: str,
    open_file: Callable[[TextSource], Rows],
    open_parquet: Callable[[list[Path], str, Path], ParquetRows],
) -> Rows:
    """The records of the files that a pattern such as ``notes/**/*.md`` names.

    Raises InputError as ``folder_rows`` does.
    """
    folder, files, remarks = pattern_files(pattern)
    if not files:
        raise InputError.at(pattern, None, "no file has such a name")
    return _rows_of(files, folder, pattern, remarks, open_file, open_parquet)


def pattern_files(pattern: str) -> tuple[Path, list[Path], list[str]]:
    """The folder at which a pattern begins, the files that it names, and remarks on others.

    Hidden files are left out, and linked folders are not followed.
    """
    parts = Path(pattern).parts
    fixed = next(place for place, part in enumerate(parts) if glob.has_magic(part))
    folder, wanted = Path(*parts[:fixed]), parts[fixed:]
    found, remarks = _walk(folder, None if "**" in wanted else len(wanted))
    files = [path for path in found if _fits(path.relative_to(folder).parts, wanted)]
    return folder, files, remarks


def _rows_of(
    files: list[Path],
    folder: Path,
    source: str,
    remarks: list[str],
    open_file: Callable[[TextSource], Rows],
    open_parquet: Callable[[list[Path], str, Path], ParquetRows],
) -> Rows:
    by_suffix: dict[str, list[Path]] = {}
    for file in files:
        by_suffix.setdefault(TextSource(file).suffix, []).append(file)
    texts = sorted(file for suffix in TEXT_SUFFIXES for file in by_suffix.get(suffix, ()))
    kind = next((kind for kind in RECORD_SUFFIXES if any(s in by_suffix for s in kind)), ())
    records = sorted(file for suffix in kind for file in by_suffix.get(suffix, ()))
    documents = [file for file in texts if file.name.split(".")[0].casefold() not in _ABOUT]
    if documents and records:
        raise InputError.at(
            source,
            None,
            f"{len(documents):,} texts ({documents[0].name} …) and {len(records):,} files of "
            f"records ({records[0].name} …) in it; name those to read, as in "
            f"'{folder}/**/*{documents[0].suffix}'",
        )
    if not texts and not records:
        raise InputError.at(
            source,
            None,
            "no documents in it: no corpus.jsonl, .jsonl, .csv, .tsv, .json, .parquet, .txt or .md",
        )
    read = records or texts
    remarks = remarks + _unread(files, read, source)
    if not records:
        return TextFiles(texts, folder, source, remarks)
    if kind == (".parquet",):
        rows = open_parquet(records, source, folder)
        rows.remarks = remarks
        return rows
    shards = [open_file(TextSource(file)) for file in records]
    share_types(shards)
    return Shards(source, shards, remarks)


def _unread(files: list[Path], read: list[Path], source: str) -> list[str]:
    taken = set(read)
    kinds = Counter(
        file.suffix.lower() or "without a suffix" for file in files if file not in taken
    )
    if not kinds:
        return []
    named = ", ".join(f"{count:,} {kind}" for kind, count in kinds.most_common(_MOST_NAMED))
    more = len(kinds) - _MOST_NAMED
    named += f" and {more:,} other kinds" if more > 0 else ""
    total = kinds.total()
    return [f"{total:,} file{'s' if total > 1 else ''} in {source} not read: {named}"]


def _fits(names: Sequence[str], pattern: Sequence[str]) -> bool:
    """Whether the parts of a path fit those of a pattern; ``**`` stands for any folders.

    Not ``glob``: it follows links, and a circle of them forty times.
    """
    if not pattern:
        return not names
    if pattern[0] == "**":
        return any(_fits(names[skipped:], pattern[1:]) for skipped in range(len(names) + 1))
    fits = bool(names) and fnmatch.fnmatchcase(names[0], pattern[0])
    return fits and _fits(names[1:], pattern[1:])


def _check_no_result(place: Path, names: Sequence[str]) -> None:
    """Raise InputError for an encoded corpus or an index: its Parquet files are no documents.

    Queries may be encoded as documents are, and an index repeats the documents it was made from.
    """
    if "manifest.json" not in names:
        return
    manifest = manifest_in(place)
    if "encoder" in manifest:
        what = "an index" if "segments" in manifest else "encoded texts"
        raise InputError.at(
            place,
            None,
            f"holds {what}, not documents to read",
            "name the encoded corpus itself, or another folder",
        )


def _walk(folder: Path, depth: int | None = None) -> tuple[list[Path], list[str]]:
    """The files in a folder and ``depth`` levels of it, and remarks on linked folders."""

    def refuse(error: OSError) -> None:
        raise InputError.at(
            error.filename or folder, None, f"cannot be listed ({error.strerror})"
        ) from error

    files, linked = [], []
    for place, folders, names in os.walk(folder, onerror=refuse):
        _check_no_result(Path(place), names)
        level = len(Path(place).relative_to(folder).parts) + 1
        if level == depth:
            folders.clear()
        kept = [name for name in folders if not name.startswith((".", "__MACOSX"))]
        linked += [Path(place, name) for name in kept if os.path.islink(os.path.join(place, name))]
        folders[:] = sorted(kept)
        for name in sorted(names):
            path = Path(place, name)
            try:
                if not name.startswith(".") and path.is_file():
                    files.append(path)
            except OSError as error:  # in a folder that may be listed but not entered
                refuse(error)
    if not linked:
        return files, []
    first = min(linked)
    many = f"{len(linked):,} linked folders were" if len(linked) > 1 else "1 linked folder was"
    return files, [f"{many} not followed: {first}" + (" …" if len(linked) > 1 else "")]
