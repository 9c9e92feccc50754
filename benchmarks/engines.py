"""The lexical leg, exact, against an approximate engine (Seismic) and scipy's matrix product."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks.collection import Collection, sample, share_of_best
from benchmarks.rows import Row, Sizes, against, in_turns, peer_import, timed

K = 10
DEEP = 1000
RECALL = 0.99
#: Seismic's query_cut (terms of a query that it uses) and heap_factor; the fastest first.
SETTINGS = ((5, 0.9), (8, 0.9), (10, 0.9), (15, 0.9), (20, 0.95), (30, 1.0), (100, 1.0))
#: Queries that scipy multiplies at once; their scores with all documents are in memory.
_BLOCK = 64

Found = list[tuple[np.ndarray, np.ndarray]]


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Rows for Seismic at k = 10 and for scipy at k = 10 and k = 1,000."""
    collection = Collection.build(folder, sizes.documents, sizes.queries)
    rows = []
    size = f"{sizes.queries:,} queries, {sizes.documents:,} documents"
    work = f"lexical leg, exact, k = {K}, {size}"
    rows += against(work, "pyseismic-lsr", lambda: _seismic(collection, work))
    for k in (K, min(DEEP, sizes.documents)):
        work = f"lexical leg, exact, k = {k:,}, {size}"
        rows += against(work, "scipy CSR", lambda k=k, w=work: _scipy(collection, w, k))
    return rows


def ours(collection: Collection, k: int) -> Any:
    """A lexical run: exact scores, ties by id."""
    return collection.index.search_batch(collection.queries, k, mode="lexical", depth=k, plain=True)


def recall(collection: Collection, found: list[np.ndarray], k: int) -> float:
    """The mean share of the exact top ``k`` among the rows found for each query."""
    numbers = sample(len(found), 200)
    shares = []
    for number in numbers:
        exact = collection.overlaps(number)
        possible = min(k, int(np.count_nonzero(exact)))
        if possible:
            shares.append(share_of_best(exact, found[number], possible))
    return float(np.mean(shares))


def _rows(collection: Collection, run: Any) -> list[np.ndarray]:
    return [collection.rows(run[topic].ids) for topic in collection.queries.ids]


def _scipy(collection: Collection, work: str, k: int) -> Row:
    documents = csr_matrix(collection.vectors.lexical.T)
    queries = collection.queries.lexical
    ours(collection, k)
    (run, found), (ours_s, theirs_s) = in_turns(
        2, lambda: ours(collection, k), lambda: by_product(queries, documents, k)
    )
    scale = collection.index.manifest.scale
    equal = sum(
        np.allclose(run[topic].scores.astype(np.float64) * scale, scores, rtol=1e-6)
        for topic, (_, scores) in zip(collection.queries.ids, found, strict=True)
    )
    same = f"the same scores for {equal} of {len(found)}"
    return Row(work, "scipy CSR, one thread", ours_s, theirs_s, same)


def by_product(queries: csr_matrix, documents: csr_matrix, k: int) -> Found:
    """The best ``k`` rows of each query with scores above 0, by a full matrix product.

    queries: float32 CSR [q, |V|]. documents: float32 CSR [|V|, n], a row for each term.
    """
    found: Found = []
    for first in range(0, queries.shape[0], _BLOCK):
        for scores in (queries[first : first + _BLOCK] @ documents).toarray():
            cut = len(scores) - min(k, len(scores))
            best = np.argpartition(scores, cut)[cut:]
            best = best[np.lexsort((best, -scores[best]))]
            best = best[scores[best] > 0]
            found.append((best, scores[best]))
    return found


def _seismic(collection: Collection, work: str) -> Row:
    with peer_import("pyseismic-lsr"):
        import seismic
    matrix = collection.vectors.lexical
    data = seismic.SeismicDataset()
    data.add_documents_by_id(
        collection.vectors.ids,
        matrix.indices.astype(np.int64),
        matrix.data.astype(np.float32),
        matrix.indptr.astype(np.int64),
    )
    index, build_s = timed(lambda: seismic.SeismicIndex.build_from_dataset(data))
    kind = seismic.get_seismic_string()
    queries = collection.queries
    bounds = list(pairwise(queries.lexical.indptr.tolist()))
    components = [queries.lexical.indices[a:b].astype(str).astype(kind) for a, b in bounds]
    values = [queries.lexical.data[a:b].astype(np.float32) for a, b in bounds]
    names = np.array(queries.ids, dtype=kind)

    def theirs(cut: int, factor: float) -> Any:
        return index.batch_search(names, components, values, k=K, query_cut=cut, heap_factor=factor)

    reached, tried = 0.0, []
    for cut, factor in SETTINGS:
        reached = recall(collection, _seismic_rows(collection, theirs(cut, factor)), K)
        tried.append({"query_cut": cut, "heap_factor": factor, "recall": reached})
        if reached >= RECALL:
            break
    ours(collection, K)
    (run, _), (ours_s, theirs_s) = in_turns(
        3, lambda: ours(collection, K), lambda: theirs(cut, factor)
    )
    mine = recall(collection, _rows(collection, run), K)
    same = f"recall of ours {mine:.3f}, of the peer {reached:.3f} at cut {cut}, factor {factor}"
    if reached < RECALL:
        same += f": it does not reach {RECALL}"
    details = {"settings": tried, "peer_build_s": build_s}
    return Row(work, "pyseismic-lsr", ours_s, theirs_s, same, details=details)


def _seismic_rows(collection: Collection, found: list[list[tuple]]) -> list[np.ndarray]:
    """Rows by query. Results are matched by name, since a query without hits returns no name."""
    by_name = {hits[0][0]: [hit[2] for hit in hits] for hits in found if hits}
    return [collection.rows(by_name.get(topic, [])) for topic in collection.queries.ids]
