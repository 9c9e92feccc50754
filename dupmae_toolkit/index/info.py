"""A summary of an index, for `dupmae info`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.files import TEMPORARY_PREFIX
from dupmae_toolkit.index.layout import (
    ADDING_FOLDER,
    BUILDING_FOLDER,
    DELETIONS_FOLDER,
    DOCUMENTS_FILE,
    FAISS_FOLDER,
    FORWARD_FOLDER,
    LUCENE_FOLDER,
    SEGMENTS_FOLDER,
)
from dupmae_toolkit.index.manifest import Manifest

_PARTS = (FAISS_FOLDER, LUCENE_FOLDER, FORWARD_FOLDER, DOCUMENTS_FILE)


def index_info(index: str | Path) -> dict[str, Any]:
    """A summary for people and programs; raises InputError if there is no intact manifest.

    Sizes are in bytes. ``source`` is that of the build; the sources of additions are not recorded.
    ``leftovers`` lists what is in the folder but not part of the index: the working files of a
    build or addition that is running or was interrupted, and segments that a later change removes.
    With ``passages``, every count but ``documents`` is one of passages.
    """
    index = Path(index)
    manifest = Manifest.load(index)
    sizes = dict.fromkeys(_PARTS, 0) | {"vocabulary": 0}
    for name, entry in manifest.checksums.items():
        pieces = name.split("/")
        part = pieces[2] if pieces[0] == SEGMENTS_FOLDER else "vocabulary"
        part = DELETIONS_FOLDER if pieces[0] == DELETIONS_FOLDER else part
        sizes[part] = sizes.get(part, 0) + int(entry["bytes"])
    error = manifest.error
    return {
        "index": str(index),
        "format_version": manifest.format_version,
        "generation": manifest.generation,
        "documents": manifest.documents,
        "deleted": manifest.dead,
        "passages": (
            None
            if manifest.passages is None
            else {**manifest.passages.to_dict(), "count": manifest.live}
        ),
        "source": manifest.source,
        "reading": manifest.reading,
        "truncated": manifest.truncated,
        "precision": manifest.precision,
        "encoder": manifest.encoder.to_dict(),
        "parts": list(manifest.parts),
        "faiss": manifest.faiss_spec,
        "impacts": {
            "max_impact": manifest.max_impact,
            "scale": manifest.scale,
            "scale_source": manifest.scale_source,
            "step": 1 / manifest.scale,
            "error": error.to_dict(),
        },
        "pruning": None if manifest.pruning is None else manifest.pruning.to_dict(),
        "scoring": (
            manifest.scoring.to_dict() | {"error": manifest.word_error.to_dict()}
            if manifest.scoring
            else None
        ),
        "mean_length": manifest.mean_length if manifest.bm25 else None,
        "drift": manifest.drift,
        "words_per_document": _ratio(manifest.word_error.weights, manifest.count),
        "terms_per_document": _ratio(error.weights, manifest.count),
        "segments": [
            {
                "name": entry.name,
                "documents": entry.live,
                "deleted": entry.dead,
                "weights": entry.weights,
                "words": entry.words,
                "faiss": manifest.spec_of(entry),
            }
            for entry in manifest.segments
        ],
        "bytes": sizes | {"total": sum(sizes.values())},
        "leftovers": _leftovers(index, manifest),
    }


def _ratio(of: int, to: int) -> float:
    return of / to if to else 0.0


def _leftovers(index: Path, manifest: Manifest) -> list[str]:
    known = {entry.name for entry in manifest.segments}
    folder = index / SEGMENTS_FOLDER
    stray = [path for path in folder.iterdir() if path.name not in known] if folder.exists() else []
    stray += index.glob(f"{TEMPORARY_PREFIX}*")
    stray += [index / name for name in (BUILDING_FOLDER, ADDING_FOLDER) if (index / name).exists()]
    return sorted(path.relative_to(index).as_posix() for path in stray)
