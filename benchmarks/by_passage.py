"""Documents found by their passages, beside a plain index of the same passages as documents.

Each document has ten passages. The time is from query vectors to ten ids and scores. The peer finds
ten passages, ours ten documents by their best passage or by their three best; a ratio of 0.5 means
that ranking documents takes twice the time.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks import synthetic
from benchmarks.rows import Row, Sizes, each_in_turn, in_turns
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.records import Document

K, EACH = 10, 10
#: FAISS spec, and the postings that are held in memory: all, or none, for Lucene.
INDEXES = {"Flat, in memory": ("Flat", 10**12), "HNSW32, Lucene": ("HNSW32", 0)}
#: Passages of which the peer's documents are made, to compare the results.
_DEEP = 1000
_ROUNDS = 3


class Numbers(synthetic.Held):
    """Encodes the text "17" as number 17; the numbers in a text are its tokens."""

    def token_offsets(self, text: str) -> Iterator[tuple[int, int, int]]:
        end = 0
        for number in text.split():
            start = text.index(number, end)
            end = start + len(number)
            yield 0, start, end


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """For each index and way to rank documents: one query at a time, and all in a batch."""
    rows = []
    count = -(-sizes.documents // EACH) * EACH
    encoder = Numbers(count)
    for name, (spec, postings) in INDEXES.items():
        paths = folder / f"{spec}-passages", folder / spec
        how = {"faiss": spec, "segment_size": count, "bm25": False}
        HybridIndex.build(
            paths[0], _documents(count), encoder, passages=1, overlap=0, **how
        ).close()
        HybridIndex.build(paths[1], synthetic.documents(count), encoder, **how).close()
        with (
            HybridIndex.open(paths[0], encoder, max_postings=postings) as ours,
            HybridIndex.open(paths[1], encoder, max_postings=postings) as plain,
        ):
            ours.warm()
            plain.warm()
            for aggregate in ("max", "sum3"):
                rows += _rows(ours, plain, f"{name}, {aggregate}", aggregate, count, sizes.queries)
    return rows


def _documents(count: int) -> Iterator[Document]:
    for first in range(0, count, EACH):
        text = " ".join(map(str, range(first, first + EACH)))
        yield Document(f"d{first // EACH:08}", "", text)


def _rows(
    ours: HybridIndex, plain: HybridIndex, name: str, aggregate: str, count: int, queries: int
) -> list[Row]:
    batch = synthetic.query_vectors(queries)
    singles = [synthetic.one(batch, number) for number in range(queries)]

    def by_document(number: int) -> list[str]:
        run = ours.search_batch(singles[number], K, plain=True, aggregate=aggregate)
        return run[str(number)].ids

    def by_row(number: int) -> list[str]:
        return plain.search_batch(singles[number], K, plain=True)[str(number)].ids

    by_document(0), by_row(0)
    (found, _), seconds = each_in_turn(queries, by_document, by_row)
    one = np.median(seconds, axis=1) * 1000
    runs, both = in_turns(
        _ROUNDS,
        lambda: ours.search_batch(batch, K, plain=True, aggregate=aggregate),
        lambda: plain.search_batch(batch, K, plain=True),
    )
    proven = runs[0].metadata["certificate"]["certified"]
    same = f"{proven} of {queries} proven"
    if aggregate == "max":
        deep = plain.search_batch(batch, min(_DEEP, count), plain=True)
        alike = sum(_grouped(deep[str(n)].ids) == ids for n, ids in enumerate(found))
        same += f"; {alike} as the peer's passages, grouped"
    each = [1000 * seconds / queries for seconds in both]
    work, peer = f"{name}: {count:,} passages", "a plain index of them"
    return [
        Row(f"{work}, one query", peer, float(one[0]), float(one[1]), same, "ms"),
        Row(f"{work}, in a batch", peer, each[0], each[1], same, "ms"),
    ]


def _grouped(ids: list[str]) -> list[str]:
    """The first documents of a ranking of passages."""
    return list(dict.fromkeys(f"d{int(name[1:]) // EACH:08}" for name in ids))[:K]
