"""Whether the parts of a segment agree: they hold much twice, and must hold the same."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.dense import keeps_vectors
from dupmae_toolkit.index.forward import read_dense, read_impacts
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.manifest import SEGMENTS_FOLDER, Manifest, SegmentEntry
from dupmae_toolkit.index.problems import (
    DELETIONS,
    DENSE,
    DOCUMENTS,
    IDS,
    IMPACTS,
    LUCENE,
    VECTORS,
    Problem,
)
from dupmae_toolkit.index.segment import FORWARD_FOLDER, Segment


def compare_parts(
    index: Path,
    manifest: Manifest,
    entry: SegmentEntry,
    terms: Sequence[str] | None,
    homes: dict[str, str],
    without: Collection[str] = (),
) -> list[Problem]:
    """What does not agree in one segment.

    homes: of each living id the segment that it was first seen in; filled here. without: parts that
    are damaged, of which nothing is read; terms: None if they are not to be had, and Lucene's
    impacts stay unseen.
    """
    name = f"{SEGMENTS_FOLDER}/{entry.name}"
    segment = Segment.open(manifest.segment_folder(index, entry), terms)
    looks = []
    if IDS not in without:
        looks.append(_about_ids(index, segment, entry, homes, without))
    if VECTORS not in without and DENSE not in without:
        looks.append(_about_vectors(segment, manifest, entry))
    if IMPACTS not in without:
        seen = terms is not None and LUCENE not in without and IDS not in without
        looks.append(_about_impacts(segment, manifest, entry, seen))
    problems: list[Problem] = []
    for look in looks:
        try:
            for place, message in look:
                problems.append(Problem(f"{name}/{place}", message, "apart"))
        except DupMAEError as error:
            problems.append(Problem.of(name, error, "apart"))
    segment.close()
    return problems


def _about_ids(
    index: Path,
    segment: Segment,
    entry: SegmentEntry,
    homes: dict[str, str],
    without: Collection[str],
) -> Iterator[tuple[str, str]]:
    ids = segment.ids
    if len(ids) != entry.count:
        yield IDS, f"has {len(ids)} ids; the manifest counts {entry.count}"
    if any(first >= second for first, second in pairwise(ids)):
        yield IDS, "the ids are not in their order, or not unique"
    for other in (DOCUMENTS, LUCENE):
        if other in without:
            continue
        theirs = segment.documents.ids() if other == DOCUMENTS else segment.lucene.ids()
        if theirs != ids:
            row = next(
                (n for n, (a, b) in enumerate(zip(ids, theirs, strict=False)) if a != b),
                min(len(ids), len(theirs)),
            )
            yield other, f"its ids differ from those of {IDS} from row {row} on"
    if DELETIONS in without:
        return  # who lives is not known
    dead = read_deletions(index, entry)
    gone = set() if dead is None else {ids[row] for row in dead.tolist() if row < len(ids)}
    living = (name for name in ids if name not in gone)
    twice = [name for name in living if homes.setdefault(name, entry.name) != entry.name]
    if twice:
        yield IDS, f"the id {twice[0]!r} stands in segment {homes[twice[0]]} already"


def _about_vectors(
    segment: Segment, manifest: Manifest, entry: SegmentEntry
) -> Iterator[tuple[str, str]]:
    spec, faiss = manifest.spec_of(entry), segment.faiss
    kept = keeps_vectors(spec)
    if len(faiss) != entry.count:
        yield VECTORS, f"has {len(faiss)} vectors for {entry.count} documents"
    if faiss.dimension != manifest.encoder.dense_dim:
        yield (
            VECTORS,
            (
                f"has vectors of {faiss.dimension} dimensions; the encoder's have "
                f"{manifest.encoder.dense_dim}"
            ),
        )
    if faiss.exact != kept:
        yield VECTORS, f"is not of the kind {spec!r} that the manifest names"
    place = VECTORS if kept else DENSE
    vectors = faiss.vectors() if kept else read_dense(segment.folder / FORWARD_FOLDER)
    if vectors is None or vectors.shape != (len(faiss), faiss.dimension):
        yield place, "does not hold the dense vectors of all documents"
    elif not np.isfinite(vectors).all():
        yield place, "holds NaN or infinity"


def _about_impacts(
    segment: Segment, manifest: Manifest, entry: SegmentEntry, with_lucene: bool
) -> Iterator[tuple[str, str]]:
    from scipy.sparse import csr_matrix

    impacts = read_impacts(segment.folder / FORWARD_FOLDER)
    shape = (entry.count, manifest.encoder.vocabulary_size)
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
    if not with_lucene:
        return
    lucene = segment.lucene
    if (lucene.segments, len(lucene)) != (1, shape[0]):
        yield (
            LUCENE,
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
            LUCENE,
            (
                f"the impacts of {len(wrong)} documents differ from those in {FORWARD_FOLDER}; "
                f"{segment.ids[int(wrong[0])]!r} is the first"
            ),
        )
