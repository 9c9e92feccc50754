"""Searching with texts or vectors: one interface for our indexes and for Pyserini's folders."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, overload

import numpy as np

from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import (
    Document,
    Hit,
    Query,
    Ranking,
    Representations,
    Run,
    is_blank,
)
from dupmae_toolkit.search.answers import Answer, Mode, Request
from dupmae_toolkit.search.described import proof
from dupmae_toolkit.search.feedback import Feedback
from dupmae_toolkit.search.fusion import Fusion, Method
from dupmae_toolkit.search.given import Weights, given_queries, shown_by
from dupmae_toolkit.search.queries import Queries, said_cut
from dupmae_toolkit.search.snippets import Matcher

if TYPE_CHECKING:
    from dupmae_toolkit.search.revising import Revised
    from dupmae_toolkit.search.selection import Selection


class Searched(Protocol):
    """The documents that answers refer to, by number."""

    def __len__(self) -> int:
        """The number of documents that can be found."""
        ...

    def ids(self, numbers: np.ndarray) -> list[str]: ...

    def documents(self, numbers: np.ndarray) -> list[Document]: ...


@dataclass(slots=True)
class Answers:
    """The answers to a batch of queries, in their order, and the documents they refer to.

    vectors: those of the queries; None if there were only terms and weights. selection: the
    documents that were searched; None: all. revised: the queries as they were searched, where
    feedback or pruning changed them.
    """

    topics: list[str]
    answers: list[Answer]
    searched: Searched
    vectors: Representations | None = None
    selection: Selection | None = None
    revised: Revised | None = None


class Searcher:
    """Searches with texts or query vectors. Subclasses make the requests and the answers.

    path: the folder that is searched. mode: the default mode. tag: how the default tag of a run
    begins.
    """

    path: Path
    mode: str
    tag: str

    def __len__(self) -> int:
        """The number of documents that can be found."""
        raise NotImplementedError

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
        """A checked request, with the defaults of this index."""
        raise NotImplementedError

    def answers(self, queries: Queries, request: Request, progress: Progress = silent) -> Answers:
        """The answers as documents by number, with their certificates."""
        raise NotImplementedError

    def field(self, name: str) -> str:
        """The name of a field of the metadata as the index has it; InputError if it lacks it."""
        raise NotImplementedError

    def metadata(self, request: Request, searched: Searched) -> dict[str, Any]:
        """How a run's scores are computed; nothing here depends on time or machine."""
        raise NotImplementedError

    @overload
    def search(
        self,
        query: str,
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        query: list[str],
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        query: str | list[str],
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The ``k`` best documents for a text, or for each of a list of texts.

        mode: hybrid, dense, lexical or bm25; None: hybrid, or the only mode that a Pyserini folder
        has. A hybrid score is the sum of all parts that the index has, with its weights.
        fusion: how the parts of a hybrid score are fused, by name or in detail. exact: search
        deeper until the ranking is proven. depth: how many documents each leg returns at first; by
        default four times ``k``, from 100 to 1000, and at least ``k``. If the vectors are Flat and
        the postings in memory, a sum covers all documents, whatever the depth. A lexical search
        returns only documents that share a term with the query. plain: the score that the encoder
        was trained for, without frequencies and BM25. idf_power: how strongly the frequencies of
        terms count in the lexical part; None: as the index says, 0: not at all.

        Warns if a text was cut, since it was longer than the encoder's limit for queries.

        filter: a condition on the documents' metadata, such as ``year >= 2020 and dept in
        ('sales', 'legal')``; see ``search.filters``. among: the ids of the documents to search.
        With both, documents must meet both. Neither changes a score, and a proof holds for the
        documents that are left. offset: how many of the best documents to leave out, for pages:
        joined, they equal one long list, whatever ``k``. So a page of sums is always exact, and
        other fusions read lists of a fixed ``depth``, 1,000 by default, beyond which no page goes.

        weights: of the parts of a hybrid score, in their order (dense, lexical, bm25) or by name:
        ``{"dense": 40, "bm25": 1}`` leaves lexical out. None: as the index says.

        aggregate: in an index of passages, what a document scores: ``max`` (the default) what its
        best passage does, ``sum3`` the sum of its three best, or of as many as it has. A hit shows
        the best passage. Fusions of ranks and norms fuse lists of passages, of which a document
        takes the best score; ``depth`` counts passages.

        feedback: search again with a query that the first documents make, which the score, the
        proof and the pages are then of; a Feedback, or its method by name. With passages, the best
        ones of the first documents are read. query_terms: search only so many tokens, and so many
        words, of the query: those of the largest weight after frequencies; None: all.
        """
        if isinstance(query, str):
            if not query[:1].isalnum() and is_blank(query):
                raise InputError("the question has no text; give it some words")
            texts = [query]
        elif isinstance(query, list | tuple) and all(isinstance(text, str) for text in query):
            texts = list(query)
        else:
            raise InputError("a search takes a text, or a list of texts")
        topics = [Query(str(number), text) for number, text in enumerate(texts)]
        request = self.request(
            k,
            mode,
            fusion,
            depth,
            exact,
            plain,
            idf_power,
            filter,
            among,
            offset,
            weights,
            aggregate,
            feedback,
            query_terms,
        )
        found = self.answers(topics, request)
        if request.among is not None:
            _warn_unknown(request.among, found)
        if found.vectors is not None and found.vectors.truncated:
            cut = said_cut(found.vectors, "a larger query_max_length")
            if cut:
                warnings.warn(cut, stacklevel=2)
        hits = [self.hits(answer) for answer in found.answers]
        return hits[0] if isinstance(query, str) else hits

    def search_batch(
        self,
        queries: Queries | Iterable[str] | Mapping[str, str],
        k: int = 1000,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
        tag: str | None = None,
        progress: Progress | bool = silent,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> Run:
        """A run: the ``k`` best documents for each of many queries. See ``search``.

        queries: a list of texts, numbered from 0, or of Queries; a mapping of ids to texts; a data
        frame; Representations; an encoded corpus. Encoded ones need no encoder. progress: True
        shows a bar on stderr. The run's metadata say how it was made,
        and how many topics' rankings are proven.
        """
        request = self.request(
            k,
            mode,
            fusion,
            depth,
            exact,
            plain,
            idf_power,
            filter,
            among,
            offset,
            weights,
            aggregate,
            feedback,
            query_terms,
        )
        found = self.answers(given_queries(queries), request, shown_by(progress))
        if request.among is not None:
            _warn_unknown(request.among, found)
        return self.run_of(found, request, tag)

    def run(
        self,
        queries: Queries,
        request: Request,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """``search_batch`` with a ready-made request."""
        return self.run_of(self.answers(queries, request, progress), request, tag)

    def run_of(self, found: Answers, request: Request, tag: str | None = None) -> Run:
        """Answers as a run, with its metadata."""
        run = Run(tag=tag or f"{self.tag}-{request.mode}")
        for topic, answer in zip(found.topics, found.answers, strict=True):
            ids = found.searched.ids(answer.documents)
            run.topics[topic] = Ranking(ids, answer.scores, answer.offset)
        run.metadata = self.described(found, request)
        return run

    def described(self, found: Answers, request: Request) -> dict[str, Any]:
        """``metadata``, with how the queries were encoded and how many rankings are proven."""
        about, made = self.metadata(request, found.searched), found.vectors
        if made is not None:
            about["precision"]["queries"] = made.precision
        if made is not None and made.max_length is not None:
            about["truncated"]["queries"] = made.truncated
            about["truncated"]["query_max_length"] = made.max_length
            if about["encoder"]:  # the length is the searcher's, whatever the index says
                about["encoder"]["query_max_length"] = made.max_length
        if found.selection is not None:
            about["matching"] = len(found.selection)
            if found.selection.unread:
                about["unread"] = found.selection.unread
        if request.among is not None and found.selection is not None:
            about["among"] = {"ids": len(request.among), "unknown": found.selection.unknown}
        if found.revised is not None:
            about |= found.revised.described(request)
        return about | {"certificate": proof(found.topics, found.answers)}

    def answer(self, text: str, request: Request) -> Answer:
        """The answer to one text as documents by number, with its certificate."""
        return self.answers([Query("0", text)], request).answers[0]

    def matcher(self, vectors: Representations) -> Matcher:
        """Finds a query's words in texts; ``vectors``: those of the query alone."""
        from dupmae_toolkit.analysis import count_words

        return Matcher(dict.fromkeys(count_words(vectors.texts[0]) if vectors.texts else (), 1.0))

    def hits(self, answer: Answer) -> list[Hit]:
        """An answer with its documents, from the state of the index that gave it."""
        documents = answer.snapshot.documents(answer.documents)
        columns = [scores.tolist() for scores in answer.parts.values()]
        hits = []
        for rank, (document, score, *part_scores) in enumerate(
            zip(documents, answer.scores.tolist(), *columns, strict=True), answer.offset + 1
        ):
            parts = dict(zip(answer.parts, part_scores, strict=True))
            hits.append(
                Hit(
                    rank,
                    document.id,
                    score,
                    title=document.title,
                    text=document.text,
                    metadata=document.metadata,
                    passage=document.passage,
                    **parts,
                )
            )
        return hits


def _warn_unknown(among: Sized, found: Answers) -> None:
    """Warn of ids to search among that are not in the index."""
    unknown = found.selection.unknown if found.selection is not None else 0
    if unknown:
        ids = counted(len(among), "id")
        verb = "is" if unknown == 1 else "are"
        warnings.warn(
            f"{unknown:,} of {ids} in among {verb} not in the index", UserWarning, stacklevel=3
        )
