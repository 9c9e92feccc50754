"""Hybrid queries under a filter beside the same queries without one, on the same index.

The filters leave a half, a tenth, a hundredth and a thousandth of the documents, which lie evenly
among the others. The time is from query vectors to ten ids and scores. The peer is our own search
without a filter, so a ratio of 0.5 means that the filter doubles the time. A filter is evaluated
once and then kept; the first use is measured apart, in a row of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks import synthetic
from benchmarks.rows import Row, Sizes, each_in_turn, in_turns, timed
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.records import Document

K = 10
SHARES = (0.5, 0.1, 0.01, 0.001)
#: FAISS spec, and the postings that are held in memory: all, or none, for Lucene.
INDEXES = {"Flat, in memory": ("Flat", 10**12), "HNSW32, Lucene": ("HNSW32", 0)}
_ROUNDS = 3


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """For each index and share: one query at a time, all in a batch, and the first use."""
    rows = []
    for name, (spec, postings) in INDEXES.items():
        path = folder / spec
        encoder = synthetic.Held(sizes.documents)
        HybridIndex.build(
            path, _documents(sizes.documents), encoder, faiss=spec, segment_size=sizes.documents
        ).close()
        with HybridIndex.open(path, encoder, max_postings=postings) as index:
            index.warm()
            for share in SHARES:
                rows += _rows(index, name, share, sizes)
    return rows


def _documents(count: int) -> Iterator[Document]:
    """Documents with a random number from 0 to 1 as their metadata."""
    dice = np.random.default_rng(5).random(count).tolist()
    for document, number in zip(synthetic.documents(count), dice, strict=True):
        yield replace(document, metadata={"number": number})


def _rows(index: HybridIndex, name: str, share: float, sizes: Sizes) -> list[Row]:
    queries = synthetic.query_vectors(sizes.queries)
    singles = [synthetic.one(queries, number) for number in range(sizes.queries)]
    text = f"number < {share}"
    work = f"{name}: {share:g} of {sizes.documents:,} documents"

    def first() -> None:
        index.search_batch(singles[0], K, plain=True, filter=text)

    def filtered(number: int) -> list[str]:
        return index.search_batch(singles[number], K, plain=True, filter=text)[str(number)].ids

    def whole(number: int) -> list[str]:
        return index.search_batch(singles[number], K, plain=True)[str(number)].ids

    whole(0)
    _, once = timed(first)
    (found, _), seconds = each_in_turn(sizes.queries, filtered, whole)
    one = np.median(seconds, axis=1) * 1000
    runs, batch = in_turns(
        _ROUNDS,
        lambda: index.search_batch(queries, K, plain=True, filter=text),
        lambda: index.search_batch(queries, K, plain=True),
    )
    proven = runs[0].metadata["certificate"]["certified"]
    alike = sum(runs[0][str(number)].ids == ids for number, ids in enumerate(found))
    same = f"{proven} of {sizes.queries} proven; {alike} the same alone"
    each = [1000 * each / sizes.queries for each in batch]
    peer = "without a filter"
    return [
        Row(f"{work}, first use", peer, once * 1000, float(one[1]), "–", "ms"),
        Row(f"{work}, one query", peer, float(one[0]), float(one[1]), same, "ms"),
        Row(f"{work}, in a batch", peer, each[0], each[1], same, "ms"),
    ]
