"""Find the files that a user's argument means: a file, a folder, a zip, an ir_datasets id."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from dupmae_toolkit.collection.corpora import file_safe
from dupmae_toolkit.collection.irds import is_registered
from dupmae_toolkit.collection.sources import COMPRESSED, TextSource, list_members
from dupmae_toolkit.errors import InputError

IRDS_PREFIX = "irds:"
_ENDINGS = ("", *COMPRESSED)


class NotBeirError(InputError):
    """What is named exists, but holds no data set in BEIR's layout."""


@dataclass(frozen=True, slots=True)
class Place:
    """A file, and the name of its collection (safe in a file name)."""

    file: TextSource
    name: str


@dataclass(frozen=True, slots=True)
class BeirPlace:
    """The files of one BEIR data set. ``qrels`` maps a split to its file."""

    source: str
    name: str
    corpus: TextSource
    queries: TextSource | None
    qrels: dict[str, TextSource]


def find_in_beir(path: Path, part: str) -> Place | None:
    """The file of a BEIR data set, in a folder or zip, that is its ``corpus`` or ``queries``.

    None for a folder without any. Raises InputError for a zip without any, and for several.
    """
    found = [
        Place(file, place.name)
        for place in _beir_places(path)
        if (file := getattr(place, part)) is not None
    ]
    if len(found) > 1:
        names = ", ".join(place.name for place in found[:20])
        raise InputError.at(path, None, f"several data sets in it ({names}); name one")
    if not found and not path.is_dir():
        raise InputError.at(path, None, f"no {part}.jsonl in it; name a file or a BEIR data set")
    return found[0] if found else None


def find_beir(source: str | Path) -> list[BeirPlace] | str:
    """The BEIR data sets in a folder or zip (one or several), or an ir_datasets id.

    Raises InputError if there is none.
    """
    irds = irds_id(source)
    if irds is not None:
        return irds
    path = Path(source)
    if not path.is_dir() and path.suffix.lower() != ".zip":
        raise NotBeirError.at(path, None, "not a BEIR folder or zip with a corpus.jsonl in it")
    places = _beir_places(path)
    if not places:
        raise NotBeirError.at(path, None, "no corpus.jsonl in it; name a BEIR folder or zip")
    return places


def irds_id(source: str | Path) -> str | None:
    """The data set's id if ``source`` is ``irds:NAME``, or a known NAME that is not a file.

    Raises InputError if ``source`` is neither a data set nor a file.
    """
    text = str(source)
    if text.startswith(IRDS_PREFIX):
        return text.removeprefix(IRDS_PREFIX)
    if "\0" in text or not text:
        raise InputError(f"{text!r}: not the name of a file")
    # For a name that is too long or a circular link, os.path returns False where Path may raise.
    exists = os.path.exists(text)
    if isinstance(source, Path) or exists:
        if not exists:
            raise InputError.at(text, None, "no such file or folder")
        return None
    like_an_id = re.fullmatch(r"[a-z0-9][\w.-]*(/[\w.-]+)*", text)
    # Importing ir_datasets is slow, so skip it for names that cannot be ids.
    if like_an_id and not text.endswith((".jsonl", ".zip", ".csv", ".tsv")) and is_registered(text):
        return text
    raise InputError.at(text, None, "no such file or folder, and not a data set of ir_datasets")


def _beir_places(path: Path) -> list[BeirPlace]:
    """The data sets in a folder or zip: one for each ``corpus.jsonl`` at the top level with any."""
    if path.is_dir():
        files = {
            PurePosixPath(file.relative_to(path).as_posix()): TextSource(file)
            for pattern in ("corpus.jsonl*", "queries.jsonl*", "qrels/*.tsv*")
            for depth in ("", "*/", "*/*/")
            for file in path.glob(depth + pattern)
        }
        own_name = path.resolve().name
    else:
        files = {member: TextSource(path, str(member)) for member in list_members(path)}
        own_name = path.stem
    corpora = [name for name in files if name.name in _named("corpus.jsonl")]
    if not corpora:
        return []
    level = min(len(name.parts) for name in corpora)
    judged: dict[PurePosixPath, dict[str, TextSource]] = {}
    for member, file in sorted(files.items()):
        if member.parent.name == "qrels" and file.suffix == ".tsv":
            judged.setdefault(member.parent.parent, {})[file.stem] = file
    places: dict[PurePosixPath, BeirPlace] = {}
    for corpus in sorted(name for name in corpora if len(name.parts) == level):
        folder = corpus.parent
        if folder in places:
            continue  # both corpus.jsonl and corpus.jsonl.gz: the plain one comes first
        queries = next(
            (files[folder / n] for n in _named("queries.jsonl") if folder / n in files), None
        )
        name = file_safe(folder.name or own_name)
        source = str(path) if folder == PurePosixPath() else f"{path}/{folder}"
        qrels = judged.get(folder, {})
        places[folder] = BeirPlace(source, name, files[corpus], queries, qrels)
    return list(places.values())


def _named(name: str) -> list[str]:
    return [name + ending for ending in _ENDINGS]
