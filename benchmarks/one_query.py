"""One hybrid query at a time, warm, against embedded engines: Pyserini, milvus-lite, Qdrant Edge.

The time is from query vectors to ten ids and scores. Against Pyserini both sides sum weighted
scores. Milvus squashes scores before it weights them, and Qdrant has no weighted sum of inner
products. Against these two, both sides fuse by reciprocal ranks, 1 / (60 + rank), over the first
hundred of each leg. The peers use their default indexes.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.collection import Collection, share_of_best, stock_hybrid
from benchmarks.rows import Row, Sizes, against, each_in_turn, peer_import, percentiles

if TYPE_CHECKING:
    from dupmae_toolkit.records import Representations

K, DEPTH, RRF_K = 10, 100, 60
#: Documents that an engine gets at once.
_BATCH = 1000

#: A query's number -> the documents' numbers, best first.
Search = Callable[[int], list[int]]


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """A row for each peer: medians over the queries, which both sides answer in turns."""
    collection = Collection.build(folder, sizes.documents, sizes.queries)
    collection.index.warm()
    peers: dict[str, tuple[Callable[[Collection, Path], Search], str]] = {
        "pyserini": (_pyserini, "sum"),
        "milvus-lite": (_milvus, "rrf"),
        "qdrant-edge-py": (_qdrant, "rrf"),
    }
    rows = []
    for name, (start, fusion) in peers.items():
        work = f"one hybrid query, {fusion}, k = {K}, {sizes.documents:,} documents"

        def row(name: str = name, start: Any = start, fusion: str = fusion, work: str = work):
            return _row(collection, work, name, start(collection, folder / name), fusion)

        rows += against(work, name, row)
    return rows


def _row(collection: Collection, work: str, peer: str, search: Search, fusion: str) -> Row:
    count = len(collection.queries)
    queries = [collection.one(number) for number in range(count)]

    def ours(number: int) -> list[int]:
        query = queries[number]
        run = collection.index.search_batch(query, K, fusion=fusion, depth=DEPTH, plain=True)
        return collection.rows(run[query.ids[0]].ids).tolist()

    (mine, theirs), seconds = each_in_turn(count, ours, search)
    judge = collection.scores if fusion == "sum" else lambda n: reciprocal(collection, n)
    exact = [judge(number) for number in range(count)]
    shares = [
        float(
            np.mean([share_of_best(e, np.array(f), K) for e, f in zip(exact, found, strict=True)])
        )
        for found in (mine, theirs)
    ]
    spread = [percentiles(times) for times in seconds]
    same = (
        f"of the exact top {K}: ours {shares[0]:.3f}, peer {shares[1]:.3f}; "
        f"p95 {spread[0]['p95_ms']:.3g} and {spread[1]['p95_ms']:.3g} ms"
    )
    medians = np.median(seconds, axis=1) * 1000
    details = {"ours": spread[0], "peer": spread[1], "share_of_exact": shares}
    return Row(work, peer, float(medians[0]), float(medians[1]), same, "ms", details)


def reciprocal(collection: Collection, number: int) -> np.ndarray:
    """Σ 1 / (60 + rank) over the exact first hundred of each leg, float64 [n]; ties by number."""
    inner = collection.vectors.dense.astype(np.float64) @ collection.queries.dense[number]
    fused = np.zeros(len(inner))
    for scores in (inner, collection.overlaps(number)):
        order = np.argsort(-scores, kind="stable")[:DEPTH]
        order = order[scores[order] > 0] if scores is not inner else order
        fused[order] += 1 / (RRF_K + np.arange(1, len(order) + 1))
    return fused


def _pyserini(collection: Collection, folder: Path) -> Search:
    peer = stock_hybrid(collection)
    w_dense, w_lexical = collection.weights

    def search(number: int) -> list[int]:
        hits = peer.search(str(number), k0=DEPTH, k=K, alpha=w_lexical / w_dense)
        return collection.rows([hit.docid for hit in hits]).tolist()

    return search


def sparse_dicts(matrix: Any) -> list[dict[int, float]]:
    """The rows of a CSR matrix as mappings from term to weight."""
    bounds = matrix.indptr.tolist()
    indices, data = matrix.indices.tolist(), matrix.data.tolist()
    return [dict(zip(indices[a:b], data[a:b], strict=True)) for a, b in pairwise(bounds)]


def _milvus(collection: Collection, folder: Path) -> Search:
    with peer_import("milvus-lite"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import milvus_lite  # noqa: F401
        from pymilvus import AnnSearchRequest, DataType, MilvusClient, RRFRanker
    # Its server logs at length what it does not implement and does not need.
    logging.getLogger("grpc._server").setLevel(logging.CRITICAL)
    folder.mkdir(parents=True, exist_ok=True)
    client = MilvusClient(str(folder / "milvus.db"))
    schema = client.create_schema(auto_id=False)
    schema.add_field("id", DataType.INT64, is_primary=True)
    schema.add_field("dense", DataType.FLOAT_VECTOR, dim=collection.vectors.dense.shape[1])
    schema.add_field("lexical", DataType.SPARSE_FLOAT_VECTOR)
    params = client.prepare_index_params()
    params.add_index("dense", index_type="AUTOINDEX", metric_type="IP")
    params.add_index("lexical", index_type="SPARSE_INVERTED_INDEX", metric_type="IP")
    client.create_collection("peer", schema=schema, index_params=params)
    vectors, lexical = collection.vectors.dense, sparse_dicts(collection.vectors.lexical)
    for first in range(0, len(vectors), _BATCH):
        span = range(first, min(first + _BATCH, len(vectors)))
        rows = [{"id": i, "dense": vectors[i].tolist(), "lexical": lexical[i]} for i in span]
        client.insert("peer", rows)
    client.flush("peer")
    client.load_collection("peer")
    dense, asked = collection.queries.dense, sparse_dicts(collection.queries.lexical)
    metric = {"metric_type": "IP"}

    def search(number: int) -> list[int]:
        legs = [
            AnnSearchRequest([dense[number].tolist()], "dense", metric, DEPTH),
            AnnSearchRequest([asked[number]], "lexical", metric, DEPTH),
        ]
        return [hit["id"] for hit in client.hybrid_search("peer", legs, RRFRanker(RRF_K), K)[0]]

    return search


def _qdrant(collection: Collection, folder: Path) -> Search:
    shard, qdrant = qdrant_shard(collection.vectors, folder)
    queries = collection.queries

    def search(number: int) -> list[int]:
        nearest = qdrant.Query.Nearest
        legs = [
            qdrant.Prefetch(DEPTH, nearest(queries.dense[number].tolist(), "dense")),
            qdrant.Prefetch(DEPTH, nearest(_sparse(qdrant, queries.lexical, number), "lexical")),
        ]
        # Qdrant counts ranks from 0.
        fusion = qdrant.Fusion.Rrf(k=RRF_K + 1)
        found = shard.query(qdrant.QueryRequest(K, query=fusion, prefetches=legs))
        return [point.id for point in found]

    return search


def qdrant_shard(vectors: Representations, folder: Path) -> tuple[Any, Any]:
    """A shard of Qdrant Edge with these documents, by number; and Qdrant's module."""
    with peer_import("qdrant-edge-py"):
        import qdrant_edge as qdrant
    folder.mkdir(parents=True, exist_ok=True)
    width = vectors.dense.shape[1]
    config = qdrant.EdgeConfig(
        vectors={"dense": qdrant.EdgeVectorParams(size=width, distance=qdrant.Distance.Dot)},
        sparse_vectors={"lexical": qdrant.EdgeSparseVectorParams()},
    )
    shard = qdrant.EdgeShard.create(str(folder), config)
    for first in range(0, len(vectors), _BATCH):
        qdrant_upsert(shard, qdrant, vectors, range(first, min(first + _BATCH, len(vectors))))
    shard.optimize()
    return shard, qdrant


def qdrant_upsert(shard: Any, qdrant: Any, vectors: Representations, rows: range) -> None:
    """Put documents into a shard by number, with both vectors."""
    points = [
        qdrant.Point(
            i,
            {"dense": vectors.dense[i].tolist(), "lexical": _sparse(qdrant, vectors.lexical, i)},
            {},
        )
        for i in rows
    ]
    shard.update(qdrant.UpdateOperation.upsert_points(points))


def _sparse(qdrant: Any, matrix: Any, row: int) -> Any:
    part = slice(matrix.indptr[row], matrix.indptr[row + 1])
    return qdrant.SparseVector(matrix.indices[part].tolist(), matrix.data[part].tolist())
