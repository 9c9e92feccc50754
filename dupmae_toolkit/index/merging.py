"""Which segments are merged when, and how.

A segment's tier is the logarithm of its size to the base ``FAN``. Where a tier has ``FAN``
segments they become one, of the next tier or so. A document is therefore rewritten once in each
tier that it passes, a logarithm of the index's size, and there are fewer than ``FAN`` segments in
each. A segment most of whose documents are deleted is rewritten too. Segments of the size that the
index was built with are left alone.
"""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.index.impacts import QuantizationError
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.rows import Rows
from dupmae_toolkit.progress import Progress, silent

if TYPE_CHECKING:
    from dupmae_toolkit.index.state import State

FAN = 4


def tier_of(documents: int) -> int:
    """⌊log_FAN⌋ of a number of documents; 0 for none."""
    tier = 0
    while documents >= FAN:
        documents //= FAN
        tier += 1
    return tier


def due(manifest: Manifest) -> list[int]:
    """The segments to merge next, by position; none where all is well.

    A single one is rewritten alone: more than half of it is dead.
    """
    segments = manifest.segments
    for number, entry in enumerate(segments):
        if entry.live and entry.dead > entry.live:
            return [number]
    tiers: dict[int, list[int]] = {}
    for number, entry in enumerate(segments):
        if 2 * entry.live <= manifest.segment_size:
            tiers.setdefault(tier_of(entry.live), []).append(number)
    for _, members in sorted(tiers.items()):
        if len(members) >= FAN:
            return _within(members, segments, manifest.segment_size)
    return []


def _within(members: list[int], segments: list[SegmentEntry], size: int) -> list[int]:
    """The smallest of them that together are one segment; at least two fit, half a segment each."""
    chosen: list[int] = []
    total = 0
    for number in sorted(members, key=lambda n: (segments[n].live, n)):
        if total + segments[number].live > size and len(chosen) > 1:
            break
        chosen.append(number)
        total += segments[number].live
    return chosen


def new_segments(
    state: State, group: list[int], size: int, progress: Progress = silent
) -> tuple[list[SegmentEntry], dict[str, dict[str, Any]]]:
    """Segments of up to ``size`` documents from the living ones of others, and their checksums.

    One new segment, and one old one, is in memory at a time.
    """
    entries: list[SegmentEntry] = []
    sums: dict[str, dict[str, Any]] = {}
    old = [state.manifest.segments[number] for number in group]
    error = sum((entry.error for entry in old), QuantizationError())
    total = sum(entry.live for entry in old)
    pieces: list[Rows] = []
    held = 0
    with progress("merging", total) as advance:
        for number in group:
            rows = state.rows(number)
            start = 0
            while start < len(rows.ids):
                stop = min(len(rows.ids), start + size - held)
                pieces.append(_part(rows, start, stop))
                held += stop - start
                start = stop
                if held == size:
                    _write(state, pieces, error, entries, sums, progress)
                    advance(held)
                    pieces, held = [], 0
        if pieces:
            _write(state, pieces, error, entries, sums, progress)
            advance(held)
    return entries, sums


def _write(
    state: State,
    pieces: list[Rows],
    error: QuantizationError,
    entries: list[SegmentEntry],
    sums: dict[str, dict[str, Any]],
    progress: Progress,
) -> None:
    from scipy.sparse import csr_matrix, vstack

    rows = Rows(
        [name for piece in pieces for name in piece.ids],
        [title for piece in pieces for title in piece.titles],
        [text for piece in pieces for text in piece.texts],
        np.concatenate([piece.dense for piece in pieces]),
        csr_matrix(vstack([piece.lexical for piece in pieces], format="csr")),
    ).sorted()
    # The weights are gone, and what each of them lost with them: the mean is that of all.
    share = rows.lexical.nnz / error.weights if error.weights else 0.0
    own = dataclasses.replace(
        error,
        weights=int(rows.lexical.nnz),
        clipped=round(error.clipped * share),
        raised=round(error.raised * share),
    )
    entry, checksums = state.write(rows, own, progress)
    entries.append(entry)
    sums |= checksums


def _part(rows: Rows, start: int, stop: int) -> Rows:
    piece = slice(start, stop)
    return Rows(
        rows.ids[piece],
        rows.titles[piece],
        rows.texts[piece],
        rows.dense[piece],
        rows.lexical[piece],
    )
