"""Encoding a corpus, streamed to Parquet parts, so that a killed run continues where it was.

How a folder comes about: the source is read once without encoding, which finds bad input before the
hours of work and gives a digest for every window of ``part_size`` texts. Then the manifest is
written, marked incomplete, with these digests; then a part for each window, each by an atomic
rename and with its window's digest in its own footer; then the manifest again, complete, with the
checksums. A part on disk is therefore always whole and says itself what it was made from, so it
does not matter between which two steps a process dies. Nothing depends on the time or on how often
the work was interrupted: the bytes are the same.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.encoding.corpus import (
    FORMAT_VERSION,
    KINDS,
    MANIFEST,
    VOCABULARY,
    EncodedCorpus,
    check_sum,
    read_manifest,
)
from dupmae_toolkit.encoding.source import Plan, Source, Window, as_source, survey, windows
from dupmae_toolkit.errors import DupMAEError, EncoderMismatchError, InputError
from dupmae_toolkit.files import (
    TEMPORARY_PREFIX,
    atomic_file,
    make_folder,
    remove_leftovers,
    sha256_file,
    write_json,
)
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Encoder, EncoderInfo, Query, Representations

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus

DENSE_DTYPES = ("float32", "float16")
PART_SIZE = 2048


def encode_corpus(
    corpus: Corpus | Iterable[Document] | Iterable[Query] | Source,
    encoder: Encoder,
    output: str | Path,
    *,
    part_size: int = PART_SIZE,
    dense_dtype: str = "float32",
    kind: str = "documents",
    progress: Progress = silent,
) -> EncodedCorpus:
    """Encode a corpus into the folder ``output``; continue, or reuse, what stands there.

    ``kind`` is ``documents`` or ``queries``. Raises InputError for bad input, for a folder that was
    made from something else, and while another process writes there.
    """
    output = Path(output)
    if part_size < 1:
        raise InputError(f"a part size of {part_size} is refused; it must be at least 1")
    if dense_dtype not in DENSE_DTYPES or kind not in KINDS:
        raise InputError(f"{dense_dtype!r}, {kind!r}: must be one of {DENSE_DTYPES}, {KINDS}")
    source = as_source(corpus)
    wanted = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "complete": False,
        "encoder": encoder.info.to_dict(),
        "precision": getattr(encoder, "precision", None),
        "source": str(source.source),
        "part_size": part_size,
        "dense_dtype": dense_dtype,
    }
    if output.exists():
        make_folder(output)
        with exclusive(output):
            _standing(output, wanted)
    plan = survey(source, part_size, progress)
    make_folder(output)
    with exclusive(output):
        remove_leftovers(output)
        manifest = _begin(output, wanted, plan, encoder)
        newly = _write_missing(output, manifest, source, encoder, progress)
        _finish(output, manifest)
    return EncodedCorpus(output, manifest, newly)


def _standing(output: Path, wanted: dict[str, Any]) -> dict[str, Any] | None:
    """The manifest of an earlier call that can be continued; None where there is nothing yet."""
    entries = [p for p in output.iterdir() if not p.name.startswith(TEMPORARY_PREFIX)]
    if not [path for path in entries if path.name != VOCABULARY]:
        return None
    if not (output / MANIFEST).exists():
        raise InputError(
            f"{output}: not empty, and not an encoded corpus; name a new folder with --output"
        )
    manifest = read_manifest(output)
    way_out = "delete the folder or name another with --output"
    if "contents_sha256" not in manifest:
        raise InputError(f"{output}: an encoded corpus of another engine; {way_out}")
    theirs = EncoderInfo.from_dict(manifest["encoder"])
    ours = EncoderInfo.from_dict(wanted["encoder"])
    if not ours.same_vectors_as(theirs):
        raise EncoderMismatchError(
            f"{output}: begun with the encoder {_differing(theirs, ours)} and not with "
            f"{_differing(ours, theirs)}; {way_out}"
        )
    for key in ("kind", "precision", "dense_dtype", "part_size"):
        if manifest.get(key) != wanted[key]:
            raise InputError(
                f"{output}: begun with the {key.replace('_', ' ')} {manifest.get(key)} and not "
                f"{wanted[key]}; {way_out}"
            )
    return manifest


def _differing(one: EncoderInfo, other: EncoderInfo) -> str:
    mine, theirs = one.to_dict(), other.to_dict()
    fields = [
        f"{key} {mine[key]}"
        for key in mine
        if mine[key] != theirs[key] and key not in ("name", "dense_weight", "lexical_weight")
    ]
    return f"{one.name} ({', '.join(fields)})"


def _begin(output: Path, wanted: dict[str, Any], plan: Plan, encoder: Encoder) -> dict[str, Any]:
    standing = _standing(output, wanted)
    parts = [
        {"file": f"part-{number:05d}.parquet", "count": count, "contents_sha256": digest}
        for number, (count, digest) in enumerate(plan.windows)
    ]
    if standing is not None:
        if standing["contents_sha256"] != plan.digest:
            raise InputError(
                f"{output}: begun from other texts: {wanted['source']} has changed since, or is "
                "another corpus; delete the folder or name another with --output"
            )
        return standing
    manifest = wanted | {
        "contents_sha256": plan.digest,
        "count": plan.count,
        "truncated": None,
        "parts": parts,
    }
    with atomic_file(output / VOCABULARY) as temporary:
        temporary.write_text(json.dumps(encoder.vocabulary, indent=0) + "\n", "ascii")
    write_json(output / MANIFEST, manifest)
    return manifest


def _settings(manifest: dict[str, Any]) -> str:
    """What a part's vectors depend on besides the texts, as a digest."""
    encoder = {
        key: value
        for key, value in manifest["encoder"].items()
        if key not in ("name", "dense_weight", "lexical_weight")
    }
    values = [encoder, manifest["kind"], manifest["precision"], manifest["dense_dtype"]]
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _write_missing(
    output: Path,
    manifest: dict[str, Any],
    source: Source,
    encoder: Encoder,
    progress: Progress,
) -> int:
    from dupmae_toolkit.encoding.parquet import write_part

    missing = {
        number
        for number, entry in enumerate(manifest["parts"])
        if not _is_written(output / entry["file"], entry, _settings(manifest))
    }
    total = sum(manifest["parts"][number]["count"] for number in missing)
    if not missing:
        return 0
    with progress("encoding", total) as advance:
        for number, window in enumerate(windows(source, manifest["part_size"])):
            if number not in missing:
                continue
            entry = manifest["parts"][number]
            if window.digest != entry["contents_sha256"]:
                raise InputError(f"{source.source}: changed while it was read; run again")
            representations = _encode(window, manifest["kind"], encoder)
            metadata = {
                "contents_sha256": window.digest,
                "settings_sha256": _settings(manifest),
                "truncated": str(representations.truncated),
            }
            with atomic_file(output / entry["file"]) as temporary:
                write_part(
                    temporary,
                    window.titles,
                    window.texts,
                    representations,
                    manifest["dense_dtype"],
                    metadata,
                )
            advance(len(window))
    return total


def _is_written(path: Path, entry: dict[str, Any], settings: str) -> bool:
    from dupmae_toolkit.encoding.parquet import read_metadata

    if not path.exists():
        return False
    check_sum(path, entry)
    stored = read_metadata(path)
    if (stored.get("contents_sha256"), stored.get("settings_sha256")) != (
        entry["contents_sha256"],
        settings,
    ):
        raise InputError(f"{path}: made from other texts or by another encoder; delete it")
    return True


def _encode(window: Window, kind: str, encoder: Encoder) -> Representations:
    if kind == "queries":
        return encoder.encode_queries(window.contents, window.ids)
    return encoder.encode_documents(window.contents, window.ids)


def _finish(output: Path, manifest: dict[str, Any]) -> None:
    from dupmae_toolkit.encoding.parquet import read_metadata

    for entry in manifest["parts"]:
        path = output / entry["file"]
        if "sha256" not in entry:
            entry["truncated"] = int(read_metadata(path)["truncated"])
            entry["sha256"] = sha256_file(path)
    if not manifest["complete"]:
        manifest["truncated"] = sum(entry["truncated"] for entry in manifest["parts"])
        manifest["complete"] = True
        write_json(output / MANIFEST, manifest)
    elif any(not (output / entry["file"]).exists() for entry in manifest["parts"]):
        raise DupMAEError(f"{output}: a part went missing while it was written; run again")
