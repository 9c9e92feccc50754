"""Whether encoding can continue in an existing folder: same texts, same encoder, same options."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from dupmae_toolkit.encoding.corpus import MANIFEST, check_sum, encoder_info, read_manifest
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.files import TEMPORARY_PREFIX
from dupmae_toolkit.records import Encoder, EncoderInfo

WAY_OUT = "delete the folder or name another output"

#: Fields of EncoderInfo that an index is built with, and that do not change the vectors.
SCORE_FIELDS = ("dense_weight", "lexical_weight", "fitted_weights", "largest_weight")
_BESIDE_VECTORS = ("name", *SCORE_FIELDS)


def standing(output: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of an earlier call that ``wanted`` can continue; None if the folder is empty.

    Raises InputError if the folder holds anything else, or was made with other settings; the
    message names both settings.
    """
    if not any(not path.name.startswith(TEMPORARY_PREFIX) for path in output.iterdir()):
        return None
    if not (output / MANIFEST).exists():
        raise InputError.at(output, None, "not empty, and not an encoded corpus; name a new folder")
    manifest = read_manifest(output)
    if not _is_ours(manifest):
        raise InputError.at(output, None, f"an encoded corpus that another engine wrote; {WAY_OUT}")
    theirs = encoder_info(output / MANIFEST, manifest)
    ours = EncoderInfo.from_dict(wanted["encoder"])
    if not ours.same_vectors_as(theirs) or _cut_elsewhere(manifest, ours, theirs):
        raise EncoderMismatchError.at(
            output,
            None,
            f"made with the encoder {_described(theirs, ours)}, not with "
            f"{_described(ours, theirs)}; {WAY_OUT}",
        )
    for key in ("kind", "precision", "dense_dtype", "part_size", "passages"):
        if manifest.get(key) != wanted.get(key):
            name = key.replace("_", " ")
            found, asked = manifest.get(key), wanted.get(key)
            raise InputError.at(output, None, f"made with {name} {found}, not {asked}; {WAY_OUT}")
    return manifest


def precision_of(encoder: Encoder, kind: str) -> str | None:
    """The precision of the products for texts of a kind: the parts of a folder must not mix two.

    None for an encoder that does not state it.
    """
    name = "query_arithmetic" if kind == "queries" else "arithmetic"
    found: str | None = getattr(encoder, name, None)
    return found


def is_outdated(folder: Path, encoder: Encoder) -> bool:
    """Whether a folder holds queries that this encoder would cut at another length, or compute in
    another precision. False for anything else that ``standing`` accepts or refuses.
    """
    try:
        manifest = read_manifest(folder)
        theirs = encoder_info(folder / MANIFEST, manifest)
    except InputError:
        return False
    ours = encoder.info
    if not _is_ours(manifest) or manifest.get("kind") != "queries":
        return False
    other_precision = manifest.get("precision") != precision_of(encoder, "queries")
    return ours.same_vectors_as(theirs) and (
        other_precision or _cut_elsewhere(manifest, ours, theirs)
    )


def _cut_elsewhere(manifest: dict[str, Any], ours: EncoderInfo, theirs: EncoderInfo) -> bool:
    """Whether a folder holds queries of another length. Documents do not depend on that length."""
    queries = manifest.get("kind") == "queries"
    return queries and ours.query_max_length != theirs.query_max_length


def _is_ours(manifest: dict[str, Any]) -> bool:
    """Whether a manifest has the keys that only ``encode_corpus`` writes, in its form."""
    parts = manifest.get("parts")
    listed = isinstance(parts, list) and all(isinstance(entry, dict) for entry in parts)
    return listed and "contents_sha256" in manifest and isinstance(manifest.get("complete"), bool)


def refuse_other_texts(
    output: Path, manifest: dict[str, Any], wanted: dict[str, Any], parts: list[dict[str, Any]]
) -> None:
    """Raise InputError unless ``manifest`` has the same parts, by digest, as the plan ``parts``."""
    keys = ("file", "count", "contents_sha256")
    theirs = [tuple(entry.get(key) for key in keys) for entry in manifest["parts"]]
    ours = [tuple(entry[key] for key in keys) for entry in parts]
    if theirs == ours:
        return
    same = next((n for n, (a, b) in enumerate(zip(theirs, ours, strict=False)) if a != b), None)
    if same is None:
        same = min(len(theirs), len(ours))
    first = same * wanted["part_size"] + 1
    origin = manifest.get("source")
    which = f"{wanted['source']} has changed since"
    if origin != wanted["source"]:
        which = f"they came from {origin}, not from {wanted['source']}"
    raise InputError.at(
        output,
        None,
        f"made from other texts ({which}; they differ from text {first} on); {WAY_OUT}",
    )


def settings_digest(manifest: dict[str, Any]) -> str:
    """SHA-256 of everything but the texts that the vectors depend on; stored in every part."""
    encoder = {k: v for k, v in manifest["encoder"].items() if k not in _BESIDE_VECTORS}
    values = [encoder, manifest["kind"], manifest["precision"], manifest["dense_dtype"]]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def is_written(path: Path, entry: dict[str, Any], settings: str) -> bool:
    """Whether a part is written. Raises InputError if it is damaged or made from something else."""
    from dupmae_toolkit.encoding.parquet import read_metadata

    if not path.exists():
        return False
    check_sum(path, entry)
    stored = read_metadata(path)
    if stored.get("contents_sha256") != entry["contents_sha256"]:
        raise InputError.at(path, None, f"made from other texts than the manifest's; {WAY_OUT}")
    if stored.get("settings_sha256") != settings:
        raise InputError.at(path, None, f"made by another encoder than the manifest's; {WAY_OUT}")
    return True


def _described(one: EncoderInfo, other: EncoderInfo) -> str:
    """An encoder's name, and its values of the fields in which it differs from the other."""
    mine, theirs = one.to_dict(), other.to_dict()
    fields = [
        f"{key} {str(value)[:12]!r}" if isinstance(value, str) else f"{key} {value}"
        for key, value in mine.items()
        if key not in _BESIDE_VECTORS and value != theirs[key]
    ]
    return f"{one.name} ({', '.join(fields)})"
