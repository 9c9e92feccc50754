"""Turns queries of any form into vectors that fit the index."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, Union

import numpy as np

from dupmae_toolkit.encoding.form import wrong_form
from dupmae_toolkit.encoding.vectors import GIVEN
from dupmae_toolkit.errors import EncoderMismatchError, InputError
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.model.pair_names import names_of_pair
from dupmae_toolkit.model.plugins import plugin
from dupmae_toolkit.records import Encoder, EncoderInfo, Query, Representations, is_blank

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.corpus import EncodedCorpus

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
        if not topic.text[:1].isalnum() and is_blank(topic.text):
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
    """``cut_line`` for these queries."""
    if vectors is None:
        return ""
    return cut_line(vectors.truncated, len(vectors), vectors.max_length, vectors.room, longer)


def cut_line(cut: int, queries: int, kept: int | None, room: int | None, longer: str) -> str:
    """How many queries were cut, and whether ``longer`` keeps more; "" if none was.

    kept, room: how many tokens were kept, and can be; None: not known. longer: the option that sets
    the length. One line, for people.
    """
    if kept is None or not cut:
        return ""
    were = f"{cut:,} of {queries:,} queries {'was' if cut == 1 else 'were'}"
    were = "the query was" if queries == 1 else were
    if room is None:
        more = f"{longer} keeps more, as far as the model reads"
    elif kept < room:
        more = f"{longer} keeps more, up to {room}"
    else:
        more = "the model reads no more"
    return f"{were} cut at {kept} tokens; {more}"


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
    """The named encoder, with the lengths, top-k, prefixes and pooling that the index has.

    remembered: the name is from a manifest, so it may be the path of a folder that is gone. It is
    then looked up on the network only if it is a hub id with its owner. query_max_length: where
    queries are cut instead. settings: ``device`` and ``precision``, as
    ``model.loading.load_encoder`` takes them.
    """
    if remembered and name == GIVEN:
        raise InputError(
            "its vectors were given, not encoded; give those of the queries (--query-vectors, "
            "encoder=StoredVectors(…))"
        )
    if remembered and not is_at_hand(name):
        raise InputError(f"{name}: no such folder here, nor a model in the hub's cache")
    from dupmae_toolkit.model import loading

    return loading.load_encoder(
        name,
        max_length=info.max_length,
        query_max_length=info.query_max_length if query_max_length is None else query_max_length,
        top_k=info.top_k,
        query_top_k=info.query_top_k,
        # Others are never chosen: they stand in the checkpoint.
        pooling=info.pooling if info.pooling in ("cls", "none") else None,
        prefix=info.prefix,
        query_prefix=info.query_prefix,
        **settings,
    )


def is_at_hand(name: str) -> bool:
    """Whether a name is a hub id with its owner, or names something on this machine."""
    path = Path(name)
    if name == "builtin" or path.is_dir():
        return True
    if (pair := names_of_pair(name)) is not None:
        return all(map(is_at_hand, pair))
    if plugin(name) is not None:
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
