"""Looking through an index for damage: what is missing, what was changed, what does not agree."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.dense import INDEX_FILE, keeps_vectors
from dupmae_toolkit.index.documents import FILE
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.manifest import MANIFEST_FILE, SEGMENTS_FOLDER, Manifest, SegmentEntry
from dupmae_toolkit.index.segment import FAISS_FOLDER, FORWARD_FOLDER, LUCENE_FOLDER, Segment
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.progress import Advance, Progress, silent

_WAY_OUT = "build the index again with --overwrite"


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with one file or folder of an index; ``path`` is relative to the index."""

    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.path}: {self.message}"


def verify_index(
    index: str | Path, deep: bool = True, progress: Progress = silent
) -> list[Problem]:
    """All problems of an index; none in a whole one.

    Always: the manifest is as it was written, every file that it names stands with its size, and
    no other file lies in a segment. ``deep``: checksums too, and in segments whose files are as
    they were written, that the parts agree: the same ids in the same order in FAISS, Lucene and the
    documents, counts, and the score of every document in Lucene equal to that of the forward store
    for a query of all terms with random weights, which sees every posting.
    """
    index = Path(index)
    try:
        manifest = Manifest.load(index)
    except DupMAEError as error:
        return [Problem(MANIFEST_FILE, str(error))]
    problems = list(_missing_and_changed(index, manifest, deep, progress))
    text = json.dumps(manifest.to_dict(), indent=2, ensure_ascii=False) + "\n"
    if (index / MANIFEST_FILE).read_bytes() != text.encode():
        problems.append(Problem(MANIFEST_FILE, "is not as it was written, though it says the same"))
    if not manifest.segments:
        problems.append(Problem(MANIFEST_FILE, "lists no segments"))
    if not deep:
        return problems
    try:
        terms = lucene_terms(manifest.vocabulary(index))
    except DupMAEError as error:
        if not any(problem.path == manifest.vocabulary_file for problem in problems):
            problems.append(Problem(manifest.vocabulary_file, str(error)))
        return problems
    damaged = {problem.path.split("/")[1] for problem in problems if "/" in problem.path}
    seen: dict[str, str] = {}
    with progress("comparing the parts of segments", len(manifest.segments)) as advance:
        for entry in manifest.segments:
            if entry.name not in damaged:
                problems += _disagreements(index, manifest, entry, terms, seen)
            advance(1)
    return problems


def _missing_and_changed(
    index: Path, manifest: Manifest, deep: bool, progress: Progress
) -> Iterator[Problem]:
    for entry in manifest.segments:
        if not manifest.segment_folder(index, entry).is_dir():
            yield Problem(f"{SEGMENTS_FOLDER}/{entry.name}", "is missing")
    if manifest.vocabulary_file not in manifest.checksums:
        yield Problem(MANIFEST_FILE, f"has no checksum of {manifest.vocabulary_file}")
    total = sum(int(entry["bytes"]) for entry in manifest.checksums.values())
    with progress("reading every file" if deep else "looking at files", total) as advance:
        for name, stated in manifest.checksums.items():
            message = _what_is_wrong(index / name, stated, deep, advance)
            if message:
                yield Problem(name, message)
    for entry in manifest.segments:
        folder = manifest.segment_folder(index, entry)
        for path in sorted(folder.rglob("*")):
            name = path.relative_to(index).as_posix()
            if path.is_file() and name not in manifest.checksums:
                yield Problem(name, "is not in the manifest; it was put there later: delete it")
        if entry.deletions and entry.deletions not in manifest.checksums:
            yield Problem(MANIFEST_FILE, f"has no checksum of {entry.deletions}")


def _what_is_wrong(path: Path, entry: dict[str, object], deep: bool, advance: Advance) -> str:
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return f"is missing; {_WAY_OUT}"
    except OSError as error:
        return f"cannot be looked at ({error.strerror})"
    if size != entry["bytes"]:
        return f"has {size:,} bytes instead of {entry['bytes']:,}; {_WAY_OUT}"
    try:
        if deep and sha256_file(path) != entry["sha256"]:
            return f"was changed or damaged (its checksum differs); {_WAY_OUT}"
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    advance(size)
    return ""


def _disagreements(
    index: Path,
    manifest: Manifest,
    entry: SegmentEntry,
    terms: Sequence[str],
    seen: dict[str, str],
) -> list[Problem]:
    """What does not agree in one segment; ``seen`` collects ids with the segment they are in."""
    name = f"{SEGMENTS_FOLDER}/{entry.name}"
    segment = Segment.open(manifest.segment_folder(index, entry), terms)
    problems: list[Problem] = []
    for look in (
        _about_ids(index, segment, entry, seen),
        _about_vectors(segment, manifest, entry),
        _about_impacts(segment, manifest, entry),
    ):
        try:
            for place, message in look:
                problems.append(Problem(f"{name}/{place}", message))
        except DupMAEError as error:
            problems.append(Problem(name, str(error)))
    segment.close()
    return problems


def _about_ids(
    index: Path, segment: Segment, entry: SegmentEntry, seen: dict[str, str]
) -> Iterator[tuple[str, str]]:
    docid, ids = f"{FAISS_FOLDER}/docid", segment.ids
    if len(ids) != entry.count:
        yield docid, f"has {len(ids)} ids; the manifest counts {entry.count}"
    if any(first >= second for first, second in pairwise(ids)):
        yield docid, "the ids are not in their order, or not unique"
    for other, theirs in ((FILE, segment.documents.ids()), (LUCENE_FOLDER, segment.lucene.ids())):
        if theirs != ids:
            row = next(
                (n for n, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b),
                min(len(ids), len(theirs)),
            )
            yield other, f"its ids differ from those of {docid} from row {row} on"
    dead = read_deletions(index, entry)
    gone = set() if dead is None else {ids[row] for row in dead.tolist() if row < len(ids)}
    living = (name for name in ids if name not in gone)
    twice = [name for name in living if seen.setdefault(name, entry.name) != entry.name]
    if twice:
        yield docid, f"the id {twice[0]!r} stands in segment {seen[twice[0]]} already"


def _about_vectors(
    segment: Segment, manifest: Manifest, entry: SegmentEntry
) -> Iterator[tuple[str, str]]:
    spec = manifest.spec_of(entry)
    place = f"{FAISS_FOLDER}/{INDEX_FILE}"
    faiss = segment.faiss
    if len(faiss) != len(segment.ids):
        yield place, f"has {len(faiss)} vectors for {len(segment.ids)} documents"
    if faiss.dimension != manifest.encoder.dense_dim:
        yield (
            place,
            (
                f"has vectors of {faiss.dimension} dimensions; the encoder's have "
                f"{manifest.encoder.dense_dim}"
            ),
        )
    if faiss.exact != keeps_vectors(spec):
        yield place, f"is not of the kind {spec!r} that the manifest names"
    vectors = segment.forward.dense_matrix
    if vectors is None:
        yield FORWARD_FOLDER, "has no dense vectors, and FAISS cannot give them back"
    elif not np.isfinite(vectors).all():
        yield place if faiss.exact else FORWARD_FOLDER, "holds NaN or infinity"


def _about_impacts(
    segment: Segment, manifest: Manifest, entry: SegmentEntry
) -> Iterator[tuple[str, str]]:
    from scipy.sparse import csr_matrix

    impacts, lucene = segment.forward.impacts, segment.lucene
    shape = (len(segment.ids), manifest.encoder.vocabulary_size)
    if impacts.shape != shape or impacts.nnz != entry.weights:
        yield (
            FORWARD_FOLDER,
            (
                f"holds {impacts.nnz} impacts of shape {impacts.shape}; the manifest names "
                f"{entry.weights} of shape {shape}"
            ),
        )
        return
    if impacts.nnz:
        low, high = int(impacts.data.min()), int(impacts.data.max())
        if low < 1 or high > manifest.max_impact:
            yield FORWARD_FOLDER, f"has impacts from {low} to {high}; 1 to {manifest.max_impact}"
        if impacts.indices.min() < 0 or impacts.indices.max() >= shape[1]:
            yield FORWARD_FOLDER, "has terms that are not in the vocabulary"
            return
    if (lucene.segments, len(lucene)) != (1, shape[0]):
        yield (
            LUCENE_FOLDER,
            (f"has {len(lucene)} documents in {lucene.segments} segments, not {shape[0]} in one"),
        )
        return
    random = np.random.default_rng(0).uniform(0.5, 1.5, shape[1])
    weights = round_weights(random, manifest.max_impact)
    expected = (impacts.astype(np.float64) @ weights.astype(np.float64)).astype(np.float32)
    docs, scores = lucene.search(csr_matrix(weights), shape[0])[0]
    found = np.zeros(shape[0], np.float32)
    found[docs] = scores
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        yield (
            LUCENE_FOLDER,
            (
                f"the impacts of {len(wrong)} documents differ from those in {FORWARD_FOLDER}; "
                f"{segment.ids[int(wrong[0])]!r} is the first"
            ),
        )
