"""Searching with queries of a lookup table (``model/lookup.py``), with or without dense vectors."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.model.config import DupMAEConfig
from dupmae_toolkit.records import Encoder, Representations
from dupmae_toolkit.search.queries import is_at_hand

if TYPE_CHECKING:
    from dupmae_toolkit.model.lookup import LookupEncoder

#: What may encode the texts of queries.
QUERY_ENCODERS = ("network", "lookup", "lookup-terms")


def check_lookup(query_encoder: str) -> None:
    """Raise InputError for a query encoder that does not exist."""
    if query_encoder not in QUERY_ENCODERS:
        raise InputError(
            f"there is no query encoder {query_encoder!r}; choose one of "
            f"{', '.join(QUERY_ENCODERS)}"
        )


def load_lookup(
    index: Path,
    manifest: Manifest,
    encoder: Encoder | str | None,
    query_max_length: int | None,
    *,
    dense: bool = True,
) -> LookupEncoder:
    """The lookup table of the encoder that an index was built with.

    encoder: whose table; None: that of the encoder that the manifest names. dense: whether to use
    its dense vectors, if it has any. Raises InputError if there is no table, and
    EncoderMismatchError for that of another encoder.
    """
    from dupmae_toolkit.model.lookup import read_lookup

    if query_max_length is not None:
        DupMAEConfig().but(query_max_length=query_max_length)
    info = manifest.encoder
    given = encoder if encoder is None or isinstance(encoder, str) else encoder.info.name
    try:
        if given is None and not is_at_hand(info.name):
            raise InputError(f"{info.name}: no such folder here, nor a model in the hub's cache")
        table = read_lookup(info.name if given is None else given)
    except InputError as error:
        hint = "" if given is not None else "; --model (encoder=…) names another folder of it"
        raise InputError(f"{index}: {error}{hint}") from error
    lookup = table.fitted_to(info, query_max_length)
    manifest.check_encoder(index, lookup.info)
    return lookup if dense else lookup.lexical_alone()


def without_dense(
    index: Path,
    mode: str,
    parts: tuple[str, ...],
    weights: tuple[float, ...],
    *,
    left_out: bool,
) -> tuple[tuple[str, ...], tuple[float, ...]]:
    """The parts of a hybrid score other than dense, with their weights.

    left_out: whether the table has dense vectors that are not used. Raises InputError for a mode
    that needs dense vectors, or if only one part is left.
    """
    other = "query encoder lookup"
    if not left_out:
        other = "leave out the query encoder, or fit its table to texts (dupmae derive-lookup)"
    if mode == "dense":
        raise InputError(
            f"{index}: was opened for queries without dense vectors; choose mode hybrid, lexical "
            f"or bm25, or {other}"
        )
    if mode == "hybrid" and len(parts) < 3:
        raise InputError(
            f"{index}: was opened for queries without dense vectors, so without BM25 only the "
            f"lexical part is left; choose mode lexical, or {other}"
        )
    return parts[1:], weights[1:]


def check_not_dense(index: Path, vectors: Representations) -> None:
    """Raise InputError for query vectors whose dense part would be ignored."""
    if vectors.dense.any():
        raise InputError(
            f"{index}: was opened for queries of a lookup table, and these have dense vectors; "
            "open it without query_encoder to search with them"
        )
