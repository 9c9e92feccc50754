"""Chooses the segments to merge, and merges them.

A segment's tier is the logarithm of its size to the base ``FAN``. Once a tier holds ``FAN``
segments, they are merged into one of a higher tier. So a tier always has fewer than ``FAN``, and
each document is rewritten about log(index size) times. A segment with more than half of its
documents deleted is rewritten. One larger than half of ``segment_size`` is not merged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dupmae_toolkit.index.impacts import QuantizationError
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry
from dupmae_toolkit.index.rows import Errors, regrouped
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
    """The positions of the segments to merge next; none if nothing is due.

    A single position means that more than half of that segment's documents are deleted: it is
    rewritten alone.
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
    """The smallest members that fit into one segment: at least two, since none exceeds size / 2."""
    chosen: list[int] = []
    total = 0
    for number in sorted(members, key=lambda n: (segments[n].live, n)):
        if total + segments[number].live > size and len(chosen) > 1:
            break
        chosen.append(number)
        total += segments[number].live
    return chosen


def new_segments(
    state: State,
    group: Sequence[int],
    size: int,
    progress: Progress = silent,
    recount: bool = False,
) -> list[SegmentEntry]:
    """Write the live documents of the segments in ``group`` as new segments of up to ``size``.

    recount: count the words of the texts again, and weigh them by the manifest's BM25. One new
    segment and one old one are in memory at a time.
    """
    old = [state.manifest.segments[number] for number in group]
    error = sum((entry.error for entry in old), QuantizationError())
    word_error = sum((entry.word_error for entry in old), QuantizationError())
    manifest = state.manifest
    entries = []
    with progress("merging", sum(entry.live for entry in old)) as advance:
        for rows in regrouped(map(state.rows, group), size):
            tokens = error.of_some(rows.lexical.nnz)
            if recount:
                rows.count_words()
                words = rows.weigh(manifest.max_impact, manifest.bm25, manifest.pruning)
            else:
                words = word_error.of_some(rows.words.impacts.nnz if rows.words else 0)
            entries.append(state.write(rows.sorted(), Errors(tokens, words), progress))
            advance(len(rows))
    return entries
