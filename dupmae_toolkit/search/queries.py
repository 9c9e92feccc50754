"""Turns queries of any form into vectors that fit the index."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from dupmae_toolkit.encoding.form import wrong_form
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.index.impacts import MAX_IMPACT, round_weights
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.records import Encoder, EncoderInfo, Query, Representations
from dupmae_toolkit.search.words import Weighted, WordQueries

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.frequencies import Frequencies

#: Scores are sums of such weights × impacts, and have to stay in the range of float32.
LARGEST_WEIGHT = 2.0**96

#: Texts, vectors in memory, or a folder written by `dupmae encode --queries`.
Queries: TypeAlias = Union[Sequence[Query], Representations, "EncodedCorpus"]


def query_vectors(
    queries: Queries, info: EncoderInfo | None, index: Path, encoder: Callable[[], Encoder]
) -> Representations:
    """The vectors of queries for an index that was built with ``info``; None: unknown.

    ``encoder`` is called for texts only. Raises InputError for empty texts, duplicate ids and
    vectors that do not fit; EncoderMismatchError for a folder of another encoder.
    """
    if isinstance(queries, Representations):
        vectors = queries
        _check_ids(vectors.ids)
    elif isinstance(queries, Sequence):
        ids, texts = _read(queries)
        made_by = encoder()
        vectors = made_by.encode_queries(texts, ids)
        if not isinstance(vectors, Representations) or list(vectors.ids) != ids:
            raise InputError(
                f"the encoder gave no vectors of the {len(ids)} queries, in their order; it must "
                "return Representations with their ids"
            )
        vectors.texts = texts
        if vectors.max_length is None:  # an encoder of the user's
            vectors = replace(vectors, max_length=made_by.info.query_max_length)
    else:
        _check_kind(queries)
        differ = info.differences(queries.info) if info is not None else []
        if info is not None and differ:
            raise EncoderMismatchError(
                f"{queries.folder}: encoded with {queries.info.name!r}, but {index} was built with "
                f"{info.name!r}: they differ in {', '.join(differ)}; encode the queries as the "
                "documents were"
            )
        vectors = queries.representations()
        _check_ids(vectors.ids)
    _check_vectors(vectors, info)
    return vectors


def texts_alone(queries: Queries) -> Representations:
    """Queries for BM25, which needs their texts only: no encoder is called.

    Their vectors have no columns: dense float32 [q, 0], lexical CSR [q, 0]. Raises InputError for
    empty texts and duplicate ids.
    """
    from scipy.sparse import csr_matrix

    texts: list[str] | None
    if isinstance(queries, Representations):
        ids, texts = list(queries.ids), queries.texts
    elif isinstance(queries, Sequence):
        ids, texts = _read(queries)
    else:
        _check_kind(queries)
        vectors = queries.representations()
        ids, texts = vectors.ids, vectors.texts
    _check_ids(ids)
    nothing = np.zeros((len(ids), 0), np.float32)
    return Representations(ids, nothing, csr_matrix(nothing.shape, dtype=np.float32), texts=texts)


def _read(queries: Sequence[Query]) -> tuple[list[str], list[str]]:
    """Ids and texts of queries; InputError for an empty text or an id that comes twice."""
    texts, ids = [], []
    for topic in queries:
        if not topic.text.strip():
            raise InputError(f"query {topic.id!r} has no text; give it some words")
        texts.append(topic.text)
        ids.append(topic.id)
    _check_ids(ids)
    return ids, texts


def _check_kind(queries: EncodedCorpus) -> None:
    """Raise InputError for a folder of encoded documents."""
    if queries.kind != "queries":
        raise InputError(
            f"{queries.folder}: holds documents; `dupmae encode --queries` encodes queries"
        )


def said_cut(vectors: Representations | None, longer: str) -> str:
    """How many queries were cut, and whether ``longer`` keeps more; "" if none was.

    longer: the option that sets the length. One line, for people.
    """
    if vectors is None or vectors.max_length is None or not vectors.truncated:
        return ""
    cut, queries, room = vectors.truncated, len(vectors), vectors.room
    were = f"{cut:,} of {queries:,} queries {'was' if cut == 1 else 'were'}"
    were = "the query was" if queries == 1 else were
    if room is None:
        more = f"{longer} keeps more, as far as the model reads"
    elif vectors.max_length < room:
        more = f"{longer} keeps more, up to {room}"
    else:
        more = "the model reads no more"
    return f"{were} cut at {vectors.max_length} tokens; {more}"


def check_query_length(length: int | None, encoder: Encoder | str | None) -> None:
    """Raise InputError for a maximal length of queries that ``encoder`` cannot be given.

    length: in tokens, special ones included; None leaves it to the encoder.
    """
    if length is None:
        return
    DupMAEConfig().but(query_max_length=length)
    if encoder is None or isinstance(encoder, str) or encoder.info.query_max_length == length:
        return
    raise InputError(
        f"query_max_length is {length}, but the encoder is loaded already and cuts queries at "
        f"{encoder.info.query_max_length} tokens; give its name, or load it with that length"
    )


def load_encoder(
    name: str,
    info: EncoderInfo,
    *,
    remembered: bool = False,
    query_max_length: int | None = None,
    **settings: Any,
) -> Encoder:
    """The named encoder, with the maximal lengths and top-k that the index was built with.

    remembered: the name is from a manifest, so it may be the path of a folder that is gone. It is
    then looked up on the network only if it is a hub id with its owner. query_max_length: where
    queries are cut instead. settings: ``device`` and ``precision``, as
    ``model.loading.load_encoder`` takes them.
    """
    if remembered and not _is_at_hand(name):
        raise InputError(f"{name}: no such folder here, nor a model in the hub's cache")
    from dupmae_toolkit.model import loading

    return loading.load_encoder(
        name,
        max_length=info.max_length,
        query_max_length=info.query_max_length if query_max_length is None else query_max_length,
        top_k=info.top_k,
        query_top_k=info.query_top_k,
        **settings,
    )


def _is_at_hand(name: str) -> bool:
    """Whether a name is a hub id with its owner, or names something on this machine."""
    path = Path(name)
    if name == "builtin" or path.is_dir():
        return True
    if path.is_absolute():
        return False
    if "/" in name:
        return True
    from huggingface_hub import try_to_load_from_cache

    try:
        return isinstance(try_to_load_from_cache(name, "config.json"), str)
    except ValueError:  # no hub id
        return False


def leg_inputs(
    vectors: Representations, request: Request, max_impact: int, counted: Callable[[], Frequencies]
) -> dict[str, Any]:
    """What the legs of a request's parts take: dense float32 [q, d], lexical CSR [q, |V|], words.

    counted: gives the frequencies of the documents that are searched; called if they are needed.
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
            inputs[part] = word_queries(texts_of(vectors), max_impact, counted())
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
        if not isinstance(text, str) or not text.strip():
            raise InputError(
                f"query {name!r} has vectors but no text, which BM25 needs; give it, or leave BM25 "
                "out (--plain, plain=True)"
            )
    return texts


def word_queries(texts: Sequence[str], max_impact: int, counted: Frequencies) -> WordQueries:
    """The words of queries, each with idf × how often it occurs in the query, as Anserini has it.

    Words that no document has are left out.
    """
    from dupmae_toolkit.analysis import count_words

    columns: dict[str, int] = {}
    indices: list[int] = []
    counts: list[int] = []
    bounds = [0]
    for text in texts:
        found = count_words(text)
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
        with np.errstate(over="ignore", invalid="ignore"):  # 0 × infinity is NaN
            values = values * factors[weights.indices]
        if not (values <= LARGEST_WEIGHT).all():
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


def _check_vectors(vectors: Representations, info: EncoderInfo | None) -> None:
    """Raise InputError for query vectors that do not fit the index or hold bad numbers."""
    count = len(vectors.ids)
    got = (tuple(np.shape(vectors.dense)), tuple(np.shape(vectors.lexical)))
    if info is None:
        if (len(vectors.dense), vectors.lexical.shape[0]) != (count, count):
            raise InputError(f"query vectors of shapes {got[0]} and {got[1]} for {count} queries")
    elif got != ((count, info.dense_dim), (count, info.vocabulary_size)):
        raise InputError(
            f"query vectors of shapes {got[0]} and {got[1]} for {count} queries; the index has "
            f"{info.dense_dim} dimensions and {info.vocabulary_size} terms: encode the queries "
            f"with {info.name!r}"
        )
    width = got[0][1] if len(got[0]) == 2 else 0
    terms = got[1][1] if len(got[1]) == 2 else 0
    message = wrong_form(vectors, vectors.ids, (count, width), (count, terms))
    if message:
        raise InputError(f"the query vectors cannot be used: their encoder {message}")
    with np.errstate(over="ignore"):
        dense = vectors.dense.astype(np.float32, copy=False)
        weights = vectors.lexical.data.astype(np.float32, copy=False)
    if not np.isfinite(dense).all() or not np.isfinite(weights).all():
        raise InputError("the query vectors hold NaN or infinity; encode the queries again")
    if vectors.lexical.nnz and vectors.lexical.data.min() < 0:
        raise InputError("the queries' lexical weights hold negative numbers; encode them again")


def _check_ids(ids: Sequence[str]) -> None:
    seen: set[str] = set()
    for name in ids:
        if name in seen:
            raise InputError(f"query {name!r} comes twice; ids must be unique")
        seen.add(name)
