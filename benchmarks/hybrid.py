"""Hybrid search of many queries, against Pyserini's HybridSearcher over the same two folders."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from benchmarks.collection import Collection, quality, stock_hybrid
from benchmarks.rows import Row, Sizes, against, in_turns
from dupmae_toolkit.records import Ranking

K = 1000


def measure(folder: Path, sizes: Sizes, k: int = K) -> list[Row]:
    """One row: all queries at once, from their vectors to ranked ids and scores.

    If one leg did not return a document, the peer gives it that leg's lowest score; ours computes
    it. Both use the same weights, and both are compared with a computation over all documents.
    """
    collection = Collection.build(folder, sizes.documents, sizes.queries)
    k = min(k, sizes.documents)
    work = f"hybrid, {sizes.queries:,} queries, k = {k:,}, {sizes.documents:,} documents"
    return against(work, "HybridSearcher.batch_search", lambda: _row(collection, work, k))


def _row(collection: Collection, work: str, k: int) -> Row:
    peer = stock_hybrid(collection)
    names = collection.queries.ids
    w_dense, w_lexical = collection.weights
    threads = os.cpu_count() or 1

    def ours():
        return collection.index.search_batch(collection.queries, k, plain=True)

    def theirs():
        return peer.batch_search(
            names, names, k0=k, k=k, threads=threads, alpha=w_lexical / w_dense
        )

    collection.index.search_batch(collection.one(0), k, plain=True)
    peer.batch_search(names[:1], names[:1], k0=k, k=k, alpha=w_lexical / w_dense)
    (run, hits), (ours_s, theirs_s) = in_turns(2, ours, theirs)
    rankings = {
        topic: Ranking(
            [hit.docid for hit in found],
            np.array([hit.score for hit in found], np.float64) * w_dense,
        )
        for topic, found in hits.items()
    }
    mine, stock = quality(collection, run.topics, k), quality(collection, rankings, k)
    same = (
        f"of the exact top {k:,}: ours {mine[0]:.4f}, peer {stock[0]:.4f}; "
        f"scores right: {mine[1]:.1%} and {stock[1]:.1%}"
    )
    certified = run.metadata["certificate"]["certified"]
    details = {
        "certified": certified,
        "ours": {"share_of_exact": mine[0], "scores_right": mine[1]},
        "peer": {"share_of_exact": stock[0], "scores_right": stock[1]},
    }
    return Row(work, "HybridSearcher.batch_search", ours_s, theirs_s, same, details=details)
