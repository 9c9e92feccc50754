"""What a folder is that was named as an index and is none, and what to do with it."""

from __future__ import annotations

from pathlib import Path

from dupmae_toolkit.files import manifest_in
from dupmae_toolkit.index.layout import FAISS_FILE, IDS_FILE, MANIFEST_FILE, SEGMENTS_FOLDER

#: Only `dupmae export` writes a file of this name.
EXPORT_FILE = "_export.json"
_MOST_NAMED = 3  # indexes in a folder of several
_MODEL_FILES = ("config.json", "modules.json")
#: How deep the folders of an index are nested: segments/000001/lucene.
_DEPTH = 3


def mistaken(folder: Path) -> tuple[str, str] | None:
    """What ``folder`` is instead of an index, and the remedy; None if it is nothing we know.

    The words follow "not an index but".
    Also None for an index, damaged or not. Reads small files only.
    """
    if not folder.is_dir():
        return _inside(folder)
    if (folder / SEGMENTS_FOLDER).is_dir():
        return None
    return _by_manifest(folder) or _inside(folder) or _by_files(folder) or _around(folder)


def _by_manifest(folder: Path) -> tuple[str, str] | None:
    values = manifest_in(folder)
    if values.get("kind") == "bm25":
        return (
            "the BM25 baseline of `dupmae beir` or `dupmae mine`",
            "`dupmae index` builds one to search, and its mode bm25 scores words alike",
        )
    if not {"encoder", "parts"} <= values.keys():
        return None
    if values.get("kind") == "queries":
        return "encoded queries", "give them to `dupmae search --queries`, and name an index"
    return "encoded texts", f"`dupmae index {folder} --index DIR` builds an index of them"


def _inside(path: Path) -> tuple[str, str] | None:
    """``path`` as a part of an index."""
    for above in path.absolute().parents[:_DEPTH]:
        if "segments" in manifest_in(above) and (above / SEGMENTS_FOLDER).is_dir():
            return "a part of one", f"name the index itself, {above}"
    return None


def _by_files(folder: Path) -> tuple[str, str] | None:
    if any(folder.glob("segments_*")):
        what = "a Lucene index alone"
    elif (folder / FAISS_FILE).is_file() and (folder / IDS_FILE).is_file():
        what = "a FAISS index alone"
    elif any((folder / name).is_file() for name in _MODEL_FILES):
        return (
            "a model",
            f"`dupmae index CORPUS --model {folder} --index DIR` builds an index by it",
        )
    elif (folder / EXPORT_FILE).is_file():
        return (
            "exported vectors",
            f"`dupmae import {folder} --output DIR` builds an index of them",
        )
    elif (folder / "corpus.jsonl").is_file():
        return "a data set", f"`dupmae index {folder} --index DIR` builds an index of it"
    else:
        return None
    return what, "`dupmae search` reads those of Pyserini; `dupmae index` builds one of texts"


def _around(folder: Path) -> tuple[str, str] | None:
    """``folder`` as one that holds indexes, such as the output of `dupmae beir`."""
    try:
        children = sorted(path for path in folder.iterdir() if (path / SEGMENTS_FOLDER).is_dir())
    except OSError:
        return None
    found = [str(path) for path in children if (path / MANIFEST_FILE).is_file()]
    if not found:
        return None
    named = ", ".join(found[:_MOST_NAMED]) + (" …" if len(found) > _MOST_NAMED else "")
    return f"a folder that holds {len(found):,}", f"name one: {named}"
