"""Retrieval over a small collection by brute force: every query against every document.

It needs no index: numpy and scipy score all documents with the current weights. The caller provides
the function that measures the rankings.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.sparse import csr_matrix, vstack

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.model.encoder import DupMAEEncoder
from dupmae_toolkit.model.heads import sparse_top_k
from dupmae_toolkit.records import Query, Ranking, Representations, Run
from dupmae_toolkit.training.data.bm25 import WordFrequencies
from dupmae_toolkit.training.data.frequencies import frequency_factors
from dupmae_toolkit.training.fitted_score import FittedScore

#: From qrels and a run to the mean of each measure, by its name.
Measure = Callable[[Qrels, Run], Mapping[str, float]]
DEPTH = 100  # documents of a ranking
LARGEST = 100_000  # documents of a collection
_WINDOW = 128  # documents whose unpruned vectors are in memory
_QUERIES = 64  # scored at a time


@dataclass(slots=True)
class SmallCollection:
    """A judged collection in memory. Documents are sorted by id, and so are tied scores.

    words: what ``weighed_words`` gave, which does not change during a training.
    """

    ids: list[str]
    texts: list[str]
    queries: list[Query]
    qrels: Qrels
    drops_self_matches: bool
    words: tuple[csr_matrix, csr_matrix] | None = None

    @classmethod
    def open(cls, path: str, split: str) -> SmallCollection:
        """Read a BEIR data set; InputError if it is too large for brute force."""
        dataset = open_beir(path)
        qrels = dataset.qrels(split)
        found = {}
        for document in dataset.corpus:
            found[document.id] = document.contents
            if len(found) > LARGEST:
                raise InputError(
                    f"{path}: more than {LARGEST:,} documents are too many to search during "
                    "a training; name a smaller eval_collection"
                )
        ids = sorted(found)
        queries = dataset.queries(split)
        texts = [found[name] for name in ids]
        return cls(ids, texts, queries, qrels, dataset.drops_self_matches)

    def weighed_words(self) -> tuple[csr_matrix, csr_matrix]:
        """The words of queries and documents, weighed by BM25 of this collection."""
        if self.words is None:
            frequencies = WordFrequencies.of(self.texts)
            self.words = frequencies.weighed([query.text for query in self.queries], self.texts)
        return self.words


def evaluate_retrieval(
    encoder: DupMAEEncoder,
    collection: SmallCollection,
    measure: Measure,
    fitted: FittedScore | None = None,
) -> dict[str, float]:
    """Measures of the dense, the lexical and the hybrid ranking, and the active terms.

    fitted: the score to rank by, with BM25 and its own ranking; factors and BM25 are those of an
    index of the collection. None for the plain score.

    ``active_document`` is a document's mean number of terms above 0, before pruning. The scores use
    documents pruned to the config's ``top_k``. Without a lexical head there is only the dense
    ranking, and no count of terms.
    """
    documents, active = _encode(encoder, collection)
    queries = encoder.encode_queries([query.text for query in collection.queries])
    weights: Sequence[float] = (encoder.config.dense_weight, encoder.config.lexical_weight)
    words = None
    if fitted is not None:
        weights, words = fitted.numbers, collection.weighed_words()
        frequencies = np.bincount(documents.lexical.indices, minlength=documents.lexical.shape[1])
        factors = frequency_factors(frequencies, len(documents), fitted.idf_power)
        queries.lexical = queries.lexical.multiply(factors[None]).tocsr()
    found: dict[str, float] = {}
    for mode, run in brute_force_runs(collection, queries, documents, weights, words).items():
        found |= {f"{mode}_{name}": value for name, value in measure(collection.qrels, run).items()}
    if encoder.config.lexical_head == "none":
        return found
    active_query = queries.lexical.nnz / max(1, len(queries))
    return found | {"active_document": active, "active_query": active_query}


def _encode(encoder: DupMAEEncoder, collection: SmallCollection) -> tuple[Representations, float]:
    config, parts, active = encoder.config, [], 0
    try:
        encoder.config = config.but(top_k=0)
        for start in range(0, len(collection.ids), _WINDOW):
            part = encoder.encode_documents(collection.texts[start : start + _WINDOW])
            active += part.lexical.nnz
            part.lexical = sparse_top_k(part.lexical.toarray(), config.top_k)
            parts.append(part)
    finally:
        encoder.config = config
    dense = np.concatenate([part.dense for part in parts])
    lexical = csr_matrix(vstack([part.lexical for part in parts]))
    return Representations(collection.ids, dense, lexical), active / len(collection.ids)


def brute_force_runs(
    collection: SmallCollection,
    queries: Representations,
    documents: Representations,
    weights: Sequence[float],
    words: tuple[csr_matrix, csr_matrix] | None = None,
) -> dict[str, Run]:
    """Rankings by the dense score, the lexical score, BM25, and their weighted sum, DEPTH deep.

    words: queries and documents whose product is BM25; None to leave it out. A document that shares
    no term with a query is not in its lexical ranking, nor one without its words in that of BM25.
    If no document has a term, there is no lexical ranking, and without BM25 no hybrid one.
    """
    modes = ["dense"]
    if documents.lexical.nnz:
        modes.append("lexical")
    if words is not None:
        modes.append("bm25")
    if len(modes) > 1:
        modes.append("hybrid")
    runs = {mode: Run() for mode in modes}
    place = {name: i for i, name in enumerate(collection.ids)}
    transposed = documents.lexical.T.tocsc()
    for start in range(0, len(queries), _QUERIES):
        rows = slice(start, start + _QUERIES)
        dense = queries.dense[rows].astype(np.float64) @ documents.dense.T.astype(np.float64)
        lexical = (queries.lexical[rows].astype(np.float64) @ transposed).toarray()
        scores = {
            "dense": dense,
            "lexical": np.where(lexical > 0, lexical, -np.inf),
            "hybrid": weights[0] * dense + weights[1] * lexical,
        }
        if words is not None:
            bm25 = (words[0][rows] @ words[1].T).toarray()
            scores["bm25"] = np.where(bm25 > 0, bm25, -np.inf)
            scores["hybrid"] += weights[2] * bm25
        for mode, run in runs.items():
            for query, row in zip(collection.queries[rows], scores[mode], strict=True):
                if collection.drops_self_matches and query.id in place:
                    row[place[query.id]] = -np.inf
                run.topics[query.id] = _best(collection.ids, row)
    return runs


def _best(ids: list[str], scores: np.ndarray) -> Ranking:
    order = np.argsort(-scores, kind="stable")[:DEPTH]
    order = order[scores[order] > -np.inf]
    return Ranking([ids[i] for i in order], scores[order])
