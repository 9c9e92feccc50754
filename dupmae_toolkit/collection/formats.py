"""Recognise the format of a file or folder by its name and first bytes, and open its records."""

from __future__ import annotations

import glob
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

from dupmae_toolkit.collection.corpora import file_safe
from dupmae_toolkit.collection.delimited import Delimited
from dupmae_toolkit.collection.fields import ANY_COLUMNS, DOCUMENT_NAMES, Columns, Names
from dupmae_toolkit.collection.folders import TextFiles, folder_rows, pattern_rows
from dupmae_toolkit.collection.json_members import JsonRows
from dupmae_toolkit.collection.locate import find_in_beir
from dupmae_toolkit.collection.rows import Rows, TextLines
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.tables import HUB_PREFIX, DatasetRows, ParquetRows, is_saved
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import manifest_in

JSON_SUFFIXES = (".jsonl", ".json", ".ndjson")
TSV_SUFFIXES = (".tsv",)
FORMATS = (
    "JSON (.jsonl, .ndjson, .json), .csv, .tsv or .txt, plain, .gz, .bz2, .xz or .zst; .parquet; "
    ".md in a folder"
)


@dataclass(frozen=True, slots=True)
class How:
    """How to open something. part: what of a BEIR data set. texts_only: see ``Table``."""

    part: str = "corpus"
    columns: Columns = ANY_COLUMNS
    names: Names = DOCUMENT_NAMES
    texts_only: bool = False

    def file(self, file: TextSource) -> Rows:
        """The records of a text file. Raises InputError if its format is not known."""
        suffix = file.suffix
        head = b"" if suffix else file.beginning().lstrip()
        if suffix in JSON_SUFFIXES or head[:1] in (b"{", b"["):
            return JsonRows(file, tuple(name for names in self.names[:3] for name in names))
        if not suffix and head:
            suffix = ".tsv" if b"\t" in head.split(b"\n", 1)[0] else ".csv"
        if suffix in (*TSV_SUFFIXES, ".csv"):
            return Delimited(file, quoted=suffix == ".csv", columns=self.columns, names=self.names)
        if suffix == ".txt":
            return TextLines(file)
        what = {"corpus": "corpus", "queries": "topics"}.get(self.part, "file")
        raise InputError.at(file, None, f"unknown {what} format; use {FORMATS}")

    def parquet(self, files: list[Path], source: str, folder: Path | None) -> ParquetRows:
        return ParquetRows(files, source, folder, **self.table())

    def table(self) -> dict[str, Any]:
        """The arguments of a ``Table``."""
        return {"columns": self.columns, "names": self.names, "texts_only": self.texts_only}


@overload
def named_rows(source: str | os.PathLike[str], how: How) -> tuple[Rows, str]: ...
@overload
def named_rows(
    source: str | os.PathLike[str], how: How, *, missing_ok: bool
) -> tuple[Rows, str] | None: ...
def named_rows(
    source: str | os.PathLike[str], how: How, *, missing_ok: bool = False
) -> tuple[Rows, str] | None:
    """The records in a file, a folder or a data set of the hub, and the collection's name.

    Raises InputError for an unknown format. If there is no such file: None if ``missing_ok``, else
    an error.
    """
    text = os.fspath(source)
    if text.startswith(HUB_PREFIX):
        rows = DatasetRows(text, stream=how.texts_only, **how.table())
        return rows, file_safe(text.removeprefix(HUB_PREFIX))
    # For a name that is too long or a circular link, os.path returns False where Path may raise.
    if "\0" in text or not os.path.exists(text):
        if "\0" not in text and glob.has_magic(text):
            return pattern_rows(text, how.file, how.parquet), file_safe(Path(text).parent.name)
        if missing_ok:
            return None
        raise InputError.at(text, None, "no such file or folder")
    path = Path(text)
    if path.is_dir():
        return _folder(path, how)
    if path.suffix.lower() == ".zip":
        place = find_in_beir(path, how.part)
        assert place is not None  # a zip without any was refused
        return how.file(place.file), place.name
    file = TextSource(path)
    if path.suffix.lower() == ".parquet":
        return how.parquet([path], text, None), file_safe(path.stem)
    if file.suffix in (".md", ".markdown"):
        return TextFiles([path], path.parent, text), file_safe(file.stem)
    return how.file(file), file_safe(file.stem)


def _folder(path: Path, how: How) -> tuple[Rows, str]:
    name = file_safe(path.resolve().name)
    place = find_in_beir(path, how.part)
    if place is not None:
        return how.file(place.file), place.name
    if is_saved(path):
        return DatasetRows(str(path), **how.table()), name
    if how.part == "queries" and not any(path.glob("*.parquet")):
        raise InputError.at(path, None, "no queries.jsonl in it; name a file or a BEIR data set")
    if "segments" in manifest_in(path):
        raise InputError.at(
            path, None, "an index, not a corpus; name the texts that it was built from"
        )
    if how.texts_only and _has_parts(path):
        return how.parquet(sorted(path.glob("part-*.parquet")), str(path), None), name
    return folder_rows(path, how.file, how.parquet), name


def _has_parts(path: Path) -> bool:
    """Whether a folder is an encoded corpus, whose parts repeat the texts."""
    return (path / "manifest.json").is_file() and any(path.glob("part-*.parquet"))
