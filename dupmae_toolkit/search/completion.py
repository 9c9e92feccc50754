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


def complete(
    dense_leg: DenseLeg,
    dense_query: np.ndarray,
    dense_list: LegList,
    lexical_leg: LexicalLeg,
    lexical_query: Terms,
    lexical_list: LegList,
) -> Candidates:
    """Both lists of one query (float32 [d], and its terms) as one set, without gaps."""
    documents = np.union1d(dense_list.documents, lexical_list.documents)
    scores = np.empty((2, len(documents)), dtype=np.float64)
    ranks = np.zeros((2, len(documents)), dtype=np.int64)
    for row, listed in enumerate((dense_list, lexical_list)):
        columns = np.searchsorted(documents, listed.documents)
        scores[row, columns] = listed.scores
        ranks[row, columns] = np.arange(1, len(columns) + 1)
    lacking = ranks == 0
    scores[0, lacking[0]] = dense_leg.score(dense_query, documents[lacking[0]])
    scores[1, lacking[1]] = lexical_leg.score(
        lexical_query, documents[lacking[1]], lexical_list.every
    )
    return Candidates(documents, scores, ranks)
