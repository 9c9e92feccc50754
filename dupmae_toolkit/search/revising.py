"""Revises queries before they are searched: feedback from a first ranking, and pruning.

The first ranking is that of the same request, with the number of documents that feedback reads, so
it is the same for every page. What feedback reads of documents comes from the forward store.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.index.forward import check_columns
from dupmae_toolkit.index.pruning import largest, without
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations
from dupmae_toolkit.search.answers import Answer, Request, default_depth
from dupmae_toolkit.search.inputs import leg_inputs, texts_of

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from dupmae_toolkit.search.feedback import Feedback
    from dupmae_toolkit.search.snapshot import Snapshot
    from dupmae_toolkit.search.words import WordQueries


@dataclass(slots=True)
class Revised:
    """q queries as they are searched.

    inputs: what the legs take. vectors: those that feedback made, or the ones given. counts: how
    often each word is in each query, as feedback changed it; None where words are not searched.
    first: the first rankings, one for each query; None without feedback. left_out: how many weights
    pruning left out, by part.
    """

    inputs: dict[str, Any]
    vectors: Representations
    counts: Sequence[Mapping[str, float]] | None
    first: list[Answer] | None
    left_out: dict[str, int]

    def certified(self, answers: Sequence[Answer]) -> list[Answer]:
        """The answers to these queries; proven only where the first ranking is proven too."""
        if self.first is None:
            return list(answers)
        made = []
        for answer, first in zip(answers, self.first, strict=True):
            both = answer.certificate.certified and first.certificate.certified
            made.append(replace(answer, certificate=replace(answer.certificate, certified=both)))
        return made

    def described(self, request: Request) -> dict[str, Any]:
        """What was done, for the metadata of a run."""
        about: dict[str, Any] = {}
        if request.feedback is not None:
            assert self.first is not None
            about["feedback"] = request.feedback.to_dict() | {
                "proven": sum(answer.certificate.certified for answer in self.first),
                "without_documents": sum(not len(answer.documents) for answer in self.first),
            }
        if request.query_terms is not None:
            about["query_terms"] = {"most": request.query_terms, "left_out": self.left_out}
        return about


def revised(
    snapshot: Snapshot, vectors: Representations, request: Request, progress: Progress = silent
) -> Revised:
    """The queries of a request with feedback, or pruned, or both: then both queries are pruned."""
    counts: Sequence[Mapping[str, float]] | None = None
    if "bm25" in request.parts:
        counts = [count_words(text) for text in texts_of(vectors)]
    inputs, left_out = _inputs(snapshot, vectors, counts, request)
    if request.feedback is None:
        return Revised(inputs, vectors, counts, None, left_out)
    first = _first(snapshot, inputs, request, progress)
    documents = [_Documents(snapshot, answer) for answer in first]
    if counts is not None:
        counts = [
            request.feedback.mixed(own, found.words(), found.scores)
            for own, found in zip(counts, documents, strict=True)
        ]
    vectors = _mixed(vectors, documents, request.feedback, request.parts)
    inputs, left_out = _inputs(snapshot, vectors, counts, request)
    return Revised(inputs, vectors, counts, first, left_out)


def inputs_of(snapshot: Snapshot, vectors: Representations, request: Request) -> dict[str, Any]:
    """What the legs take for these queries, revised if the request says so."""
    if request.revises:
        return revised(snapshot, vectors, request).inputs
    return snapshot.inputs(vectors, request)


def pruned(lexical: csr_matrix, most: int) -> csr_matrix:
    """Queries [q, |V|] with their ``most`` largest weights; of equal ones, the first tokens'."""
    kept = largest(lexical.data, lexical.indptr, most)
    return lexical if kept.all() else without(lexical, kept)


def _inputs(
    snapshot: Snapshot,
    vectors: Representations,
    counts: Sequence[Mapping[str, float]] | None,
    request: Request,
) -> tuple[dict[str, Any], dict[str, int]]:
    """What the legs take, and how many weights were left out of it, by part."""
    most, max_impact = request.query_terms, snapshot.manifest.max_impact
    inputs = leg_inputs(vectors, request, max_impact, lambda: snapshot.frequencies, counts)
    left_out: dict[str, int] = {}
    if most is None:
        return inputs, left_out
    if "lexical" in inputs:
        whole = inputs["lexical"]
        inputs["lexical"] = pruned(whole, most)
        left_out["lexical"] = int(whole.nnz - inputs["lexical"].nnz)
    if "bm25" in inputs:
        words: WordQueries = inputs["bm25"]
        inputs["bm25"] = words.pruned(most)
        left_out["bm25"] = len(words.weights.data) - len(inputs["bm25"].weights.data)
    return inputs, left_out


def _first(
    snapshot: Snapshot, inputs: Mapping[str, Any], request: Request, progress: Progress
) -> list[Answer]:
    """The rankings that feedback reads; nothing in them depends on the page that is asked for."""
    assert request.feedback is not None
    documents = request.feedback.documents
    start = replace(
        request,
        k=documents,
        offset=None,
        depth=default_depth(documents),
        feedback=None,
        query_terms=None,
    )
    find = snapshot.finder(request.parts, snapshot.selected(request))
    return find(inputs, start, progress)


class _Documents:
    """The documents of one answer, as feedback reads them: best first.

    In an index of passages, each is the best passage of a document.
    """

    def __init__(self, snapshot: Snapshot, answer: Answer) -> None:
        self._snapshot, self._numbers = snapshot, answer.documents
        self.scores: list[float] = answer.scores.tolist()

    def tokens(self) -> list[dict[int, float]]:
        """The impacts of each document's tokens, by column."""
        most = self._snapshot.manifest.encoder.vocabulary_size
        return [
            {column: impact for column, impact in own.items() if column < most}
            for _, own in self._held()
        ]

    def words(self) -> list[dict[str, float]]:
        """The impacts of each document's words."""
        most = self._snapshot.manifest.encoder.vocabulary_size
        named = [part.words for part in self._snapshot.searched]
        return [
            {named[at][column - most]: impact for column, impact in own.items() if column >= most}
            for at, own in self._held()
        ]

    def dense(self) -> np.ndarray:
        """The dense vectors, float32 [n, d]."""
        found = np.zeros((len(self._numbers), self._snapshot.manifest.encoder.dense_dim))
        for segment, where, rows in self._snapshot.numbering.by_segment(self._numbers):
            found[where] = self._snapshot.searched[segment].forward.dense(rows)
        return found

    def _held(self) -> list[tuple[int, dict[int, float]]]:
        """For each document, its segment and its impacts by column."""
        found: dict[int, tuple[int, dict[int, float]]] = {}
        for segment, where, rows in self._snapshot.numbering.by_segment(self._numbers):
            impacts = self._snapshot.searched[segment].forward.impacts[rows]
            check_columns(impacts)
            columns, values = impacts.indices.tolist(), impacts.data.tolist()
            bounds = impacts.indptr.tolist()
            for place, start, end in zip(where.tolist(), bounds, bounds[1:], strict=False):
                span = slice(start, end)
                own = dict(zip(columns[span], map(float, values[span]), strict=True))
                found[place] = segment, own
        return [found[place] for place in range(len(self._numbers))]


def _mixed(
    vectors: Representations,
    documents: Sequence[_Documents],
    feedback: Feedback,
    parts: Sequence[str],
) -> Representations:
    """The vectors that feedback makes of queries, for those parts that are searched."""
    from scipy.sparse import csr_matrix

    dense, lexical = vectors.dense, vectors.lexical
    if "dense" in parts and len(dense):
        rows = zip(dense, documents, strict=True)
        dense = np.array([feedback.dense(own, found.dense()) for own, found in rows], np.float32)
    if "lexical" in parts:
        given = csr_matrix(lexical, dtype=np.float64, copy=True)
        given.sum_duplicates()
        columns: list[int] = []
        weights: list[float] = []
        bounds = [0]
        for row, found in enumerate(documents):
            span = slice(*given.indptr[row : row + 2].tolist())
            terms = zip(given.indices[span].tolist(), given.data[span].tolist(), strict=True)
            mixed = feedback.mixed(dict(terms), found.tokens(), found.scores)
            for column in sorted(mixed):
                columns.append(column)
                weights.append(mixed[column])
            bounds.append(len(columns))
        arrays = np.array(weights, np.float32), np.array(columns, np.int32), np.array(bounds)
        lexical = csr_matrix(arrays, shape=given.shape)
    return replace(vectors, dense=dense, lexical=lexical)
