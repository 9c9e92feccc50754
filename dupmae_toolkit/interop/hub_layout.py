"""Which files of an encoder, an index or a run are exchanged with the Hugging Face hub.

A repository holds one of the three, and ``dupmae.json``, which states its kind, and the size and
SHA-256 of every file. Nothing else is uploaded or downloaded, in particular no code and no pickle.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import read_json, wrong_contents
from dupmae_toolkit.index import stated
from dupmae_toolkit.index.integrity import wrong_size
from dupmae_toolkit.index.layout import MANIFEST_FILE, SEGMENTS_FOLDER
from dupmae_toolkit.index.manifest import Manifest, checksum
from dupmae_toolkit.model.checkpoints import check_files

RECORD_FILE = "dupmae.json"
RECORD_VERSION = 1
PREFIX = "hf:"
KINDS = ("encoder", "index", "run")
_NAME = re.compile(
    r"hf:(?:(?P<type>datasets|models)/(?=[^/]+/))?"
    r"(?P<repository>[\w-][\w.-]*(?:/[\w-][\w.-]*)?)(?:@(?P<revision>[\w./-]+))?",
    re.ASCII,
)
_PLAIN = r"[A-Za-z0-9_][A-Za-z0-9_.-]*"
#: The files of each kind, by their path in the repository.
_FILES = {
    "encoder": re.compile(
        rf"README\.md|([0-9]+_[A-Za-z0-9_]+/)?{_PLAIN}\.(json|txt|model|safetensors)", re.ASCII
    ),
    "index": re.compile(
        r"manifest\.json|vocabulary[0-9a-f-]{0,64}\.json|deletions/[0-9]{1,12}-[0-9]{1,18}\.npy|"
        rf"segments/[0-9]{{1,12}}/(documents\.parquet|(faiss|lucene|forward)/{_PLAIN})",
        re.ASCII,
    ),
    "run": re.compile(rf"{_PLAIN}", re.ASCII),
}


@dataclass(frozen=True, slots=True)
class HubName:
    """A repository of the hub, and perhaps a branch, tag or commit of it.

    type: ``dataset`` or ``model``, which may have the same name; None: not stated.
    """

    repository: str
    revision: str | None = None
    type: str | None = None

    def __str__(self) -> str:
        kind = f"{self.type}s/" if self.type else ""
        return f"{PREFIX}{kind}{self.repository}" + (f"@{self.revision}" if self.revision else "")

    @classmethod
    def parse(cls, text: str) -> HubName:
        """Read ``hf:OWNER/NAME`` or ``hf:OWNER/NAME@REVISION``; InputError for anything else.

        ``datasets/`` or ``models/`` before OWNER states the type, as in the hub's addresses.
        """
        found = _NAME.fullmatch(text)
        if found is None:
            raise InputError(f"{text}: write a repository of the hub as hf:OWNER/NAME[@REVISION]")
        kind = found["type"] and found["type"].removesuffix("s")
        return cls(found["repository"], found["revision"], kind)


@dataclass(slots=True)
class Package:
    """One thing that is exchanged. files: size and SHA-256 by path, paths as in the repository.

    left_out: files beside them that do not belong to the layout.
    """

    kind: str
    files: dict[str, dict[str, Any]]
    left_out: list[str] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """The size of all files."""
        return sum(int(entry["bytes"]) for entry in self.files.values())

    def to_dict(self) -> dict[str, Any]:
        return {"format_version": RECORD_VERSION, "kind": self.kind, "files": self.files}

    def check(self, folder: Path, remedy: str) -> None:
        """Raise InputError unless all files are in ``folder``, unchanged."""
        for name, entry in self.files.items():
            path = folder / name
            if wrong := wrong_size(path, entry) or wrong_contents(path, entry["sha256"]):
                raise InputError.at(path, None, wrong, remedy)


def pack(path: Path) -> tuple[Package, Path]:
    """What ``path`` is, with its files, and the folder that holds them. Reads all files.

    path: an index, the folder of an encoder, or the file of a run. Raises InputError for anything
    else and for a damaged index.
    """
    if path.is_file():
        return _run(path)
    if not path.is_dir():
        raise InputError.at(path, None, "no such index, encoder or run")
    if (path / SEGMENTS_FOLDER).is_dir():
        manifest = Manifest.load(path)
        named = dict(manifest.checksums) | {MANIFEST_FILE: checksum(path / MANIFEST_FILE)}
        package = Package("index", named)
        for name in named:
            if not fits("index", name):
                raise InputError.at(path / name, None, "has a name that no file of an index has")
        package.check(path, "run `dupmae verify --repair` on the index")
        return package, path
    if not (path / "config.json").is_file() and not (path / "modules.json").is_file():
        raise InputError.at(
            path, None, "neither an index nor an encoder; an encoded corpus is exported as Parquet"
        )
    if not (path / "modules.json").is_file():
        check_files(path)
    return _encoder(path), path


def _encoder(path: Path) -> Package:
    package = Package("encoder", {})
    for file in sorted(path.rglob("*")):
        name = file.relative_to(path).as_posix()
        if not file.is_file() or name.startswith("."):
            continue
        if fits("encoder", name):
            package.files[name] = checksum(file)
        else:
            package.left_out.append(name)
    return package


def _run(path: Path) -> tuple[Package, Path]:
    from dupmae_toolkit.collection.trec import read_metadata, read_run, sidecar_path
    from dupmae_toolkit.evaluation.card_reading import has_own_card
    from dupmae_toolkit.evaluation.cards import card_path

    read_run(path)  # raises for what is none
    beside = {sidecar_path(path): read_metadata(path) is not None}
    beside[card_path(path)] = has_own_card(path)
    names = [path.name, *(file.name for file, is_ours in beside.items() if is_ours)]
    left = [file.name for file, is_ours in beside.items() if file.is_file() and not is_ours]
    if odd := [name for name in names if not fits("run", name)]:
        fault = f"{RECORD_FILE} is the name of the record of an upload"
        if odd[0] != RECORD_FILE:
            fault = "the hub takes letters, digits, . _ and - in names"
        raise InputError.at(path.with_name(odd[0]), None, f"{fault}; rename the run")
    files = {name: checksum(path.parent / name) for name in names}
    return Package("run", files, left), path.parent


def fits(kind: str, name: str) -> bool:
    """Whether a file of this path may be part of a ``kind``."""
    return name != RECORD_FILE and bool(_FILES[kind].fullmatch(name))


def read_record(path: Path, where: HubName) -> Package:
    """The package that a downloaded record describes; InputError for names outside the layout."""
    values = read_json(path)
    try:
        if stated.integer(values, "format_version", 1) > RECORD_VERSION:
            raise InputError.at(where, None, "a later version wrote it; update dupmae-toolkit")
        kind = stated.one_of(values, "kind", KINDS)
        files = stated.file_checksums(values["files"])
        odd = [name for name in files if not fits(kind, name)]
        if odd:
            raise ValueError(f"it names {odd[0]!r}, which no {kind} has")
        if not files:
            raise ValueError("it names no files")
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        fault = f"{RECORD_FILE} is not valid ({type(error).__name__}: {error})"
        raise InputError.at(where, None, fault, "export it again") from error
    return Package(kind, files)


def check_downloaded(package: Package, folder: Path) -> None:
    """Raise InputError if the files are whole, but are no index or encoder."""
    if package.kind == "index":
        manifest = Manifest.load(folder)
        if manifest.checksums.keys() | {MANIFEST_FILE} != package.files.keys():
            raise InputError.at(folder, None, "its manifest names other files than were uploaded")
    elif package.kind == "encoder" and not (folder / "modules.json").is_file():
        check_files(folder)
