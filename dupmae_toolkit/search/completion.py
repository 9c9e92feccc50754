"""Candidates of both legs, each with both scores.

A document that only one leg returned has a score in the other all the same: it is computed from the
stored vectors, by the same arithmetic that scored the documents that the leg did return.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from dupmae_toolkit.search.legs import DenseLeg, LegList, LexicalLeg, Terms


@dataclass(slots=True)
class Candidates:
    """The n documents that either leg returned for one query.

    documents: int64 [n], ascending by number. scores: float64 [2, n], dense and lexical, all known.
    ranks: int64 [2, n], from 1; 0 where the leg did not return the document.
    """

    documents: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray


def unite(dense_list: LegList, lexical_list: LegList) -> Candidates:
    """Both lists of one query as one set; a score that a leg did not give is NaN."""
    lists = (dense_list, lexical_list)
    documents = _union(dense_list.documents, lexical_list.documents)
    scores = np.full((2, len(documents)), np.nan)
    ranks = np.zeros((2, len(documents)), dtype=np.int64)
    for row, listed in enumerate(lists):
        columns = np.searchsorted(documents, listed.documents)
        scores[row, columns] = listed.scores
        ranks[row, columns] = np.arange(1, len(columns) + 1)
    return Candidates(documents, scores, ranks)


def _union(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """What stands in either, int64, ascending; for a few hundred sooner than numpy's union1d."""
    both = np.concatenate([one, other])
    both.sort()
    first = np.ones(len(both), dtype=bool)
    np.not_equal(both[1:], both[:-1], out=first[1:])
    return both[first]


def complete(
    candidates: Candidates,
    dense_leg: DenseLeg,
    dense_query: np.ndarray,
    lexical_leg: LexicalLeg,
    lexical_query: Terms,
    every: list[np.ndarray] | None = None,
    only: np.ndarray | None = None,
) -> None:
    """Fill the gaps for one query (float32 [d], and its terms).

    every: of the lexical ``LegList``. only: the columns to be filled; None: all.
    """
    columns = np.arange(len(candidates.documents)) if only is None else only
    lacking = candidates.ranks[:, columns] == 0
    for row, gaps in enumerate(lacking):
        if gaps.any():
            places = columns[gaps]
            documents = candidates.documents[places]
            candidates.scores[row, places] = (
                lexical_leg.score(lexical_query, documents, every)
                if row
                else dense_leg.score(dense_query, documents)
            )
