"""Pyserini, both ways.

Stock Pyserini searches our ``faiss/`` and ``lucene/`` folders with the two query encoders below;
``ready`` makes it importable in this process. ``PyseriniIndex`` searches folders that stock
Pyserini wrote. Only ``ready`` imports Pyserini.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.vocabulary import lucene_terms, word_terms
from dupmae_toolkit.interop.pyserini_index import PyseriniIndex, load_encoder
from dupmae_toolkit.records import Encoder, Query
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.words import WordQueries

__all__ = ["DenseQueryEncoder", "LexicalQueryEncoder", "PyseriniIndex", "ready"]

#: Integer steps per query weight of 1. Anserini's time grows with the sum of the integers.
WEIGHT_SCALE = 1024

#: Pyserini makes a client of OpenAI when it is imported, which needs some key, even if unused.
_KEY = "OPENAI_API_KEY"
#: Version 2.4 fetches lists from the network when this module of it is imported.
_LISTS = "pyserini.prebuilt_index_info"
_SEARCHERS = ("pyserini.search.lucene", "pyserini.search.faiss")


def ready() -> None:
    """Make stock Pyserini's searchers importable in this process. Call it before importing them.

    On its own, Pyserini takes the first Java that it finds, which may be too old; asks it for a
    module that small runtimes lack, which ends the process; and wants a key of OpenAI. Here, Java
    is started as this package starts it, and the searchers are imported, with a stand-in for the
    key while that lasts. It takes some seconds; later calls do nothing. Raises DupMAEError if Java
    or Pyserini cannot be used.

    When it is imported, Pyserini 2.4 fetches lists of the indexes that it offers for download. If
    that fails, it gets empty ones, and a warning says so.
    """
    jvm.start()
    stand_in = not os.environ.get(_KEY)
    if stand_in:
        os.environ[_KEY] = "none"
    try:
        _import_searchers()
    except Exception as error:
        version = "of unknown version"
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            version = importlib.metadata.version("pyserini")
        raise DupMAEError(
            f"Pyserini {version} cannot be imported: {type(error).__name__}: {error}; `dupmae "
            "search` searches its indexes without it"
        ) from error
    finally:
        if stand_in:
            del os.environ[_KEY]


class _NoLists(ModuleType):
    """Instead of Pyserini's module of the indexes that it offers: each list in it is empty."""

    def __getattr__(self, name: str) -> dict[str, Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        return {}


def _import_searchers() -> None:
    try:
        for name in _SEARCHERS:
            importlib.import_module(name)
    except OSError as error:  # URLError is one
        if _LISTS in sys.modules:
            raise
        warnings.warn(
            f"Pyserini's lists of prebuilt indexes cannot be fetched ({error}), so it knows none "
            "in this process",
            UserWarning,
            stacklevel=3,
        )
        sys.modules[_LISTS] = _NoLists(_LISTS)
        for name in _SEARCHERS:
            importlib.import_module(name)


class LexicalQueryEncoder:
    """Queries for stock Pyserini's LuceneImpactSearcher over ``segments/*/lucene``.

    Stock Pyserini takes integer weights only: here round(weight × ``scale``), at least 1. The
    ranking is that of our lexical search with weights rounded to steps of 1 / scale. A score is
    ours × ``scale`` × the index's impact scale. Stock Pyserini also drops terms that occur in every
    document; ``min_idf=-1`` keeps them:

        ready()  # before Pyserini is imported
        with HybridIndex.open("indexes/notes") as index:
            LuceneImpactSearcher("indexes/notes/segments/000001/lucene",
                                 LexicalQueryEncoder(encoder, index=index), min_idf=-1)

    Without ``index``, weights are the encoder's, as the plain score has them. With it, they are
    those of its ``mode``, ``lexical`` or ``bm25``, in the state that is open. Those of BM25 need no
    encoder: with mode ``bm25`` it is neither loaded nor called, and may be None.
    """

    def __init__(
        self,
        encoder: Encoder | str | None,
        scale: int = WEIGHT_SCALE,
        index: HybridIndex | None = None,
        mode: str = "lexical",
    ) -> None:
        if scale < 1:
            raise InputError(f"a scale of {scale} would lose the weights; give at least 1")
        if mode not in ("lexical", "bm25"):
            raise InputError(f"mode {mode!r}: Lucene searches lexical or bm25")
        if mode == "bm25" and index is None:
            raise InputError("BM25's weights depend on the documents: mode bm25 needs the index")
        if mode == "lexical":
            if encoder is None:
                raise InputError("mode lexical needs an encoder; only BM25's weights need none")
            self._encoder = load_encoder(encoder)
            self._terms = lucene_terms(self._encoder.vocabulary)
        self._scale, self._index, self._mode = scale, index, mode

    def encode(self, text: str, **kwargs: Any) -> dict[str, int]:
        """Lucene's terms and their integer weights."""
        terms, values = self._weighted(text)
        weights = values.astype(np.float64) * self._scale
        if len(weights) and weights.max() >= 2**31:
            raise InputError(
                f"a query weight of {values.max():g} × {self._scale} does not fit into a Java "
                "int; give LexicalQueryEncoder a smaller scale"
            )
        integers = np.maximum(np.rint(weights), 1).astype(np.int64)
        return dict(zip(terms, integers.tolist(), strict=True))

    def _weighted(self, text: str) -> tuple[list[str], np.ndarray]:
        """Lucene's terms of a query, and their weights."""
        index = self._index
        if self._mode == "bm25":
            assert index is not None
            request = index.request(mode="bm25")
            vectors = index.vectors([Query("0", text)], request.parts)
            queries: WordQueries = index.inputs(vectors, request)["bm25"]
            words = [queries.words[place] for place in queries.weights.indices.tolist()]
            return word_terms(words), queries.weights.data
        vectors = self._encoder.encode_queries([text])
        given = vectors.lexical
        if index is not None:
            given = index.inputs(vectors, index.request(mode="lexical"))["lexical"]
        return [self._terms[column] for column in given.indices.tolist()], given.data


class DenseQueryEncoder:
    """Queries for stock Pyserini's FaissSearcher over ``segments/*/faiss``."""

    def __init__(self, encoder: Encoder | str) -> None:
        self._encoder = load_encoder(encoder)

    def encode(self, text: str, **kwargs: Any) -> np.ndarray:
        """The dense vector, float32 [d]."""
        return self._encoder.encode_queries([text]).dense[0]

    def encode_batch(self, texts: Sequence[str], **kwargs: Any) -> np.ndarray:
        """The dense vectors, float32 [n, d]."""
        return self._encoder.encode_queries(list(texts)).dense
