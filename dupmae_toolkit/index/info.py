"""What an index says of itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dupmae_toolkit.index.manifest import (
    ADDING_FOLDER,
    BUILDING_FOLDER,
    DELETIONS_FOLDER,
    SEGMENTS_FOLDER,
    Manifest,
)

_PARTS = ("faiss", "lucene", "forward", "documents.parquet")


def index_info(index: str | Path) -> dict[str, Any]:
    """A summary for people and programs; raises InputError where there is no whole index.

    Sizes are in bytes. ``source`` is that of the build; of additions none is known. ``leftovers``
    names what lies there and is no part of the index: what a build or an addition works on or was
    interrupted in, which the same call goes on with; and segments that a later change removes.
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
        "documents": manifest.live,
        "deleted": manifest.dead,
        "source": manifest.source,
        "truncated": manifest.truncated,
        "encoder": manifest.encoder.to_dict(),
        "faiss": manifest.faiss_spec,
        "impacts": {
            "max_impact": manifest.max_impact,
            "scale": manifest.scale,
            "step": 1 / manifest.scale,
            "error": error.to_dict(),
        },
        "terms_per_document": error.weights / manifest.count if manifest.count else 0.0,
        "segments": [
            {
                "name": entry.name,
                "documents": entry.live,
                "deleted": entry.dead,
                "weights": entry.weights,
                "faiss": manifest.spec_of(entry),
            }
            for entry in manifest.segments
        ],
        "bytes": sizes | {"total": sum(sizes.values())},
        "leftovers": _leftovers(index, manifest),
    }


def _leftovers(index: Path, manifest: Manifest) -> list[str]:
    known = {entry.name for entry in manifest.segments}
    folder = index / SEGMENTS_FOLDER
    stray = [path for path in folder.iterdir() if path.name not in known] if folder.exists() else []
    stray += index.glob(".tmp-*")
    stray += [index / name for name in (BUILDING_FOLDER, ADDING_FOLDER) if (index / name).exists()]
    return sorted(path.relative_to(index).as_posix() for path in stray)
