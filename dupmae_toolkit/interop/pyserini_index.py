"""Searching what stock Pyserini indexed: a FAISS folder, or a Lucene impact index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import IDS_FILE, DenseIndex
from dupmae_toolkit.index.lucene import LuceneImpacts
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.interop.pyserini_folders import (
    FaissShard,
    LuceneShard,
    check_ids,
    is_faiss_folder,
    is_lucene_folder,
    read_ids,
)
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Hit, Query, Ranking, Representations, Run
from dupmae_toolkit.search.engine import Answer, Engine, Request, new_pool
from dupmae_toolkit.search.fusion import TIES, Fusion
from dupmae_toolkit.search.legs import DenseLeg, LexicalLeg
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.queries import Queries, query_vectors, rounded
from dupmae_toolkit.search.report import proof

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix


class PyseriniIndex:
    """A FAISS folder or a Lucene impact index that stock Pyserini wrote.

    ``mode`` is ``dense`` or ``lexical``. Ties break by document id, whatever the order in which the
    documents lie and however many Lucene segments they lie in.

    Example:
        index = PyseriniIndex.open("indexes/lucene.impact", encoder)
        run = index.search_batch([Query("1", "how do I parse a date")], k=1000)
        run = index.search_terms({"1": {"parse": 2.5, "date": 3.0}}, k=1000)
    """

    def __init__(self, path: Path, encoder: Encoder | None = None) -> None:
        self.path = path
        self._encoder = encoder
        self._pool = new_pool()
        if is_faiss_folder(path):
            self.mode = "dense"
            shard = FaissShard(DenseIndex(path))
            self._width = shard.dimension
            self._numbering = Numbering([read_ids(path / IDS_FILE, shard.size)])
            self._dense = DenseLeg(self._numbering, [shard])
        elif is_lucene_folder(path):
            self.mode = "lexical"
            self._lucene = LuceneImpacts(path)
            self._numbering = Numbering([check_ids(self._lucene.ids(), path)])
        else:
            raise InputError(
                f"{path}: neither a FAISS folder of Pyserini's (files index and docid) nor a "
                "Lucene index"
            )

    @classmethod
    def open(
        cls, path: str | Path, encoder: Encoder | str | None = None, **settings: Any
    ) -> PyseriniIndex:
        """Open a folder. Such a folder names no encoder, so that none can be refused.

        encoder: an encoder or the name of one, needed to search with texts. settings: ``device``
        and ``precision`` of an encoder that is loaded here.
        """
        return cls(Path(path), None if encoder is None else load_encoder(encoder, **settings))

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return len(self._lucene) if self.mode == "lexical" else self._numbering.searchable

    def search(self, text: str, k: int = 10) -> list[Hit]:
        """The ``k`` best documents for a text; titles and texts are not in such an index."""
        return self.hits(self.answer(text, self.request(k)))

    def search_batch(
        self,
        queries: Queries,
        k: int = 1000,
        exact: bool = False,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """A run of many queries: texts, or both their vectors, in memory or in a folder.

        exact: the order and the cut are proven.
        """
        return self.run(queries, self.request(k, exact=exact), tag, progress)

    def request(
        self,
        k: int = 10,
        mode: str | None = None,
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
    ) -> Request:
        """A checked request; with one index there is one mode, and nothing to fuse."""
        if mode not in (None, self.mode):
            raise InputError(f"{self.path}: holds one {self.mode} index; use mode {self.mode}")
        return Request(k, self.mode, depth=k, exact=exact)

    def run(
        self,
        queries: Queries,
        request: Request,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """``search_batch`` with a ready-made request."""
        topics, answers = self._answers(queries, request, progress)
        return self._run(topics, answers, request, tag)

    def search_terms(
        self, queries: Mapping[str, Mapping[str, float]], k: int = 1000, tag: str | None = None
    ) -> Run:
        """A run of queries given as terms and weights of at least 0, by topic; for impact indexes.

        Weights keep 16 significant bits, as all query weights do, so that scores are exact.
        """
        from scipy.sparse import csr_matrix

        if self.mode != "lexical":
            raise InputError(f"{self.path}: holds dense vectors; terms search an impact index")
        terms = sorted({term for query in queries.values() for term in query})
        columns = {term: column for column, term in enumerate(terms)}
        places = [
            (row, columns[term], weight)
            for row, query in enumerate(queries.values())
            for term, weight in query.items()
        ]
        rows, indices, weights = zip(*places, strict=True) if places else ((), (), ())
        values = np.asarray(weights, np.float64)
        if not (values >= 0).all():
            raise InputError("a query's weights hold negative numbers or NaN")
        matrix = csr_matrix((values, (rows, indices)), shape=(len(queries), len(terms)))
        request = self.request(k)
        answers = self._lexical(rounded(matrix), terms, request, silent)
        return self._run(list(queries), answers, request, tag)

    def answer(self, text: str, request: Request) -> Answer:
        """The answer to one text as documents by number, with its certificate."""
        return self._answers([Query("0", text)], request, silent)[1][0]

    def hits(self, answer: Answer) -> list[Hit]:
        """An answer with ids."""
        names = self._numbering.ids(answer.documents)
        return [
            Hit(
                rank,
                name,
                score,
                score if self.mode == "dense" else None,
                score if self.mode == "lexical" else None,
            )
            for rank, (name, score) in enumerate(zip(names, answer.scores.tolist(), strict=True), 1)
        ]

    def _answers(
        self, queries: Queries, request: Request, progress: Progress
    ) -> tuple[list[str], list[Answer]]:
        vectors = query_vectors(queries, None, self.path, self._named_encoder)
        if self.mode == "lexical":
            terms, lexical = self._terms(queries), rounded(vectors.lexical)
            if lexical.shape[1] != len(terms):
                raise InputError(f"queries over {lexical.shape[1]} terms for {len(terms)} tokens")
            return vectors.ids, self._lexical(lexical, terms, request, progress)
        if vectors.dense.shape[1] != self._width:
            raise InputError(
                f"{self.path}: holds vectors of {self._width} dimensions, not of "
                f"{vectors.dense.shape[1]} as the queries; use the encoder that made it"
            )
        dense = np.ascontiguousarray(vectors.dense, np.float32)
        engine = Engine(self._numbering, self._dense, None, self._pool)
        return vectors.ids, engine.search(dense, None, request, progress)

    def _named_encoder(self) -> Encoder:
        if self._encoder is None:
            raise InputError(
                f"{self.path}: Pyserini's indexes name no encoder; name it (--model, encoder=…)"
            )
        return self._encoder

    def _terms(self, queries: Queries) -> list[str]:
        """Lucene's terms in the order of the columns of the queries' lexical vectors."""
        stored = None
        if not isinstance(queries, Sequence | Representations):
            stored = queries.vocabulary()
        return lucene_terms(stored or self._named_encoder().vocabulary)

    def _lexical(
        self, queries: csr_matrix, terms: list[str], request: Request, progress: Progress
    ) -> list[Answer]:
        leg = LexicalLeg(self._numbering, [LuceneShard(self._lucene, terms)])
        engine = Engine(self._numbering, None, leg, self._pool)
        return engine.search(None, queries, request, progress)

    def _run(
        self, topics: list[str], answers: list[Answer], request: Request, tag: str | None
    ) -> Run:
        run = Run(tag=tag or f"pyserini-{self.mode}")
        for topic, answer in zip(topics, answers, strict=True):
            run.topics[topic] = Ranking(self._numbering.ids(answer.documents), answer.scores)
        run.metadata = {
            "mode": self.mode,
            "k": request.k,
            "index": str(self.path),
            "documents": len(self),
            "encoder": self._encoder.info.to_dict() if self._encoder else None,
            "exact": request.exact,
            "ties": TIES,
            "certificate": proof(topics, answers),
        }
        return run


def load_encoder(encoder: Encoder | str, **settings: Any) -> Encoder:
    """An encoder, or the one of that name."""
    if not isinstance(encoder, str):
        return encoder
    from dupmae_toolkit.model import loading

    return loading.load_encoder(encoder, **settings)
