"""What callers give in one of several forms: queries, weights, encoders."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from numbers import Real
from typing import Any, TypeAlias

from dupmae_toolkit.collection.tables import is_frame
from dupmae_toolkit.errors import InputError, type_of
from dupmae_toolkit.progress import Progress, bar, silent
from dupmae_toolkit.records import Encoder, Query, Representations, is_blank
from dupmae_toolkit.search.fusion import METHODS, Fusion
from dupmae_toolkit.search.queries import Queries

#: A weight for each part of the score, in their order or by name; parts that are not named get 0.
Weights: TypeAlias = Sequence[float] | Mapping[str, float]

_QUERIES = (
    "give a list of texts or of Queries, a mapping of ids to texts, a data frame, or "
    "Representations"
)


def given_queries(queries: Any) -> Queries:
    """Queries in a form that is searched. Texts without ids are numbered from 0.

    Raises InputError for what holds no queries, and as ``read_topics`` does.
    """
    if isinstance(queries, Representations) or hasattr(queries, "representations"):
        return queries
    if isinstance(queries, str):
        raise InputError(
            f"the queries given: one text; {_QUERIES}. `search` takes a text, and "
            "`collection.opening.read_queries` reads a file"
        )
    items: Any = queries
    if not is_frame(queries) and not isinstance(queries, Mapping):
        if isinstance(queries, bytes | Query | os.PathLike) or not isinstance(queries, Iterable):
            raise InputError(f"the queries given: {type_of(queries)}; {_QUERIES}")
        items = list(queries)
        if all(isinstance(item, Query) for item in items):
            return items
        for place, item in enumerate(items):
            if not isinstance(item, Query | str | Mapping):
                raise InputError(
                    f"the queries given: number {place} (from 0) is {type_of(item)}; {_QUERIES}"
                )
    from dupmae_toolkit.collection.opening import read_queries

    return read_queries(items)


def with_weights(fusion: str | Fusion, weights: Weights, parts: Sequence[str], mode: str) -> Fusion:
    """A fusion with weights. parts: those of the hybrid score. InputError if they do not fit."""
    if mode != "hybrid":
        raise InputError(f"mode {mode} has one part, which needs no weight; leave out weights")
    check_fusion(fusion)
    if isinstance(fusion, Fusion) and fusion.weights is not None:
        raise InputError("weights are in the fusion already; give them once")
    values: Any = weights
    if isinstance(weights, Mapping):
        unknown = [repr(name) for name in weights if name not in parts]
        if unknown:
            raise InputError(
                f"weights for {', '.join(unknown)}; the parts of the score are {', '.join(parts)}"
            )
        values = [weights.get(part, 0.0) for part in parts]
    elif isinstance(weights, str | bytes) or not isinstance(weights, Iterable):
        values = (None,)
    numbers = tuple(values)
    if not all(isinstance(number, Real) and not isinstance(number, bool) for number in numbers):
        raise InputError(
            f"weights are numbers, one each for {', '.join(parts)}, or a mapping of their names to "
            f"numbers; not {repr(weights)[:80]}"
        )
    floats = tuple(map(float, numbers))
    if isinstance(fusion, Fusion):
        return replace(fusion, weights=floats)
    return Fusion(fusion, floats)


def check_fusion(fusion: Any) -> None:
    """Raise InputError unless ``fusion`` is the name of one that a search has, or a Fusion."""
    if isinstance(fusion, str) and fusion not in METHODS:
        raise InputError(
            f"a search of an index has no fusion {fusion!r}; choose one of {', '.join(METHODS)}"
        )
    if not isinstance(fusion, str | Fusion):
        raise InputError(
            f"fusion is {type_of(fusion)}; give one of {', '.join(METHODS)}, or a Fusion"
        )


def given_encoder(encoder: Any) -> Encoder:
    """An encoder, or the one of that name or folder, loaded; InputError for anything else."""
    if isinstance(encoder, str | os.PathLike):
        from dupmae_toolkit.model import loading

        return loading.load_encoder(os.fspath(encoder))
    check_encoder(encoder, "encode_documents")
    loaded: Encoder = encoder
    return loaded


def check_encoder(encoder: Any, *methods: str) -> None:
    """Raise InputError unless ``encoder`` looks like an encoder, with these methods."""
    needed = ("info", "vocabulary", *methods)
    lacks = [name for name in needed if not hasattr(encoder, name)]
    if lacks:
        raise InputError(
            f"encoder is {type_of(encoder)}, which has no {lacks[0]}; give builtin, the "
            "name or folder of a model, or what load_encoder returns"
        )


def check_text(text: str) -> None:
    """Raise InputError for a question without text."""
    if is_blank(text):
        raise InputError("the question has no text; give it some words")


def shown_by(progress: Any) -> Progress:
    """How progress is shown: True by ``bar``, False or None not at all, or by what is given."""
    if progress is None or isinstance(progress, bool):
        return bar if progress else silent
    if not callable(progress):
        raise InputError(
            f"progress is {type_of(progress)}; give True, False, or a function as "
            "dupmae_toolkit.progress describes it"
        )
    given: Progress = progress
    return given


def check_id(name: Any) -> str:
    """``name``, if it can be an id; InputError if it is no string."""
    if not isinstance(name, str):
        raise InputError(f"the id {name!r} is {type_of(name)}; ids are strings")
    return name
