"""Encode a corpus, streamed to Parquet parts, so that a killed run continues where it stopped.

The steps: (1) Read the source once without encoding. This finds bad input before hours of work, and
computes a digest for each window of ``part_size`` texts. (2) Write the manifest, with these digests
and marked incomplete. (3) Write one part per window by an atomic rename, with the window's digest
in its footer. (4) Write the manifest again, complete, with checksums.

So a part on disk is always complete and records what it was made from, and a process may die
between any two steps. The bytes do not depend on the time or on interruptions.
"""

from __future__ import annotations

import contextlib
import inspect
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.collection.fields import Reading
from dupmae_toolkit.collection.passages import Passages
from dupmae_toolkit.encoding.corpus import (
    FORMAT_VERSION,
    KINDS,
    MANIFEST,
    VOCABULARY,
    EncodedCorpus,
)
from dupmae_toolkit.encoding.form import wrong_form
from dupmae_toolkit.encoding.passages import PassageSource
from dupmae_toolkit.encoding.resume import (
    SCORE_FIELDS,
    is_written,
    precision_of,
    refuse_other_texts,
    settings_digest,
    standing,
)
from dupmae_toolkit.encoding.source import Plan, Source, Window, as_source, survey, windows
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import (
    atomic_file,
    cannot_write,
    make_folder,
    remove_leftovers,
    sha256_file,
    write_json,
)
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Advance, Progress, silent
from dupmae_toolkit.records import Encoder, Representations

if TYPE_CHECKING:
    pass

DENSE_DTYPES = ("float32", "float16")

#: Texts in a part. A kill loses at most one part. In memory, a part takes its texts and, for each,
#: 4·d bytes of dense vector and 8 bytes per term.
PART_SIZE = 2048


def encode_corpus(
    corpus: Any,
    encoder: Encoder,
    output: str | Path,
    *,
    part_size: int = PART_SIZE,
    dense_dtype: str = "float32",
    kind: str = "documents",
    plan: Plan | None = None,
    passages: Passages | None = None,
    progress: Progress = silent,
) -> EncodedCorpus:
    """Encode a corpus into the folder ``output``; continue or reuse an earlier call's result there.

    corpus: see ``as_source``; read twice, one part in memory at a time.
    dense_dtype: ``float32``, or ``float16`` for half the size at a relative error of 2^-11.
    kind: ``documents`` or ``queries``. plan: the result of ``survey`` on it, if already computed.
    passages: how to cut documents, each passage a row; None: they are not cut, unless ``corpus`` is
    a ``PassageSource``.

    Raises InputError for bad input (and then writes nothing), for a folder made from something
    else, and while another process writes there; DupMAEError if the disk is full.
    """
    output = Path(output)
    _check_options(part_size, dense_dtype, kind)
    source = as_source(corpus)
    if passages is not None:
        if kind != "documents":
            raise InputError("queries have no passages; leave out --passages (passages=…)")
        source = PassageSource(source, passages, encoder)
    wanted: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": kind,
        "complete": False,
        "encoder": encoder.info.to_dict(),
        "precision": precision_of(encoder, kind),
        "source": str(source.source).encode("utf-8", "replace").decode(),
        "part_size": part_size,
        "dense_dtype": dense_dtype,
    }
    if isinstance(source, PassageSource):
        wanted["passages"] = source.passages.to_dict()
    if output.exists():  # refuse a wrong folder before reading the whole source
        with exclusive(make_folder(output)):
            standing(output, wanted)
    plan = plan or survey(source, part_size, progress)
    reading = getattr(source, "reading", None)
    if kind == "documents" and isinstance(reading, Reading):
        wanted["reading"] = reading.to_dict()
    parts = [
        {"file": f"part-{number:05d}.parquet", "count": count, "contents_sha256": digest}
        for number, (count, digest) in enumerate(plan.windows)
    ]
    wanted |= {
        "contents_sha256": plan.digest,
        "count": plan.count,
        "truncated": None,
        "parts": parts,
    }
    with exclusive(make_folder(output)):
        remove_leftovers(output)
        manifest = standing(output, wanted)
        if manifest is None:
            manifest = wanted
            _save(output / MANIFEST, manifest)
        refuse_other_texts(output, manifest, wanted, parts)
        # An index takes the weights of the score from here, so those of this call count.
        score = {name: wanted["encoder"][name] for name in SCORE_FIELDS}
        if not score.items() <= manifest["encoder"].items():
            manifest["encoder"] |= score
            _save(output / MANIFEST, manifest)
        if not (output / VOCABULARY).exists():
            with _writing(output / VOCABULARY) as temporary:
                temporary.write_text(json.dumps(encoder.vocabulary, indent=0) + "\n", "ascii")
        newly = _write_missing(output, manifest, source, encoder, progress)
        _complete(output, manifest)
    return EncodedCorpus(output, manifest, newly)


def _check_options(part_size: int, dense_dtype: str, kind: str) -> None:
    if part_size < 1:
        raise InputError(f"part size {part_size}: it must be at least 1")
    if dense_dtype not in DENSE_DTYPES:
        raise InputError(f"dense dtype {dense_dtype!r}: choose one of {', '.join(DENSE_DTYPES)}")
    if kind not in KINDS:
        raise InputError(f"kind {kind!r}: choose one of {', '.join(KINDS)}")


def _write_missing(
    output: Path, manifest: dict[str, Any], source: Source, encoder: Encoder, progress: Progress
) -> int:
    """Encode the windows whose parts are missing; return the number of texts encoded."""
    from dupmae_toolkit.encoding.parquet import write_part

    settings = settings_digest(manifest)
    missing = {
        number
        for number, entry in enumerate(manifest["parts"])
        if not is_written(output / entry["file"], entry, settings)
    }
    if not missing:
        return 0
    if manifest["complete"]:
        # A part was removed from a complete folder: mark it incomplete until the part is back.
        _reopen(output, manifest)
    total = sum(manifest["parts"][number]["count"] for number in missing)
    with progress("encoding", total) as advance:
        for number, window in enumerate(windows(source, manifest["part_size"])):
            if number not in missing:
                continue
            entry = manifest["parts"][number]
            if window.digest != entry["contents_sha256"]:
                raise InputError.at(source.source, None, "changed while it was read; run again")
            vectors = _encode(window, manifest, encoder, advance)
            footer = {
                "contents_sha256": window.digest,
                "settings_sha256": settings,
                "truncated": str(vectors.truncated),
            }
            with _writing(output / entry["file"]) as path:
                write_part(
                    path,
                    window.titles,
                    window.texts,
                    vectors,
                    manifest["dense_dtype"],
                    footer,
                    window.metadata,
                )
            missing.remove(number)
    if missing:
        raise InputError.at(source.source, None, "changed while it was read; run again")
    return total


def _encode(
    window: Window, manifest: dict[str, Any], encoder: Encoder, advance: Advance
) -> Representations:
    """The vectors of a window, checked. An encoder that takes ``progress`` gets ``advance``."""
    queries = manifest["kind"] == "queries"
    method: Any = encoder.encode_queries if queries else encoder.encode_documents
    if "progress" in inspect.signature(method).parameters:

        @contextlib.contextmanager
        def inner(description: str, total: int | None = None) -> Iterator[Advance]:
            yield advance

        vectors = method(window.contents, window.ids, progress=inner)
    else:
        vectors = method(window.contents, window.ids)
        advance(len(window))
    _check_vectors(window, vectors, manifest)
    return vectors


def _check_vectors(window: Window, vectors: Representations, manifest: dict[str, Any]) -> None:
    """Refuse malformed or non-finite vectors; in a file, only a search would find them.

    Removes stored zeros from the lexical vectors and sorts their terms.
    """
    info = manifest["encoder"]
    n = len(window)
    message = wrong_form(vectors, window.ids, (n, info["dense_dim"]), (n, info["vocabulary_size"]))
    if message:
        raise DupMAEError(f"encoder {info['name']}: {message}")
    lexical = vectors.lexical
    with np.errstate(over="ignore"):
        if lexical.dtype != np.float32:
            vectors.lexical = lexical = lexical.astype(np.float32)
        fine = np.isfinite(vectors.dense.astype(manifest["dense_dtype"])).all(axis=1)
    if not fine.all():
        raise DupMAEError(
            f"encoder {info['name']}: the dense vector of {window.ids[int(np.argmin(fine))]!r} "
            f"does not fit into {manifest['dense_dtype']}; choose float32, or check the weights"
        )
    bad = np.flatnonzero(~(np.isfinite(lexical.data) & (lexical.data >= 0)))
    if len(bad):
        row = int(np.searchsorted(lexical.indptr, bad[0], side="right")) - 1
        raise DupMAEError(
            f"encoder {info['name']}: gave {window.ids[row]!r} the term weight "
            f"{lexical.data[bad[0]]}; weights must be finite and at least 0"
        )
    lexical.sum_duplicates()
    lexical.eliminate_zeros()


def _reopen(output: Path, manifest: dict[str, Any]) -> None:
    manifest |= {"complete": False, "truncated": None}
    for entry in manifest["parts"]:
        for key in ("sha256", "truncated"):
            entry.pop(key, None)
    _save(output / MANIFEST, manifest)


def _complete(output: Path, manifest: dict[str, Any]) -> None:
    """Add the checksums and mark the folder as complete, unless it already is."""
    from dupmae_toolkit.encoding.parquet import read_metadata

    if manifest["complete"]:
        return
    for entry in manifest["parts"]:
        path = output / entry["file"]
        stated = read_metadata(path).get("truncated", "")
        if not re.fullmatch("[0-9]{1,9}", stated):
            raise InputError.at(
                path,
                None,
                "does not say how many texts were truncated; delete it and run the same "
                "`dupmae encode` again",
            )
        entry["truncated"] = int(stated)
        entry["sha256"] = sha256_file(path)
    manifest["truncated"] = sum(entry["truncated"] for entry in manifest["parts"])
    manifest["complete"] = True
    _save(output / MANIFEST, manifest)


def _save(path: Path, manifest: dict[str, Any]) -> None:
    with _explain_os_error(path):
        write_json(path, manifest)


@contextlib.contextmanager
def _writing(path: Path) -> Iterator[Path]:
    with _explain_os_error(path), atomic_file(path) as temporary:
        yield temporary


@contextlib.contextmanager
def _explain_os_error(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise cannot_write(path, error) from error
