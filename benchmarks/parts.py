"""Hybrid search with three parts (dense, lexical, BM25), beside two parts and beside Pyserini.

Words of documents and queries follow Zipf's law, as terms do. Pyserini's HybridSearcher searches
the same two folders: the tokens and the words of a query are one impact query to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic
from benchmarks.collection import sample, share_of_best
from benchmarks.rows import Row, Sizes, against, each_in_turn, in_turns, peer_import, percentiles
from dupmae_toolkit import HybridIndex, jvm
from dupmae_toolkit.index.vocabulary import word_terms
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.search.fusion import Fusion

K, BATCH_K = 10, 1000
#: Different words of the collection, and how many a document and a query hold.
WORDS, DOCUMENT_WORDS, QUERY_WORDS = 100_000, 200, 8
#: What one inner product, one Σ query weight × impact and one BM25 count for.
WEIGHTS = (20_000.0, 1.0, 800.0)


class Worded(synthetic.Ready):
    """The text "17 wa wb …" has the vectors number 17, whatever its words."""

    def encode_documents(self, texts: list[str], ids: list[str] | None = None) -> Representations:
        return super().encode_documents([text.split(" ", 1)[0] for text in texts], ids)


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Rows for many queries at once and for one at a time, three parts against two and a peer."""
    encoder = Worded()
    index = HybridIndex.build(
        folder / "index", _documents(sizes.documents), encoder, segment_size=sizes.documents
    )
    queries = synthetic.query_vectors(sizes.queries)
    queries.texts = _texts(sizes.queries, QUERY_WORDS, seed=5)
    index.warm()
    return [*_batches(index, queries), *_single(index, queries), *_peer(index, queries)]


def _batches(index: HybridIndex, queries: Representations) -> list[Row]:
    k = min(BATCH_K, len(index))
    work = f"three parts, {len(queries):,} queries, k = {k:,}, {len(index):,} documents"
    fitted, plain = _fitted(), {"plain": True}
    runs, seconds = in_turns(
        3,
        lambda: index.search_batch(queries, k, **fitted),
        lambda: index.search_batch(queries, k, **plain),
    )
    certified = runs[0].metadata["certificate"]["certified"]
    return [Row(work, "two parts", *seconds, f"{certified:,} of {len(queries):,} proven")]


def _single(index: HybridIndex, queries: Representations) -> list[Row]:
    work = f"three parts, one query, k = {K}, {len(index):,} documents"
    alone = [_one(queries, number) for number in range(len(queries))]
    fitted, plain = _fitted(), {"plain": True}
    _, seconds = each_in_turn(
        len(alone),
        lambda number: index.search_batch(alone[number], K, **fitted),
        lambda number: index.search_batch(alone[number], K, **plain),
    )
    return [_row(work, "two parts", seconds, "the same documents, by another score")]


def _peer(index: HybridIndex, queries: Representations) -> list[Row]:
    work = f"three parts, one query, k = {K}, {len(index):,} documents"
    return against(work, "pyserini", lambda: _against_pyserini(index, queries, work))


def _against_pyserini(index: HybridIndex, queries: Representations, work: str) -> Row:
    fitted = _fitted()
    request = index.request(K, fusion=fitted["fusion"])
    merged = [_merged(index, queries, number, request) for number in range(len(queries))]
    peer = _stock(index, queries, merged)
    alone = [_one(queries, number) for number in range(len(queries))]

    def ours(number: int) -> list[str]:
        run = index.search_batch(alone[number], K, **fitted)
        return run[alone[number].ids[0]].ids

    def theirs(number: int) -> list[str]:
        return [hit.docid for hit in peer.search(str(number), k0=100, k=K, alpha=1 / WEIGHTS[0])]

    (mine, found), seconds = each_in_turn(len(alone), ours, theirs)
    everything = [f"d{number:08}" for number in range(len(index))]
    shares = []
    for ranked in (mine, found):
        own = []
        for number in sample(len(alone)):
            scores = index.scores(alone[number], [everything], request)[0]
            exact = np.array([scores[name] for name in everything])
            rows = np.array([int(name[1:]) for name in ranked[number]], np.int64)
            own.append(share_of_best(exact, rows, K))
        shares.append(float(np.mean(own)))
    same = f"of the exact top {K}: ours {shares[0]:.3f}, peer {shares[1]:.3f}"
    return _row(work, "HybridSearcher.search", seconds, same)


def _merged(
    index: HybridIndex, queries: Representations, number: int, request: Any
) -> dict[str, float]:
    """The tokens and the words of a query as one impact query, in the scale of the sum."""
    inputs = index.inputs(_one(queries, number), request)
    _, w_lexical, w_bm25 = WEIGHTS
    tokens, words = inputs["lexical"], inputs["bm25"]
    merged = {
        f"t{term}": w_lexical / index.manifest.scale * float(weight)
        for term, weight in zip(tokens.indices.tolist(), tokens.data.tolist(), strict=True)
    }
    names = list(word_terms([words.words[i] for i in words.weights.indices.tolist()]))
    scaled = w_bm25 / index.manifest.max_impact * words.weights.data.astype(np.float64)
    return merged | dict(zip(names, scaled.tolist(), strict=True))


class _Ready:
    """A query encoder of Pyserini's: the text "17" stands for what was made for query 17."""

    def __init__(self, made: Any) -> None:
        self._made = made

    def encode(self, text: str, **kwargs: Any) -> Any:
        return self._made[int(text)]


def _stock(index: HybridIndex, queries: Representations, merged: list[dict[str, float]]) -> Any:
    jvm.start()
    os.environ.setdefault("OPENAI_API_KEY", "none")  # Pyserini needs one to be imported
    with peer_import("pyserini"):
        from pyserini.search.faiss import FaissSearcher
        from pyserini.search.hybrid import HybridSearcher
        from pyserini.search.lucene import LuceneImpactSearcher
    segment = index.path / "segments" / "000001"
    return HybridSearcher(
        FaissSearcher(str(segment / "faiss"), _Ready(queries.dense)),
        LuceneImpactSearcher(str(segment / "lucene"), _Ready(merged), min_idf=-100),
    )


def _fitted() -> dict[str, Any]:
    return {"fusion": Fusion("sum", WEIGHTS)}


def _row(work: str, peer: str, seconds: np.ndarray, same: str) -> Row:
    medians = np.median(seconds, axis=1) * 1000
    ours, theirs = (percentiles(times) for times in seconds)
    details = {"ours": ours, "peer": theirs}
    same = f"{same}; p95 {ours['p95_ms']:.3g} and {theirs['p95_ms']:.3g} ms"
    return Row(work, peer, float(medians[0]), float(medians[1]), same, "ms", details)


def _one(queries: Representations, number: int) -> Representations:
    query = synthetic.one(queries, number)
    assert queries.texts is not None
    query.texts = [queries.texts[number]]
    return query


def _documents(count: int) -> Iterator[Document]:
    for number, words in enumerate(_texts(count, DOCUMENT_WORDS, seed=4)):
        yield Document(f"d{number:08}", "", f"{number} {words}")


def _texts(count: int, words_each: int, seed: int) -> list[str]:
    """Made-up words, which no stemmer or list of stop words touches, joined by spaces."""
    rng = np.random.default_rng(seed)
    chance = 1 / np.arange(5, WORDS + 5)
    drawn = rng.choice(WORDS, size=(count, words_each), p=chance / chance.sum())
    return [" ".join(f"w{word}x" for word in own) for own in drawn.tolist()]
