"""Uploads encoders, indexes and runs to the Hugging Face hub, and downloads them, checked.

An upload is one commit: others see the repository as it was before or as it is afterwards. Files
that the hub has already, also from an interrupted upload, are not sent again. A download goes to
``.importing-NAME`` beside its destination, and continues there after an interruption; it gets its
final name when every file has the size and SHA-256 that the uploader stated.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import atomic_folder, write_json, wrong_contents
from dupmae_toolkit.index.build import says_why
from dupmae_toolkit.index.holding import held
from dupmae_toolkit.index.layout import SEGMENTS_FOLDER
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.interop.hub_layout import (
    RECORD_FILE,
    HubName,
    Package,
    check_downloaded,
    pack,
    read_record,
)
from dupmae_toolkit.interop.vector_writing import check_new_folder
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.model.checkpoints import first_line

#: The types of repositories: an encoder is a model, which the hub's own tools can load.
REPOSITORY_TYPES = {"encoder": "model", "index": "dataset", "run": "dataset"}
#: An upload of an index deletes these files from the repository if the index no longer has them.
_STALE = ["segments/*", "deletions/*", "vocabulary*.json"]

#: Files up to this size, in bytes, are copied.
_SMALL = 1 << 20
#: How often an index that another process changes is checked again.
_TRIES = 3

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Exchanged:
    """What was exchanged, where it lies on the hub, and the commit, if the hub names it."""

    package: Package
    where: HubName
    commit: str | None


def push(path: str | Path, name: str, *, public: bool = False, bars: bool = True) -> Exchanged:
    """Upload an index, an encoder's folder or a run's file to the repository ``hf:OWNER/NAME``.

    A missing repository is created, private unless ``public``. The token is the one that
    huggingface_hub finds: ``HF_TOKEN`` or that of ``hf auth login``. bars: whether the hub's
    library shows progress.

    Raises InputError for anything else, for a damaged index, and for a name that states another
    type (``hf:datasets/…``, ``hf:models/…``), before the network is used; DupMAEError if the upload
    fails.
    """
    where = HubName.parse(name)
    if where.revision is not None:
        raise InputError(f"{name}: an upload goes to the main branch; leave out @{where.revision}")
    path = Path(path)
    with contextlib.ExitStack() as stack:
        is_index = (path / SEGMENTS_FOLDER).is_dir()
        package, folder = _held(path, stack) if is_index else pack(path)
        kind = REPOSITORY_TYPES[package.kind]
        if where.type not in (None, kind):
            raise InputError(
                f"{name}: an upload of this {package.kind} makes a {kind}; write hf:{kind}s/…"
            )
        staged = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dupmae-")))
        for file, entry in package.files.items():
            (staged / file).parent.mkdir(parents=True, exist_ok=True)
            _stand_in(folder / file, staged / file)
            small = (staged / file).stat().st_size <= _SMALL
            if small and wrong_contents(staged / file, entry["sha256"]):
                raise InputError.at(folder / file, None, "changed meanwhile; upload it again")
        write_json(staged / RECORD_FILE, package.to_dict())
        stack.enter_context(_bars(bars))
        where, commit = _upload(package, where, staged, public)
    return Exchanged(package, where, commit)


def _held(path: Path, stack: contextlib.ExitStack) -> tuple[Package, Path]:
    """``pack`` of an index whose files stay until the stack is closed.

    Checking takes long, and another process may change the index meanwhile; then it begins again.
    """
    for _ in range(_TRIES):
        with contextlib.ExitStack() as one:
            manifest = one.enter_context(held(path))
            refused: InputError | None = None
            try:
                found = pack(path)
            except InputError as error:
                refused = error
            if Manifest.load(path).checksums == manifest.checksums:
                if refused is not None:
                    raise refused
                stack.enter_context(one.pop_all())
                return found
    raise InputError.at(path, None, "keeps changing; wait until no process changes it")


def _upload(
    package: Package, where: HubName, staged: Path, public: bool
) -> tuple[HubName, str | None]:
    """Upload the folder ``staged``; returns the repository, with its owner, and the commit."""
    import huggingface_hub

    api = huggingface_hub.HfApi()
    kind = REPOSITORY_TYPES[package.kind]
    made = _ask(
        where,
        "upload",
        api.create_repo,
        repo_id=where.repository,
        repo_type=kind,
        private=not public,
        exist_ok=True,
    )
    where = HubName(made.repo_id, type=where.type)  # with the owner, if only NAME was given
    done = _ask(
        where,
        "upload",
        api.upload_folder,
        repo_id=where.repository,
        repo_type=kind,
        folder_path=str(staged),
        commit_message=f"dupmae export: {package.kind}",
        delete_patterns=_STALE if package.kind == "index" else None,
    )
    return where, getattr(done, "oid", None)


def _stand_in(path: Path, place: Path) -> None:
    """Make a link to a file, or a copy if the file is small or links are not possible.

    The small files of an index can be replaced meanwhile, its segments cannot: they are held.
    """
    if path.stat().st_size <= _SMALL:
        shutil.copyfile(path, place)
        return
    try:
        os.symlink(path.resolve(), place)
    except OSError:
        shutil.copyfile(path, place)


def pull(name: str, folder: str | Path, *, bars: bool = True) -> Exchanged:
    """Download what ``push`` uploaded to ``hf:OWNER/NAME``, perhaps ``@REVISION``, into ``folder``.

    folder: new or empty. A second call continues an interrupted download. Raises InputError if the
    repository holds nothing of the kind, if a model and a data set of this name both do, or if a
    file is not the one that was uploaded; DupMAEError if the download fails.
    """
    where, folder = HubName.parse(name), Path(folder)
    check_new_folder(folder, "what is downloaded")
    stage = folder.parent / f".importing-{folder.name}"
    with says_why(folder):
        stage.mkdir(parents=True, exist_ok=True)
        try:
            with exclusive(stage), _bars(bars):
                package, commit = _download(where, stage)
                with atomic_folder(folder) as temporary:
                    for file in package.files:
                        (temporary / file).parent.mkdir(parents=True, exist_ok=True)
                        os.replace(stage / file, temporary / file)
                shutil.rmtree(stage, ignore_errors=True)
        finally:
            with contextlib.suppress(OSError):
                stage.rmdir()  # if nothing has arrived
    return Exchanged(package, where, commit)


def _download(where: HubName, stage: Path) -> tuple[Package, str | None]:
    """The files of a package in the folder ``stage``, checked, and their commit."""
    import huggingface_hub

    kind, commit = _find(where)
    repository: dict[str, Any] = {
        "repo_id": where.repository,
        "repo_type": kind,
        "revision": commit,
        "local_dir": str(stage),
    }
    _ask(where, "download", huggingface_hub.hf_hub_download, filename=RECORD_FILE, **repository)
    package = read_record(stage / RECORD_FILE, where)
    _ask(
        where,
        "download",
        huggingface_hub.snapshot_download,
        allow_patterns=sorted(package.files),
        **repository,
    )
    again = f"run the same command again to download it anew; if that fails, {where} is damaged"
    try:
        package.check(stage, again)
        check_downloaded(package, stage)
    except InputError:
        shutil.rmtree(stage, ignore_errors=True)
        raise
    return package, commit


def _find(where: HubName) -> tuple[str, str | None]:
    """The type of the repository that holds a package, and the commit to download.

    Raises InputError if there is none, or one of either type and ``where`` does not say which.
    """
    import huggingface_hub
    from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

    api = huggingface_hub.HfApi()
    holding: list[tuple[str, str | None]] = []
    lacks_revision = False
    for kind in sorted(set(REPOSITORY_TYPES.values())):
        if where.type not in (None, kind):
            continue
        try:
            found = api.repo_info(where.repository, repo_type=kind, revision=where.revision)
        except RepositoryNotFoundError:
            continue
        except RevisionNotFoundError:  # a repository of the other type may have it
            lacks_revision = True
            continue
        except Exception as error:
            raise _failed(where, "download", error) from error
        names = {each.rfilename for each in getattr(found, "siblings", None) or ()}
        if RECORD_FILE in names:
            holding.append((kind, found.sha))
    if len(holding) > 1:
        chosen = " or ".join(str(replace(where, type=kind)) for kind, _ in holding)
        raise InputError(
            f"{where}: a data set and a model have this name, and `dupmae export` filled both; "
            f"write {chosen}"
        )
    if holding:
        return holding[0]
    if lacks_revision:
        raise InputError(f"{where}: no branch, tag or commit of that name holds an export")
    raise InputError(
        f"{where}: no repository that `dupmae export` filled, or it is private and HF_TOKEN is not "
        "set; --model takes other encoders by their hub id (encoder=…, model=…)"
    )


def _ask(where: HubName, what: str, call: Callable[..., Result], **arguments: Any) -> Result:
    """Call the hub; an error becomes a message of one line."""
    try:
        return call(**arguments)
    except Exception as error:
        raise _failed(where, what, error) from error


def _failed(where: HubName, what: str, error: Exception) -> DupMAEError:
    return DupMAEError(
        f"{where}: the {what} failed ({first_line(error)}); run the same command again to continue"
    )


@contextlib.contextmanager
def _bars(wanted: bool) -> Iterator[None]:
    from huggingface_hub import utils

    shown = not utils.are_progress_bars_disabled()
    if shown and not wanted:
        utils.disable_progress_bars()
    try:
        yield
    finally:
        if shown and not wanted:
            utils.enable_progress_bars()
