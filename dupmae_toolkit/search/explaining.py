"""What an open index says about its own answers: explanations of scores, and snippets of texts."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, overload

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, Encoder, Hit, Query, Representations, is_blank
from dupmae_toolkit.search.answers import MAX, Mode, Request
from dupmae_toolkit.search.explainer import Explainer, matcher
from dupmae_toolkit.search.explanation import Explanation, summed
from dupmae_toolkit.search.feedback import Feedback
from dupmae_toolkit.search.fusion import Fusion, Method
from dupmae_toolkit.search.given import Weights, check_id
from dupmae_toolkit.search.passage_ranks import document_ranks
from dupmae_toolkit.search.queries import Queries
from dupmae_toolkit.search.revising import revised
from dupmae_toolkit.search.searcher import Searcher
from dupmae_toolkit.search.snippets import LENGTH, Matcher, Offsets, Snippet

if TYPE_CHECKING:
    from dupmae_toolkit.search.snapshot import Snapshot


class Explaining(Searcher):
    """Explains what it finds. Subclasses hold a snapshot, and the encoder once it is loaded."""

    _snapshot: Snapshot
    _encoder: Encoder | None

    def vectors(self, queries: Queries) -> Representations:
        """Both vectors of queries, checked."""
        raise NotImplementedError

    @overload
    def explain(
        self,
        query: str | Representations,
        ids: str,
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> Explanation: ...

    @overload
    def explain(
        self,
        query: str | Representations,
        ids: list[str] | tuple[str, ...] | None = None,
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> list[Explanation]: ...

    def explain(
        self,
        query: str | Representations,
        ids: str | list[str] | tuple[str, ...] | None = None,
        k: int = 10,
        mode: Mode | None = None,
        fusion: Method | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
        plain: bool = False,
        idf_power: float | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> Explanation | list[Explanation]:
        """Why documents have their scores for a query, and where they rank.

        query: a text, or the vectors of one query. ids: one id gives an Explanation, several give a
        list in their order; None: the first ``k`` hits. The other arguments are those of
        ``search``. Raises InputError for ids that are not in the index.

        With feedback, the second query is explained; each term says whether feedback added it.

        Ranks are exact. For this, an approximate FAISS index compares the query with every vector.
        """
        request = self.request(
            k,
            mode,
            fusion,
            depth,
            exact,
            plain,
            idf_power,
            weights=weights,
            aggregate=aggregate,
            feedback=feedback,
            query_terms=query_terms,
        )
        vectors = self._one_query(query)
        if isinstance(ids, str):
            return self.explanations(vectors, request, [ids])[0]
        return self.explanations(vectors, request, ids)

    def explanations(
        self, vectors: Representations, request: Request, ids: Iterable[str] | None = None
    ) -> list[Explanation]:
        """``explain`` with the vectors of one query, as ``vectors`` gives them, and a request."""
        snapshot = self._snapshot
        if request.aggregate != MAX and len(request.parts) > 1 and not request.fusion.is_sum:
            raise InputError(
                f"aggregate {request.aggregate} with fusion {request.fusion.method} cannot be "
                f"explained; choose aggregate {MAX}, or fusion sum"
            )
        made = revised(snapshot, vectors, request) if request.revises else None
        inputs = snapshot.inputs(vectors, request) if made is None else made.inputs
        engine = snapshot.engine(request.parts)
        by_document = snapshot.by_document
        if by_document is not None:
            request = by_document.deepened(engine, inputs, request)
        if ids is not None:
            names = self._known(ids)
        elif by_document is not None:
            names = snapshot.ids(by_document.search(engine, engine, inputs, request)[0].documents)
        else:
            names = snapshot.ids(engine.search(inputs, request)[0].documents)
        explainer = Explainer(snapshot, vectors, request, self._token_offsets, made)
        if by_document is None:
            numbers = np.array(list(map(snapshot.numbering.number, names)), dtype=np.int64)
            return explainer.explain(numbers)
        if request.aggregate == MAX:
            rows = by_document.best_rows(engine, inputs, names, request)
            explained = explainer.explain(rows)
        else:
            groups = by_document.summed_rows(engine, inputs, names, request)
            explained = [summed(explainer.explain(own)) for own in groups]
            rows = np.array([own[0] for own in groups], dtype=np.int64)
        ranks = document_ranks(snapshot, inputs, request, rows)
        return [replace(each, ranks=own) for each, own in zip(explained, ranks, strict=True)]

    def _known(self, ids: Iterable[str]) -> list[str]:
        """These ids as a list; InputError unless all are of documents in the index."""
        names = list(map(check_id, ids))
        missing = [repr(name) for name in dict.fromkeys(names) if not self._snapshot.has(name)]
        if missing:
            raise InputError(
                f"{self.path}: has no document {', '.join(missing)}; give ids as a search shows "
                "them"
            )
        return names

    def snippet(
        self, query: str | Representations, document: Document | Hit | str, length: int = LENGTH
    ) -> Snippet:
        """The passage of a document's text with the most weight of the query's words and tokens.

        query: a text, or the vectors of one query. document: with a text, or a text itself.
        length: at most, in code points. For many documents, take ``matcher``.
        """
        text = document if isinstance(document, str) else document.text
        return self.matcher(self._one_query(query)).snippet(text, length)

    def matcher(self, vectors: Representations) -> Matcher:
        """Finds the terms of one query, given by its vectors, in any texts."""
        request = self.request(plain=vectors.texts is None)
        return matcher(self._snapshot, vectors, request, self._token_offsets)

    def _one_query(self, query: str | Representations) -> Representations:
        """The checked vectors of one query."""
        if isinstance(query, str):
            if is_blank(query):
                raise InputError("the question has no text; give it some words")
            return self.vectors([Query("0", query)])
        if not isinstance(query, Representations) or len(query) != 1:
            raise InputError("give one query: a text, or Representations of a single one")
        return self.vectors(query)

    @property
    def _token_offsets(self) -> Offsets | None:
        """The encoder's ``token_offsets``; None if it has none, or no encoder was loaded."""
        return getattr(self._encoder, "token_offsets", None)
