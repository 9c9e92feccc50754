"""An index that grows by small additions: their cost, and the cost of searching afterwards.

A tenth of n documents are added to n, one at a time and, in a copy, ten at a time. Vectors are made
beforehand. Each addition is flushed to disk before it counts as done. Then single queries search
the index before and after the additions, compacted, and one built from all documents at once.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.one_query import qdrant_shard, qdrant_upsert
from benchmarks.rows import Row, Sizes, against, each_in_turn, timed
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.merging import FAN
from dupmae_toolkit.index.updates import add_corpus, compact_index
from dupmae_toolkit.records import Document, Representations

DEPTHS = (10, 100)
MODES = ("dense", "lexical", "hybrid")


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Rows for an addition, for documents rewritten by merging, and for a query in each mode."""
    count = sizes.documents
    added = max(count // 10, 1)
    encoder = synthetic.Held(count + added)
    documents = list(synthetic.documents(count + added))
    grown = folder / "grown"
    HybridIndex.build(grown, documents[:count], encoder).close()
    shutil.copytree(grown, folder / "tens")
    before = HybridIndex.open(grown)
    ones = add_in_pieces(grown, documents[count:], encoder, 1)
    tens = add_in_pieces(folder / "tens", documents[count:], encoder, 10)
    rows = []
    for size, measured in ((1, ones), (10, tens)):
        rows += _additions(folder / f"qdrant-{size}", encoder.vectors, count, size, measured)
    rows += [_rewritten(size, count, measured) for size, measured in ((1, ones), (10, tens))]
    after = HybridIndex.open(grown)
    compact_index(grown)
    at_once = HybridIndex.build(folder / "at-once", documents, encoder)
    states = {
        "before": before,
        "after": after,
        "compacted": HybridIndex.open(grown),
        "at once": at_once,
    }
    queries = synthetic.query_vectors(sizes.queries)
    for mode in MODES:
        for k in DEPTHS:
            rows.append(_searches(states, queries, mode, k, added))
    for index in states.values():
        index.close()
    return rows


def add_in_pieces(
    index: Path, documents: list[Document], encoder: Any, size: int
) -> dict[str, float]:
    """Add documents, ``size`` at a time; returns seconds and how many documents were rewritten."""
    seconds, rewritten = [], 0
    for first in range(0, len(documents), size):
        piece = documents[first : first + size]
        done, took = timed(lambda piece=piece: add_corpus(index, piece, encoder))
        seconds.append(took)
        rewritten += done.merged
    return {
        "additions": len(seconds),
        "added": len(documents),
        "seconds": sum(seconds),
        "median_s": float(np.median(seconds)),
        "p95_s": float(np.percentile(seconds, 95)),
        "rewritten": rewritten,
        "segments": len(Manifest.load(index).segments),
    }


def _additions(
    folder: Path, vectors: Representations, count: int, size: int, ours: dict[str, float]
) -> list[Row]:
    """A row for the mean time of an addition, against an upsert that is flushed."""
    work = f"an addition of {size} to {count:,} documents, mean of {ours['additions']:,}"
    mean = ours["seconds"] / ours["additions"]
    same = (
        f"{1 / mean:,.1f} a second; median {ours['median_s'] * 1000:,.0f}, "
        f"p95 {ours['p95_s'] * 1000:,.0f} ms"
    )

    def peer() -> Row:
        first = Representations(vectors.ids[:count], vectors.dense[:count], vectors.lexical[:count])
        shard, qdrant = qdrant_shard(first, folder)
        seconds = 0.0
        for start in range(count, len(vectors), size):
            rows = range(start, min(start + size, len(vectors)))

            def upsert(rows: range = rows) -> None:
                qdrant_upsert(shard, qdrant, vectors, rows)
                shard.flush()

            seconds += timed(upsert)[1]
        theirs = seconds / ours["additions"] * 1000
        return Row(work, "qdrant-edge-py", mean * 1000, theirs, same, "ms", details=ours)

    rows = against(work, "qdrant-edge-py", peer)
    if rows[0].ours is None:
        rows = [Row(work, "–", mean * 1000, None, f"{same}; {rows[0].same}", "ms", details=ours)]
    return rows


def _rewritten(size: int, count: int, ours: dict[str, float]) -> Row:
    """Documents rewritten for each one added, against the number of tiers it can pass through."""
    each = ours["rewritten"] / ours["added"]
    tiers = math.log(count + ours["added"], FAN) + 1
    work = f"documents rewritten for each one added, by {size}"
    same = f"{ours['segments']:,.0f} segments after {ours['additions']:,.0f} additions"
    return Row(work, f"log to the base {FAN} of all, and 1", each, tiers, same, "", details=ours)


def _searches(
    states: dict[str, HybridIndex], queries: Representations, mode: str, k: int, added: int
) -> Row:
    """The median time of a query after the additions, against the index built at once."""

    def asking(index: HybridIndex) -> Callable[[int], Any]:
        return lambda number: index.search_batch(
            synthetic.one(queries, number), k, mode, plain=True
        )

    found, seconds = each_in_turn(len(queries), *map(asking, states.values()))
    runs = dict(zip(states, found, strict=True))
    medians = dict(zip(states, np.median(seconds, axis=1) * 1000, strict=True))
    agree = {
        state: sum(
            _same(mine[str(n)], theirs[str(n)])
            for n, (mine, theirs) in enumerate(zip(runs[state], runs["at once"], strict=True))
        )
        for state in ("after", "compacted")
    }
    same = (
        f"the same ids and scores for {agree['after']} and, compacted, {agree['compacted']} of "
        f"{len(queries)}; before {medians['before']:.3g}, compacted {medians['compacted']:.3g} ms"
    )
    segments = len(states["after"].manifest.segments)
    work = f"one {mode} query, k = {k}, after {added:,} additions, {segments} segments"
    details = {name: float(value) for name, value in medians.items()}
    mine, theirs = details["after"], details["at once"]
    return Row(work, "built at once", mine, theirs, same, "ms", details=details)


def _same(mine: Any, theirs: Any) -> bool:
    return mine.ids == theirs.ids and np.array_equal(mine.scores, theirs.scores)
