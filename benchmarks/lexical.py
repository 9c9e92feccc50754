"""Building and searching the Lucene impact index, against stock Pyserini.

Ours searches by Lucene, as for large indexes, and in memory, as for the others.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from scipy.sparse import csr_matrix

from benchmarks import synthetic
from benchmarks.collection import TERM, LexicalQueries
from benchmarks.rows import Row, Sizes, against, peer_import, timed
from dupmae_toolkit import jvm
from dupmae_toolkit.index.lucene import LuceneImpacts, write_lucene
from dupmae_toolkit.search.lexical import Postings

K = 1000
THREADS = 2


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """All rows: building, for which the peer has two threads, then searching with two each."""
    documents = sizes.documents
    work = f"index {documents:,} documents"
    return against(work, "pyserini.index.lucene", lambda: _rows(folder, documents, sizes.queries))


def _rows(folder: Path, documents: int, topics: int) -> list[Row]:
    jvm.start()
    os.environ.setdefault("OPENAI_API_KEY", "none")  # Pyserini needs one to be imported
    matrix = synthetic.impacts(documents, 150)
    terms = [f"{TERM}{i}" for i in range(matrix.shape[1])]
    ids = [f"d{i:08}" for i in range(documents)]
    _write_input(folder / "input", ids, matrix)
    words = ["--collection", "JsonVectorCollection", "--input", str(folder / "input")]
    words += ["--index", str(folder / "peer"), "--generator", "DefaultLuceneDocumentGenerator"]
    words += ["--threads", str(THREADS), "--impact", "--pretokenized"]
    _, peer_s = timed(lambda: _run_stock("pyserini.index.lucene", words))
    _, ours_s = timed(lambda: write_lucene(folder / "ours", ids, matrix, terms))
    sizes = [sum(f.stat().st_size for f in (folder / n).iterdir()) for n in ("ours", "peer")]
    built = f"size {sizes[0] / sizes[1]:.2f} of the peer's"
    rows = [Row(f"index {documents:,} documents", "pyserini.index.lucene", ours_s, peer_s, built)]
    return rows + _search(folder, synthetic.queries(topics, 30), matrix, terms)


def _search(folder: Path, queries: csr_matrix, matrix: csr_matrix, terms: list[str]) -> list[Row]:
    with peer_import("pyserini"):
        from pyserini.search.lucene import LuceneImpactSearcher
    count = queries.shape[0]
    peer = LuceneImpactSearcher(str(folder / "ours"), LexicalQueries(queries), min_idf=-100)
    names = [str(i) for i in range(count)]
    theirs, peer_s = timed(lambda: peer.batch_search(names, names, k=K, threads=THREADS))
    engines = {
        "by Lucene": LuceneImpacts(folder / "ours", terms),
        "in memory": Postings(csr_matrix(matrix)),
    }
    rows = []
    for name, engine in engines.items():
        found, ours_s = timed(lambda engine=engine: _in_threads(engine, queries))
        # Anserini lowers tied scores slightly, so that trec_eval keeps their order.
        equal = sum(
            np.allclose(found[i][1], [hit.score for hit in theirs[str(i)]], rtol=1e-6)
            for i in range(count)
        )
        work = f"lexical leg {name}, {count:,} queries, k = {K:,}"
        same = f"the same scores for {equal} of {count}"
        rows.append(Row(work, "LuceneImpactSearcher.batch_search", ours_s, peer_s, same))
    return rows


def _in_threads(engine: Any, queries: csr_matrix) -> list[tuple[np.ndarray, np.ndarray]]:
    """As many threads as the peer has; queries in slices, as in an index."""
    slices = [queries[start : start + 16] for start in range(0, queries.shape[0], 16)]
    with ThreadPoolExecutor(THREADS) as pool:
        return [one for part in pool.map(lambda q: engine.search(q, K), slices) for one in part]


def _write_input(folder: Path, ids: list[str], matrix: csr_matrix) -> None:
    folder.mkdir(parents=True)
    with (folder / "0.jsonl").open("w", encoding="utf-8") as file:
        for row, name in enumerate(ids):
            span = slice(matrix.indptr[row], matrix.indptr[row + 1])
            pairs = zip(matrix.indices[span].tolist(), matrix.data[span].tolist(), strict=True)
            vector = {f"{TERM}{t}": w for t, w in pairs}
            file.write(json.dumps({"id": name, "contents": "", "vector": vector}) + "\n")


def _run_stock(module: str, words: list[str]) -> None:
    before = sys.argv
    sys.argv = [module, *words]
    try:
        runpy.run_module(module, run_name="__main__")
    finally:
        sys.argv = before
