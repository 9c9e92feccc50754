"""Searches what stock Pyserini indexed: a FAISS folder, or a Lucene impact index."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.dense import DenseIndex
from dupmae_toolkit.index.layout import IDS_FILE, MANIFEST_FILE
from dupmae_toolkit.index.lucene import LuceneImpacts
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.interop.pyserini_folders import (
    TermsShard,
    check_ids,
    check_impacts,
    is_faiss_folder,
    is_lucene_folder,
    read_ids,
)
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Encoder, Representations, Run
from dupmae_toolkit.search.answers import Request, check_offset
from dupmae_toolkit.search.dense import DenseLeg, dense_shard
from dupmae_toolkit.search.described import metadata_of
from dupmae_toolkit.search.engine import Engine, new_pool
from dupmae_toolkit.search.feedback import Feedback
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.given import Weights, check_encoder
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.inputs import rounded
from dupmae_toolkit.search.lexical import LexicalLeg
from dupmae_toolkit.search.numbering import Numbering
from dupmae_toolkit.search.queries import Queries, check_query_length, query_vectors
from dupmae_toolkit.search.ranking import Leg
from dupmae_toolkit.search.requesting import check_revising
from dupmae_toolkit.search.revising import Revised, pruned
from dupmae_toolkit.search.searcher import Answers, Searcher


class PyseriniIndex(Searcher):
    """A FAISS folder or a Lucene impact index that stock Pyserini wrote.

    ``mode`` is ``dense`` or ``lexical``. Ties break by document id, whatever the order of the
    documents and the number of Lucene segments.

    Example:
        index = PyseriniIndex.open("indexes/lucene.impact", encoder)
        run = index.search_batch([Query("1", "how do I parse a date")], k=1000)
        run = index.search_terms({"1": {"parse": 2.5, "date": 3.0}}, k=1000)
    """

    tag = "pyserini"

    def __init__(self, path: Path, encoder: Encoder | None = None) -> None:
        self.path = path
        self._encoder = encoder
        self._pool = new_pool()
        if is_faiss_folder(path):
            self.mode = "dense"
            index = DenseIndex(path)
            self._width = index.dimension
            self._numbering = Numbering([read_ids(path / IDS_FILE, len(index))])
            self._dense = DenseLeg(self._numbering, [dense_shard(index, index.vectors())])
        elif is_lucene_folder(path):
            self.mode = "lexical"
            self._lucene = LuceneImpacts(path)
            check_impacts(self._lucene)
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
        """Open a folder. It does not name its encoder, so a wrong encoder cannot be refused.

        encoder: an encoder or the name of one, needed to search with texts. settings: ``device``,
        ``precision`` and ``query_max_length`` of an encoder that is loaded here.
        """
        check_query_length(settings.get("query_max_length"), encoder)
        return cls(Path(path), None if encoder is None else load_encoder(encoder, **settings))

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return len(self._lucene) if self.mode == "lexical" else self._numbering.searchable

    def request(
        self,
        k: int = 10,
        mode: str | None = None,
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> Request:
        """A checked request; a single index has one mode, and nothing to fuse."""
        if fusion not in ("sum", Fusion()) or depth is not None:
            what = "fusion" if depth is None else "depth"
            raise InputError(f"{self.path}: a single index has nothing to fuse; leave out {what}")
        if weights is not None:
            raise InputError(f"{self.path}: a single index has nothing to weigh; leave out weights")
        if filter is not None or among is not None:
            raise InputError(
                f"{self.path}: Pyserini's indexes have no metadata and are searched whole; leave "
                "out filter and among, or build an index with `dupmae index`"
            )
        if aggregate is not None:
            raise InputError(
                f"{self.path}: nothing says which documents its texts are passages of; leave out "
                "aggregate"
            )
        if feedback is not None:
            raise InputError(
                f"{self.path}: Pyserini's indexes do not give back the vectors of documents, which "
                "feedback reads; leave it out, or build an index with `dupmae index`"
            )
        check_revising(None, query_terms, self.mode)
        if offset is not None:
            check_offset(offset)
            if self.mode == "dense" and not self._dense.gives_all_scores:
                raise InputError(
                    f"{self.path}: an approximate index without its vectors has no pages: what it "
                    "finds depends on k; leave out offset"
                )
        if idf_power:
            raise InputError(f"{self.path}: Pyserini's indexes are searched without frequencies")
        if mode not in (None, self.mode):
            raise InputError(f"{self.path}: holds one {self.mode} index; use mode {self.mode}")
        exact = exact or offset is not None
        depth = k + (offset or 0)
        return Request(
            k, self.mode, depth=depth, exact=exact, offset=offset, query_terms=query_terms
        )

    def search_terms(
        self, queries: Mapping[str, Mapping[str, float]], k: int = 1000, tag: str | None = None
    ) -> Run:
        """Search an impact index with queries given, by topic, as terms and non-negative weights.

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
        leg = self._lexical(terms)
        found = self._search(list(queries), leg, rounded(matrix), request, silent)
        return self.run_of(found, request, tag)

    def answers(self, queries: Queries, request: Request, progress: Progress = silent) -> Answers:
        """The answers as documents by number, with their certificates."""
        vectors = query_vectors(queries, None, self.path, self._named_encoder)
        if self.mode == "lexical":
            terms, lexical = self._terms(queries), rounded(vectors.lexical)
            if lexical.shape[1] != len(terms):
                raise InputError(f"queries over {lexical.shape[1]} terms for {len(terms)} tokens")
            leg: Leg = self._lexical(terms)
            if request.query_terms is None:
                return self._search(vectors.ids, leg, lexical, request, progress, vectors)
            cut = pruned(lexical, request.query_terms)
            found = self._search(vectors.ids, leg, cut, request, progress, vectors)
            left_out = {self.mode: int(lexical.nnz - cut.nnz)}
            found.revised = Revised({self.mode: cut}, vectors, None, None, left_out)
            return found
        if vectors.dense.shape[1] != self._width:
            raise InputError(
                f"{self.path}: holds vectors of {self._width} dimensions, not of "
                f"{vectors.dense.shape[1]} as the queries; use the encoder that made it"
            )
        dense = np.ascontiguousarray(vectors.dense, np.float32)
        return self._search(vectors.ids, self._dense, dense, request, progress, vectors)

    def metadata(self, request: Request, searched: Any) -> dict[str, Any]:
        """How the scores were computed, as far as such a folder records it."""
        encoder = self._encoder.info if self._encoder else None
        return metadata_of(request, self.path, len(self), encoder)

    def field(self, name: str) -> str:
        """InputError: such a folder has no metadata."""
        raise InputError(f"{self.path}: Pyserini's indexes have no metadata, so no field {name!r}")

    def ids(self, numbers: np.ndarray) -> list[str]:
        """The ids of documents by number."""
        return self._numbering.ids(numbers)

    def documents(self, numbers: np.ndarray) -> list[Document]:
        """Documents by number: ids only, since such a folder has no titles or texts."""
        return [Document(name) for name in self._numbering.ids(numbers)]

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

    def _lexical(self, terms: list[str]) -> LexicalLeg:
        """terms: Lucene's, in the order of the queries' columns."""
        return LexicalLeg(self._numbering, [TermsShard(self._lucene, terms)])

    def _search(
        self,
        topics: list[str],
        leg: Leg,
        queries: Any,
        request: Request,
        progress: Progress,
        vectors: Representations | None = None,
    ) -> Answers:
        engine = Engine(self._numbering, {self.mode: leg}, self._pool)
        answers = engine.search({self.mode: queries}, request, progress)
        for answer in answers:
            answer.snapshot = self
        return Answers(topics, answers, self, vectors)


def open_searcher(
    path: str | Path, encoder: Encoder | str | None = None, **settings: Any
) -> Searcher:
    """Open ``path``, an index of this toolkit or a folder of Pyserini's; see their ``open``."""
    folder = Path(path)
    foreign = is_faiss_folder(folder) or is_lucene_folder(folder)
    if foreign and not (folder / MANIFEST_FILE).exists():
        if settings.pop("query_encoder", "network") != "network":
            raise InputError.at(
                path,
                None,
                "Pyserini's indexes record no encoder whose lookup table could be used",
                "leave out the query encoder",
            )
        return PyseriniIndex.open(folder, encoder, **settings)
    return HybridIndex.open(folder, encoder, **settings)


def load_encoder(encoder: Encoder | str, **settings: Any) -> Encoder:
    """``encoder`` itself, or the encoder of that name, loaded."""
    if not isinstance(encoder, str):
        check_encoder(encoder, "encode_queries")
        return encoder
    from dupmae_toolkit.model import loading

    return loading.load_encoder(encoder, **settings)
