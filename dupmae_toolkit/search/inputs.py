"""What the legs take for queries: vectors and words, with the weights of the search's score."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.impacts import MAX_IMPACT, round_weights
from dupmae_toolkit.records import Representations, is_blank
from dupmae_toolkit.search.words import Weighted, WordQueries

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.frequencies import Frequencies

#: Scores are sums of such weights × impacts, and have to stay in the range of float32.
LARGEST_WEIGHT = 2.0**96


def leg_inputs(
    vectors: Representations,
    request: Request,
    max_impact: int,
    counted: Callable[[], Frequencies],
    words: Iterable[Mapping[str, float]] | None = None,
) -> dict[str, Any]:
    """What the legs of a request's parts take: dense float32 [q, d], lexical CSR [q, |V|], words.

    counted: gives the frequencies of the documents that are searched; called if they are needed.
    words: how often each word is in each query; None: as its text says.
    Raises InputError for a query without text where words are searched.
    """
    inputs: dict[str, Any] = {}
    for part in request.parts:
        if part == "dense":
            inputs[part] = np.ascontiguousarray(vectors.dense, dtype=np.float32)
        elif part == "lexical":
            power = request.idf_power
            factors = counted().factors(power) if power else None
            inputs[part] = rounded(vectors.lexical, max_impact, factors)
        else:
            if words is None:
                from dupmae_toolkit.analysis import count_words

                words = map(count_words, texts_of(vectors))
            inputs[part] = word_queries(words, max_impact, counted())
    return inputs


def texts_of(vectors: Representations) -> list[str]:
    """The texts of queries; InputError if any is not known."""
    texts = vectors.texts
    if texts is None or len(texts) != len(vectors.ids):
        raise InputError(
            "BM25 needs the texts of the queries, and there are only vectors; give "
            "Representations.texts, or leave BM25 out (--plain, plain=True)"
        )
    for name, text in zip(vectors.ids, texts, strict=True):
        if not isinstance(text, str) or (not text[:1].isalnum() and is_blank(text)):
            raise InputError(
                f"query {name!r} has vectors but no text, which BM25 needs; give it, or leave BM25 "
                "out (--plain, plain=True)"
            )
    return texts


def word_queries(
    queries: Iterable[Mapping[str, float]], max_impact: int, counted: Frequencies
) -> WordQueries:
    """The words of queries, each with idf × how often it occurs in the query, as Anserini has it.

    queries: how often each word occurs, or its weight in place of that. Words that no document has
    are left out.
    """
    columns: dict[str, int] = {}
    indices: list[int] = []
    counts: list[float] = []
    bounds = [0]
    for found in queries:
        indices += [columns.setdefault(word, len(columns)) for word in found]
        counts += found.values()
        bounds.append(len(indices))
    words, places = list(columns), np.array(indices, np.int64)
    frequencies = counted.of_words(words)
    idf = np.where(frequencies > 0, counted.idf(frequencies), 0.0)
    weights = round_weights(np.array(counts, np.float64) * idf[places], max_impact)
    everything = Weighted(weights, places, np.array(bounds, np.int64), len(words))
    return WordQueries(words, everything.kept(weights > 0))


def rounded(
    lexical: csr_matrix, max_impact: int = MAX_IMPACT, factors: np.ndarray | None = None
) -> csr_matrix:
    """Query weights as the lexical leg takes them: ``round_weights``, no zeros, indices sorted.

    factors: what each term's weight is multiplied by first, float64 [|V|]. InputError where they
    take a weight beyond what scores can be summed of.
    """
    from scipy.sparse import csr_matrix

    weights = lexical.tocsr()
    if not weights.has_canonical_format:
        weights = weights.astype(np.float32)
        weights.sum_duplicates()
    values = weights.data.astype(np.float32, copy=False)
    if factors is not None:
        given = values
        with np.errstate(over="ignore", invalid="ignore"):  # 0 × infinity is NaN
            values = values * factors[weights.indices]
        if not ((values <= LARGEST_WEIGHT) | (given > LARGEST_WEIGHT)).all():
            raise InputError(
                "the frequencies of terms take the query's weights out of range; choose a smaller "
                "idf power, or 0 to leave them out"
            )
    data = round_weights(values, max_impact)
    if type(weights) is csr_matrix and weights.indices.dtype == np.int32:
        # A shallow copy: for a new matrix, scipy's checks take a tenth of a search's time.
        twin = copy.copy(weights)
        twin.data = data
    else:
        twin = csr_matrix((data, weights.indices, weights.indptr), shape=weights.shape)
    if not data.all():
        twin = twin.copy()  # it still shares its indices with the matrix that was given
        twin.eliminate_zeros()
    return twin
