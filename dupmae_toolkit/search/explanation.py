"""Why a document has its score: what each term and each part of the score gives to it.

A weighted sum is taken apart completely: the dense share and the shares of all terms sum to the
score. Where a fusion reads ranks or normalised scores, a term's share is of its own part's score,
and what the lists contribute sums to the fused score.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum
from typing import Any

from dupmae_toolkit.records import Passage
from dupmae_toolkit.search.ranks import Rank
from dupmae_toolkit.search.snippets import Snippet

#: The name of the final ranking among the ranks in the parts' lists.
FUSED = "fused"


@dataclass(frozen=True, slots=True)
class Term:
    """A term that a query and a document share.

    kind: ``token`` (of the encoder's vocabulary) or ``word`` (stemmed, counted by BM25).
    weight: the encoder's weight of a token in the query; how often a word is in the query.
    factor: the frequency factor of a token; a word's inverse document frequency.
    query_weight: their product, rounded as a search rounds it (to 16 bits if impacts go to 255).
    impact: the integer stored for the document. share: part's weight × query_weight × impact /
    scale. in_text: whether it stands in the document's title or text, of which the whole is read,
    however much of it was encoded; None if the encoder cannot tell. A token that does not stand
    there is an expansion by the encoder; a word always does. added: whether feedback added it to
    the query; after feedback, ``weight`` is that in the mixture.
    """

    term: str
    kind: str
    weight: float
    factor: float
    query_weight: float
    impact: int
    share: float
    in_text: bool | None
    added: bool = False

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one part gives to the score.

    score: the part's own. weight: of the part. contribution: what the part adds to the final score;
    None if the fusion does not score the document. scale: that of impacts; None for dense. rank: in
    the list that a fusion of ranks or norms read; None if the document was not in it.
    """

    score: float
    weight: float
    contribution: float | None
    scale: float | None = None
    rank: int | None = None

    def to_dict(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a document has its score for a query.

    score: as float64, before rankings round it to float32. None: the document is in none of the
    lists that a fusion of ranks or norms read, so it has none. lists: by part. terms: by share,
    largest first. ranks: by part, and ``fused`` for the final ranking; of all documents that can be
    found, proven, or for a fusion of ranks or norms of those that it ranks. additive: whether the
    score is a weighted sum, so that ``dense_share`` and the terms' shares sum to it.
    snippet: the passage with most of the terms' shares. title: the whole title.

    passage: in an index of passages, the one that is explained, the document's best; the snippet
    is of its text. Ranks are those of documents. summed: if the score is a sum over several
    passages, their numbers, best first; scores, impacts and shares are then sums over them.
    """

    id: str
    score: float | None
    lists: dict[str, Contribution]
    terms: tuple[Term, ...]
    ranks: dict[str, Rank]
    additive: bool
    title: Snippet
    snippet: Snippet
    passage: Passage | None = None
    summed: tuple[int, ...] = ()

    @property
    def dense_share(self) -> float:
        """What the dense part contributes to the score; 0 where it is not searched."""
        dense = self.lists.get("dense")
        return (dense.contribution or 0.0) if dense else 0.0

    def to_dict(self) -> dict[str, Any]:
        """As ``dupmae explain --json`` prints it."""
        where: dict[str, Any] = {}
        if self.passage is not None:
            where["passage"] = self.passage._asdict()
        if self.summed:
            where["passages"] = list(self.summed)
        return {
            "id": self.id,
            **where,
            "score": self.score,
            "dense_share": self.dense_share,
            "additive": self.additive,
            "terms": [term.to_dict() for term in self.terms],
            "lists": {part: each.to_dict() for part, each in self.lists.items()},
            "ranks": {name: each.rank for name, each in self.ranks.items()},
            "beyond": {name: r.beyond for name, r in self.ranks.items() if r.beyond is not None},
            "title": self.title.to_dict(),
            "snippet": self.snippet.to_dict(),
        }

    def __str__(self) -> str:
        """A line for the score, one for each part, and one for each term."""
        score = "no score" if self.score is None else f"{self.score:.4f}"
        lines = [f"{self.id}: {score}, {FUSED} rank {shown_rank(self.ranks[FUSED])}"]
        for part, each in self.lists.items():
            added = "–" if each.contribution is None else f"{each.contribution:.4f}"
            lines.append(
                f"  {part}: {added} from {each.score:.4f}, weight {each.weight:g}, rank "
                f"{shown_rank(self.ranks[part])}"
            )
        for term in self.terms:
            lines.append(
                f"  {term.share:.4f} {term.kind} {term.term!r}: {term.weight:.3g} × "
                f"{term.factor:.3g} in the query, impact {term.impact}{shown_origin(term)}"
            )
        return "\n".join(lines)


def summed(passages: Sequence[Explanation]) -> Explanation:
    """One explanation of a sum of scores, from those of the document's passages, best first."""
    best = passages[0]
    lists = {}
    for part, first in best.lists.items():
        own = [each.lists[part] for each in passages]
        added = fsum(each.contribution or 0.0 for each in own)
        lists[part] = replace(first, score=fsum(each.score for each in own), contribution=added)
    terms: dict[tuple[str, str], Term] = {}
    for term in (term for each in passages for term in each.terms):
        key = term.kind, term.term
        if key in terms:
            known = terms[key]
            term = replace(
                known,
                impact=known.impact + term.impact,
                share=known.share + term.share,
                in_text=known.in_text if known.in_text is None else known.in_text or term.in_text,
            )
        terms[key] = term
    return replace(
        best,
        score=fsum(each.score or 0.0 for each in passages),
        lists=lists,
        terms=tuple(sorted(terms.values(), key=lambda t: (-t.share, t.kind, t.term))),
        summed=tuple(each.passage.number for each in passages if each.passage is not None),
    )


def shown_rank(rank: Rank) -> str:
    """A rank for people."""
    if rank.rank is not None:
        return f"{rank.rank:,}"
    return "none" if rank.beyond is None else f"beyond {rank.beyond:,}"


def shown_origin(term: Term) -> str:
    """What to say of a term that is not known to stand in the text, or that feedback added."""
    where = {True: "", False: ", expansion", None: ", in the text or an expansion"}[term.in_text]
    return where + (", by feedback" if term.added else "")
