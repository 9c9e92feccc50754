"""Compares the parts of a segment, which store much of it twice: ids, impacts, dense vectors."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.index.deletions import read_deletions
from dupmae_toolkit.index.dense import keeps_vectors
from dupmae_toolkit.index.forward import (
    read_dense,
    read_frequencies,
    read_impacts,
    read_lengths,
)
from dupmae_toolkit.index.health.problems import Problem
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.layout import (
    DELETIONS_FOLDER,
    DENSE,
    DOCUMENTS,
    FORWARD_FOLDER,
    IDS,
    IMPACTS,
    LENGTHS,
    LUCENE,
    VECTORS,
)
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.segment import Segment

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


def compare_parts(
    index: Path,
    manifest: Manifest,
    entry: SegmentEntry,
    terms: Sequence[str] | None,
    homes: dict[str, str],
    without: Collection[str] = (),
) -> list[Problem]:
    """The problems of one segment whose files are unchanged.

    terms: without them Lucene's impacts are not compared. homes: the segment of each live id seen
    so far; filled here. without: damaged parts, which are not read.
    """
    segment = Segment.open(index / entry.path, terms)
    comparisons = []
    if IDS not in without:
        comparisons.append(_compare_ids(index, segment, entry, homes, without))
    if VECTORS not in without and DENSE not in without:
        comparisons.append(_compare_vectors(segment, manifest, entry))
    if IMPACTS not in without:
        with_lucene = terms is not None and LUCENE not in without and IDS not in without
        comparisons.append(_compare_impacts(segment, manifest, entry, with_lucene))
    if LENGTHS not in without:
        comparisons.append(_compare_lengths(segment, manifest, entry))
    problems: list[Problem] = []
    for found in comparisons:
        try:
            for part, message in found:
                problems.append(Problem(f"{entry.path}/{part}", message, "apart"))
        except DupMAEError as error:
            problems.append(Problem.of(entry.path, error, "apart"))
    segment.close()
    return problems


def _compare_ids(
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
        yield IDS, "the ids are not in ascending order, or not unique"
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
    if DELETIONS_FOLDER in without:
        return  # no file says which documents are live
    dead = read_deletions(index, entry)
    gone = set() if dead is None else {ids[row] for row in dead.tolist() if row < len(ids)}
    live = (name for name in ids if name not in gone)
    repeated = [name for name in live if homes.setdefault(name, entry.name) != entry.name]
    if repeated:
        yield IDS, f"the id {repeated[0]!r} is already in segment {homes[repeated[0]]}"


def _compare_vectors(
    segment: Segment, manifest: Manifest, entry: SegmentEntry
) -> Iterator[tuple[str, str]]:
    spec, faiss = manifest.spec_of(entry), segment.faiss
    kept = keeps_vectors(spec)
    if len(faiss) != entry.count:
        yield VECTORS, f"has {len(faiss)} vectors for {entry.count} documents"
    if faiss.dimension != manifest.encoder.dense_dim:
        wanted = manifest.encoder.dense_dim
        yield VECTORS, f"has vectors of {faiss.dimension} dimensions; the encoder's have {wanted}"
    if faiss.exact != kept:
        yield VECTORS, f"is not of the kind {spec!r} that the manifest names"
    part = VECTORS if kept else DENSE
    vectors = faiss.vectors() if kept else read_dense(segment.folder / FORWARD_FOLDER)
    if vectors is None or vectors.shape != (len(faiss), faiss.dimension):
        yield part, "does not hold the dense vectors of all documents"
    elif not np.isfinite(vectors).all():
        yield part, "holds NaN or infinity"


def _compare_words(
    segment: Segment, entry: SegmentEntry, impacts: csr_matrix
) -> Iterator[tuple[str, str]]:
    words = segment.words
    if len(words) != entry.words or any(a >= b for a, b in pairwise(words)):
        wanted = f"{entry.words} different ones in order, as the manifest states"
        yield FORWARD_FOLDER, f"has {len(words)} words that are not {wanted}"
    # Read here: the segment's own would open FAISS, which may be damaged.
    frequencies = read_frequencies(segment.folder / FORWARD_FOLDER)
    counted = np.bincount(impacts.indices, minlength=impacts.shape[1])
    if frequencies is not None and not np.array_equal(frequencies, counted):
        yield FORWARD_FOLDER, "states frequencies of terms that are not those of its impacts"


def _compare_lengths(
    segment: Segment, manifest: Manifest, entry: SegmentEntry
) -> Iterator[tuple[str, str]]:
    lengths = read_lengths(segment.folder / FORWARD_FOLDER)
    if lengths is None:
        if manifest.bm25 is not None:
            yield LENGTHS, "is missing"
    elif len(lengths) != entry.count:
        yield LENGTHS, f"has {len(lengths)} lengths for {entry.count} documents"
    elif not entry.dead and int(lengths.sum()) != entry.length:
        wanted = f"the manifest states {entry.length} words in all"
        yield LENGTHS, f"has documents of {int(lengths.sum())}; {wanted}"


def _compare_impacts(
    segment: Segment, manifest: Manifest, entry: SegmentEntry, with_lucene: bool
) -> Iterator[tuple[str, str]]:
    from scipy.sparse import csr_matrix

    impacts = read_impacts(segment.folder / FORWARD_FOLDER)
    shape = (entry.count, manifest.encoder.vocabulary_size + entry.words)
    if impacts.shape != shape or impacts.nnz != entry.postings:
        wanted = f"the manifest states {entry.postings} of shape {shape}"
        yield FORWARD_FOLDER, f"holds {impacts.nnz} impacts of shape {impacts.shape}; {wanted}"
        return
    if impacts.nnz:
        low, high = int(impacts.data.min()), int(impacts.data.max())
        if low < 1 or high > manifest.max_impact:
            wanted = f"the manifest allows 1 to {manifest.max_impact}"
            yield FORWARD_FOLDER, f"has impacts from {low} to {high}; {wanted}"
        if impacts.indices.min() < 0 or impacts.indices.max() >= shape[1]:
            yield FORWARD_FOLDER, "has terms that are not in the vocabulary"
            return
    yield from _compare_words(segment, entry, impacts)
    if not with_lucene:
        return
    lucene = segment.lucene
    if (lucene.segments, len(lucene)) != (1, shape[0]):
        held = f"{len(lucene)} documents in {lucene.segments} segments"
        yield LUCENE, f"has {held}, not {shape[0]} in one"
        return
    # A query of all terms gives each document a score that depends on all its impacts.
    random = np.random.default_rng(0).uniform(0.5, 1.5, shape[1])
    weights = round_weights(random, manifest.max_impact)
    expected = (impacts.astype(np.float64) @ weights.astype(np.float64)).astype(np.float32)
    docs, scores = lucene.search(csr_matrix(weights), shape[0])[0]
    found = np.zeros(shape[0], np.float32)
    found[docs] = scores
    wrong = np.flatnonzero(found != expected)
    if len(wrong):
        first = segment.ids[int(wrong[0])]
        message = f"the impacts of {len(wrong)} documents differ from those in {FORWARD_FOLDER}"
        yield LUCENE, f"{message}; {first!r} is the first"
