"""Builds an index from vectors that exist: a folder of `dupmae export`, or a file of CIFF.

They become an encoded corpus in the folder of the build. From then on, the index is built as from
any encoded corpus, which checks every value again.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.encoding.corpus import FORMAT_VERSION, MANIFEST, VOCABULARY, EncodedCorpus
from dupmae_toolkit.encoding.parquet import write_part
from dupmae_toolkit.encoding.vectors import GIVEN
from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.files import atomic_folder, manifest_in, sha256_file, sha256_lines, write_json
from dupmae_toolkit.index.build import BuildOptions, build_held, building_in, check_documents
from dupmae_toolkit.index.impacts import MAX_IMPACT, calibrate
from dupmae_toolkit.index.layout import BUILDING_FOLDER, ENCODED_FOLDER
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.mistaken import mistaken
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.index.staging import check_target
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.interop.ciff_read import Ciff, read_ciff
from dupmae_toolkit.interop.vector_layout import BATCH, PART, Vectors
from dupmae_toolkit.interop.vector_reading import is_export, read_vectors
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, EncoderInfo, Representations


def import_index(
    source: str | Path,
    index: str | Path,
    *,
    encoder: Encoder | None = None,
    scale: float | None = None,
    faiss_spec: str | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> tuple[Manifest, list[str]]:
    """Build an index from a folder that `dupmae export` wrote, or from a file of CIFF.

    An imported index gives the scores of the exported one: it has the same encoder, scale, impacts
    and words. A file of CIFF gives an index of lexical vectors alone, without texts. encoder: for a
    file of CIFF, the encoder that made its impacts and encodes queries, with lexical vectors alone;
    by default, queries need vectors too. scale: what its impacts are divided by; by default the
    encoder's scale, or 1. faiss_spec: by default the exported index's, or Flat.

    Returns the manifest, and what was left out or is unusual, a line each. Raises InputError for
    bad input, and for a folder that must not be built in; nothing is left half-written.
    """
    source, index = Path(source), Path(index)
    check_target(index, overwrite)
    if is_export(source):
        if encoder is not None or scale is not None:
            raise InputError.at(
                source,
                None,
                "states its own encoder and scale",
                "leave out --model (encoder=…) and --scale (scale=…)",
            )
        vectors = read_vectors(source)
    elif source.is_dir() or not source.exists():
        what = "holds no export of this toolkit" if source.is_dir() else "no such file or folder"
        remedy = "name a file of CIFF or a folder that `dupmae export` wrote"
        if source.is_dir() and (found := mistaken(source)):
            what, remedy = f"not an export but {found[0]}", found[1]
        raise InputError.at(source, None, what, remedy)
    else:
        vectors = _of_ciff(source, read_ciff(source, progress), encoder, scale)
    info, options = _settings(vectors, faiss_spec)
    options.check(info.dense_dim)
    with building_in(index):
        folder = index / BUILDING_FOLDER / ENCODED_FOLDER
        other = manifest_in(folder).get("imported")
        if folder.exists() and other != str(source) and not overwrite:
            raise InputError.at(
                index,
                None,
                "a different build was interrupted there; finish it, or pass --overwrite "
                "(overwrite=True) to start over",
            )
        shutil.rmtree(folder, ignore_errors=True)
        try:
            encoded = _write_encoded(folder, source, vectors, info, progress)
            check_documents(encoded)
            tuned = vectors.record.get("scoring")
            if tuned is not None and tuned.origin is None:
                tuned = None  # they are the encoder's
            made = build_held(index, encoded, vectors.tokens, options, overwrite, progress, tuned)
        except InputError:  # the same input would be refused again
            shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            with contextlib.suppress(OSError):
                folder.parent.rmdir()  # if nothing is in it
    return made, vectors.notes


def _settings(vectors: Vectors, faiss_spec: str | None) -> tuple[EncoderInfo, BuildOptions]:
    """The encoder, with the largest weight that gives the scale, and the options of the build.

    With these, the weights, impacts / scale, become the same impacts again.
    """
    record = vectors.record
    info, scale = record["info"], record["scale"]
    options = BuildOptions(
        faiss_spec or record["faiss"] or "Flat",
        record["max_impact"] or MAX_IMPACT,
        bm25=record["bm25"],
        mean_length=record["mean_length"],
    )
    if scale is not None:
        largest = _largest_weight(options.max_impact, scale, info.largest_weight)
        info = dataclasses.replace(info, largest_weight=largest)
    return info, options


def _largest_weight(max_impact: int, scale: float, stated: float) -> float:
    """The largest weight from which ``calibrate`` gets this scale, or the float nearest to it."""
    near = max_impact / scale
    tried = [stated, near, np.nextafter(near, 0), np.nextafter(near, np.inf)]
    empty = csr_matrix((1, 1), dtype=np.float32)
    usable = [float(each) for each in tried if each > 0]
    return min(usable, key=lambda each: abs(calibrate(empty, max_impact, each) - scale))


def _of_ciff(path: Path, read: Ciff, encoder: Encoder | None, scale: float | None) -> Vectors:
    """The documents of a file of CIFF, without texts, as if they had been exported."""
    if scale is not None and not 0 < scale < 2.0**96:
        raise InputError(f"scale {scale}: it must be a number above 0")
    impacts, largest = read.impacts, int(read.impacts.data.max(initial=1))
    tokens = read.terms
    info = EncoderInfo(
        name=GIVEN,
        weights_sha256=sha256_file(path),
        vocabulary_sha256=sha256_lines(tokens),
        vocabulary_size=len(tokens),
        dense_dim=0,
        lexical_head=GIVEN,
        activation="relu",
        normalize=False,
        pooling="none",
    )
    if encoder is not None:
        info, tokens = encoder.info, encoder.vocabulary
        if info.sides != ("lexical",):
            raise InputError(
                f"{info.name}: CIFF has lexical vectors alone; use the encoder without dense ones"
            )
        impacts = _over(path, read, tokens)
        if scale is None and info.largest_weight:
            scale = calibrate(impacts, MAX_IMPACT, info.largest_weight)
    scale = scale or 1.0
    record = {
        "count": len(read.ids),
        "info": info,
        "scale": scale,
        "max_impact": max(largest, MAX_IMPACT),
        "mean_length": None,
        "bm25": False,
        "faiss": "",
        "passages": None,
        "source": str(path),
        "reading": {},
        "truncated": None,
        "precision": "unknown",
        "kind": "documents",
    }
    notes = [f"{path}: has no texts, so neither bm25 nor snippets"]
    if encoder is None:
        notes[0] += "; without --model (encoder=…), searches take --query-vectors"
    if read.description:
        notes.insert(0, f"{path}: {read.description[:200]}")
    if read.other_totals:
        notes.append(
            f"{path}: for {counted(read.other_totals, 'term')}, the impacts do not sum to the "
            "stated total, which is not used here"
        )

    def batches() -> Iterator[Rows]:
        for start in range(0, len(read.ids), BATCH):
            ids = read.ids[start : start + BATCH]
            found = csr_matrix(impacts[start : start + BATCH])
            weights = (found.data / np.float64(scale)).astype(np.float32)
            lexical = csr_matrix((weights, found.indices, found.indptr), found.shape)
            blank = [""] * len(ids)
            yield Rows(ids, blank, blank, np.zeros((len(ids), 0), np.float32), lexical, blank)

    return Vectors(record, tokens, len(read.ids), batches, notes)


def _over(path: Path, read: Ciff, tokens: list[str]) -> csr_matrix:
    """The impacts with a column for each token of a vocabulary."""
    columns = {term: column for column, term in enumerate(lucene_terms(tokens))}
    unknown = [term for term in read.terms if term not in columns]
    if unknown:
        raise InputError.at(
            path,
            None,
            f"{counted(len(unknown), 'term')} not in the encoder's vocabulary, as {unknown[0]!r}",
            "name the encoder that made the impacts, or leave out --model (encoder=…)",
        )
    places = np.array([columns[term] for term in read.terms], np.int64)
    old = read.impacts
    shape = (old.shape[0], len(tokens))
    moved = csr_matrix((old.data, places[old.indices], old.indptr), shape)
    moved.sort_indices()
    return moved


def _write_encoded(
    folder: Path, source: Path, vectors: Vectors, info: EncoderInfo, progress: Progress
) -> EncodedCorpus:
    record = vectors.record
    with atomic_folder(folder) as temporary, progress("reading vectors", vectors.count) as advance:
        parts = []
        for number, rows in enumerate(vectors.batches()):
            path = temporary / PART.format(number)
            given = Representations(rows.ids, rows.dense, rows.lexical)
            write_part(path, rows.titles, rows.texts, given, "float32", {}, rows.metadata)
            parts.append({"file": path.name, "count": len(rows), "sha256": sha256_file(path)})
            advance(len(rows))
        manifest: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "kind": record["kind"],
            "complete": True,
            "encoder": info.to_dict(),
            "precision": record["precision"],
            "source": record["source"],
            "imported": str(source),
            "reading": record["reading"],
            "truncated": record["truncated"],
            "count": vectors.count,
            "parts": parts,
        }
        if record["passages"] is not None:
            manifest["passages"] = record["passages"].to_dict()
        text = json.dumps(vectors.tokens, indent=0) + "\n"
        (temporary / VOCABULARY).write_text(text, "ascii")
        write_json(temporary / MANIFEST, manifest)
    return EncodedCorpus.open(folder)
