"""Computes explanations: which terms met, what each part adds, and where the document ranks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.analysis import count_words
from dupmae_toolkit.index.vocabulary import unescape
from dupmae_toolkit.records import Document, Representations
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.engine import Candidates
from dupmae_toolkit.search.explanation import FUSED, Contribution, Explanation, Term
from dupmae_toolkit.search.frequencies import Frequencies
from dupmae_toolkit.search.lexical import LexicalLeg
from dupmae_toolkit.search.ranking import check_finite
from dupmae_toolkit.search.ranks import Rank, fused_ranks, leg_ranks
from dupmae_toolkit.search.snippets import Matcher, Offsets, Snippet
from dupmae_toolkit.search.words import WordQueries

if TYPE_CHECKING:
    from dupmae_toolkit.search.revising import Revised
    from dupmae_toolkit.search.snapshot import Snapshot

#: What the documents of one query get, by row: contributions by part, scores, final ranks.
_Scored = tuple[list[dict[str, Contribution]], list[float | None], list[Rank]]
#: For each term of a query, by its key: its name, its weight, its factor, and both rounded.
_QueryTerms = dict[str | int, tuple[str, float, float, float]]


class Explainer:
    """Explains the scores of documents for one query in one state of an index."""

    def __init__(
        self,
        snapshot: Snapshot,
        vectors: Representations,
        request: Request,
        offsets: Offsets | None,
        revised: Revised | None = None,
    ) -> None:
        """vectors: those of the query alone. offsets: finds the encoder's tokens in a text.

        revised: the query as it is searched, if the request revises it.
        """
        self._snapshot, self._request, self._offsets = snapshot, request, offsets
        self._inputs = snapshot.inputs(vectors, request) if revised is None else revised.inputs
        self._engine = snapshot.engine(request.parts)
        weights = request.fusion.weights_for(len(request.parts)) if len(request.parts) > 1 else (1,)
        self._weights = dict(zip(request.parts, map(float, weights), strict=True))
        self._terms = {
            part: _query_terms(snapshot, part, self._inputs[part], vectors, request, revised)
            for part in request.parts
            if part != "dense"
        }
        #: The terms that the query had itself, by their keys; None: all.
        self._own: set[str | int] | None = None
        if revised is not None and revised.first is not None:
            words = count_words(vectors.texts[0]) if vectors.texts else ()
            self._own = {*vectors.lexical.tocsr()[0].indices.tolist(), *words}

    def explain(self, numbers: np.ndarray) -> list[Explanation]:
        """The explanations of documents by number, in their order."""
        documents = self._snapshot.documents(numbers)
        parts = self._request.parts
        legs = {part: self._engine.legs[part] for part in parts}
        scores = {part: leg.score(self._inputs[part], 0, numbers) for part, leg in legs.items()}
        ranks = {part: leg_ranks(leg, self._inputs[part], numbers) for part, leg in legs.items()}
        additive = len(parts) == 1 or self._request.fusion.is_sum
        scored = self._summed if additive else self._fused
        lists, totals, ranks[FUSED] = scored(numbers, scores)
        check_finite(np.array([total for total in totals if total is not None]))
        explained = []
        for row, (number, document) in enumerate(zip(numbers.tolist(), documents, strict=True)):
            terms = self._met(number, document, additive)
            explained.append(
                Explanation(
                    document.id,
                    totals[row],
                    lists[row],
                    tuple(sorted((t for _, t in terms), key=lambda t: (-t.share, t.kind, t.term))),
                    {name: found[row] for name, found in ranks.items()},
                    additive,
                    *self._passages(document, terms),
                    document.passage,
                )
            )
        return explained

    def _summed(self, numbers: np.ndarray, scores: Mapping[str, np.ndarray]) -> _Scored:
        """Contributions, scores and ranks where the score is a weighted sum, or one part."""
        lists, totals = [], []
        for row in range(len(numbers)):
            own = {
                part: self._contribution(part, found[row], self._weights[part] * float(found[row]))
                for part, found in scores.items()
            }
            lists.append(own)
            totals.append(sum(each.contribution or 0.0 for each in own.values()))
        return lists, list(totals), fused_ranks(self._engine, self._inputs, self._request, numbers)

    def _fused(self, numbers: np.ndarray, scores: Mapping[str, np.ndarray]) -> _Scored:
        """The same where the fusion reads ranks or norms: only some documents have a score."""
        found = self._engine.candidates(self._inputs, self._request)
        fusion = self._request.fusion
        fused = fusion.fuse(found.scores, found.ranks, completed=True)
        added = np.array(fusion.contributions(found.scores, found.ranks, completed=True))
        if fusion.method == "combmnz":
            added = added * (found.ranks > 0).sum(axis=0)
        order = self._engine.legs[self._request.parts[0]].numbering.order(found.documents, fused)
        standing = np.empty(len(order), np.int64)
        standing[order] = np.arange(1, len(order) + 1)
        lists, totals, ranks = [], [], []
        for row, number in enumerate(numbers.tolist()):
            column = _column(found, number)
            lists.append(
                {
                    part: self._contribution(
                        part,
                        own[row],
                        None if column is None else float(added[place, column]),
                        None if column is None else int(found.ranks[place, column]) or None,
                    )
                    for place, (part, own) in enumerate(scores.items())
                }
            )
            totals.append(None if column is None else float(fused[column]))
            ranks.append(Rank(None if column is None else int(standing[column])))
        return lists, totals, ranks

    def _contribution(
        self, part: str, score: float, contribution: float | None, rank: int | None = None
    ) -> Contribution:
        leg = self._engine.legs[part]
        scale = leg.scale if isinstance(leg, LexicalLeg) else None
        return Contribution(float(score), self._weights[part], contribution, scale, rank)

    def _met(self, number: int, document: Document, additive: bool) -> list[tuple[str | int, Term]]:
        """The terms that the query shares with a document, each with its key for a Matcher."""
        ((segment, _, rows),) = self._snapshot.numbering.by_segment(np.array([number]))
        searched = self._snapshot.searched[segment]
        impacts = searched.forward.impacts
        row = slice(*impacts.indptr[int(rows[0]) : int(rows[0]) + 2].tolist())
        held = dict(zip(impacts.indices[row].tolist(), impacts.data[row].tolist(), strict=True))
        standing: set[int] | None = None
        met: list[tuple[str | int, Term]] = []
        for part, terms in self._terms.items():
            weight = self._weights[part] if additive else 1.0
            scale = self._engine.legs[part].scale
            words = part == "bm25"
            for key, (name, raw, factor, rounded) in terms.items():
                column = searched.columns.get(str(key)) if words else int(key)
                impact = None if column is None else held.get(column)
                if impact is None:
                    continue
                share = weight * rounded * impact / scale
                in_text: bool | None = True
                if not words and self._offsets is None:
                    in_text = None
                elif not words:
                    assert self._offsets is not None
                    if standing is None:
                        standing = {token for token, *_ in self._offsets(document.contents)}
                    in_text = key in standing
                kind = "word" if words else "token"
                added = self._own is not None and key not in self._own
                term = Term(name, kind, raw, factor, rounded, impact, share, in_text, added)
                met.append((key, term))
        return met

    def _passages(
        self, document: Document, terms: Iterable[tuple[str | int, Term]]
    ) -> tuple[Snippet, Snippet]:
        """The title, and the passage of the text that holds most of the terms' shares."""
        pairs = [(key, term.share) for key, term in terms]
        matcher = Matcher(
            {key: share for key, share in pairs if isinstance(key, str)},
            {key: share for key, share in pairs if isinstance(key, int)},
            self._offsets,
        )
        title, text = document.title, document.text
        return matcher.snippet(title, max(len(title), 1)), matcher.snippet(text)


def _query_terms(
    snapshot: Snapshot,
    part: str,
    asked: Any,
    vectors: Representations,
    request: Request,
    revised: Revised | None,
) -> _QueryTerms:
    """The terms of a query that a leg searches. asked: what the leg takes."""
    if part == "bm25":
        if revised is None:
            assert vectors.texts is not None  # the leg's words were counted in them
            return _word_terms(asked, count_words(vectors.texts[0]), snapshot.frequencies)
        assert revised.counts is not None
        return _word_terms(asked, revised.counts[0], snapshot.frequencies)
    vectors = vectors if revised is None else revised.vectors
    raw = vectors.lexical.tocsr()[0].copy()
    raw.sum_duplicates()
    weights = dict(zip(raw.indices.tolist(), raw.data.tolist(), strict=True))
    power = request.idf_power
    factors = snapshot.frequencies.factors(power) if power else None
    return {
        column: (
            unescape(snapshot.terms[column]),
            weights[column],
            1.0 if factors is None else float(factors[column]),
            rounded,
        )
        for column, rounded in zip(asked.indices.tolist(), asked.data.tolist(), strict=True)
    }


def _word_terms(
    asked: WordQueries, counts: Mapping[str, float], counted: Frequencies
) -> _QueryTerms:
    """counts: how often each word is in the query, or its weight in place of that."""
    weights = _word_weights(asked)
    factors = counted.idf(counted.of_words(list(weights))).tolist()
    return {
        word: (word, float(counts[word]), factor, weight)
        for (word, weight), factor in zip(weights.items(), factors, strict=True)
    }


def _word_weights(asked: WordQueries) -> dict[str, float]:
    """The weight of each word of the only query."""
    words = map(asked.words.__getitem__, asked.weights.indices.tolist())
    return dict(zip(words, asked.weights.data.tolist(), strict=True))


def _column(found: Candidates, number: int) -> int | None:
    """The column of a document among candidates, which are in the order of their numbers."""
    column = int(np.searchsorted(found.documents, number))
    held = column < len(found.documents) and found.documents[column] == number
    return column if held else None


def matcher(
    snapshot: Snapshot, vectors: Representations, request: Request, offsets: Offsets | None
) -> Matcher:
    """Finds the terms of one query in texts, weighted as the request weights them.

    Where the request searches no words, those of the query's text count by how often they occur.
    """
    inputs = snapshot.inputs(vectors, request)
    weights = dict(zip(request.parts, request.fusion.weights_for(len(request.parts)), strict=True))
    words: dict[str, float] = {}
    tokens: dict[int, float] = {}
    if "bm25" in inputs:
        for word, weight in _word_weights(inputs["bm25"]).items():
            words[word] = weights["bm25"] * weight
    elif vectors.texts:
        words = {word: float(count) for word, count in count_words(vectors.texts[0]).items()}
    if "lexical" in inputs:
        asked = inputs["lexical"]
        for token, weight in zip(asked.indices.tolist(), asked.data.tolist(), strict=True):
            tokens[token] = weights["lexical"] * weight
    return Matcher(words, tokens, offsets)
