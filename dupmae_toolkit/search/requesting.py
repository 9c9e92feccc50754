"""Checked requests: what a search asks of an index, with the defaults of its manifest."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.search.answers import (
    AGGREGATES,
    MAX,
    MOST_DEPTH,
    PARTS,
    PLAIN,
    Request,
    check_k,
    check_offset,
    default_depth,
)
from dupmae_toolkit.search.feedback import Feedback
from dupmae_toolkit.search.filters import parse_filter
from dupmae_toolkit.search.fusion import METHODS, Fusion
from dupmae_toolkit.search.given import Weights, check_fusion, with_weights
from dupmae_toolkit.search.lookups import without_dense
from dupmae_toolkit.search.searcher import Searcher

if TYPE_CHECKING:
    from dupmae_toolkit.model.lookup import LookupEncoder
    from dupmae_toolkit.search.snapshot import Snapshot


class Requesting(Searcher):
    """Makes the requests of an index. Subclasses hold the open state.

    _lookup: what encodes queries without the network; None: the encoder does.
    """

    _snapshot: Snapshot
    _lookup: LookupEncoder | None

    mode = "hybrid"

    def request(
        self,
        k: int = 10,
        mode: str | None = None,
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
        feedback: Feedback | str | None = None,
        query_terms: int | None = None,
    ) -> Request:
        """A checked request; ``sum`` gets the index's weights, or the encoder's if ``plain``."""
        check_k(k)
        until = k
        if offset is not None:
            check_offset(offset)
            until = k + offset
        manifest, mode = self._snapshot.manifest, self.mode if mode is None else mode
        if mode == "bm25":
            self._check_words(plain)
        scoring = None if plain else manifest.scoring
        info, sides = manifest.encoder, self._snapshot.sides
        if mode in PLAIN and mode not in sides:
            (other,) = sides
            raise InputError(
                f"{self.path}: its encoder {info.name!r} gives no {mode} vectors; choose mode "
                f"hybrid or {other}"
            )
        each = (info.dense_weight, info.lexical_weight) if scoring is None else scoring.weights
        parts = sides if scoring is None else self._snapshot.parts
        own = each[: len(parts)]
        if parts != PARTS[: len(parts)]:
            own = tuple([each[PARTS.index(part)] for part in parts])
        if idf_power is None:
            idf_power = scoring.idf_power if scoring else 0.0
        elif plain and idf_power:
            raise InputError("the plain score has no frequencies; leave out plain or idf_power")
        if self._lookup is not None and not self._lookup.has_dense:
            parts, own = without_dense(self.path, mode, parts, own, left_out=self._lookup.left_out)
        if weights is not None:
            fusion = with_weights(fusion, weights, parts, mode)
        if isinstance(fusion, str):
            if fusion not in METHODS:
                check_fusion(fusion)  # which says what there is
            fusion = Fusion(fusion, own if fusion == "sum" else None)
        elif not isinstance(fusion, Fusion):
            check_fusion(fusion)
        elif fusion.method == "sum" and fusion.weights is None:
            fusion = replace(fusion, weights=own)
        if offset is not None:
            if fusion.is_sum or mode != "hybrid":
                exact = True  # what is not proven may depend on how much was asked for
            else:
                depth = MOST_DEPTH if depth is None else depth
                _check_page(k, offset, depth, fusion.method)
        if depth is None:
            depth = default_depth(int(until))
        parts = parts if mode == "hybrid" else ()
        if filter is not None and not isinstance(filter, str):
            parse_filter(filter)  # says what is wrong
        ids = None if among is None else ids_among(among)
        if aggregate is not None:
            self._check_aggregate(aggregate)
        again = None
        if feedback is not None or query_terms is not None:
            again = check_revising(feedback, query_terms, mode)
        return Request(
            k,
            mode,
            fusion,
            depth,
            exact,
            parts,
            idf_power,
            filter,
            ids,
            offset,
            aggregate or MAX,
            again,
            query_terms,
        )

    def _check_aggregate(self, aggregate: str) -> None:
        """Raise InputError unless documents can be ranked by their passages in this way."""
        if self._snapshot.manifest.passages is None:
            raise InputError(
                f"{self.path}: holds whole documents, which have no passages to aggregate; build "
                "it again with --passages (passages=…)"
            )
        if aggregate not in AGGREGATES:
            raise InputError(f"aggregate {aggregate!r}; choose one of {', '.join(AGGREGATES)}")

    def _check_words(self, plain: bool) -> None:
        """Raise InputError unless the index can be searched by BM25."""
        if plain:
            raise InputError("the plain score has no BM25; leave out plain, or mode bm25")
        if self._snapshot.manifest.scoring is None:
            raise InputError(
                f"{self.path}: was built by an earlier version, without BM25; `dupmae compact` "
                "adds it"
            )
        if self._snapshot.manifest.bm25 is None:
            raise InputError(f"{self.path}: was built without BM25; build it again with it")


def ids_among(ids: Iterable[str]) -> frozenset[str]:
    """Ids of documents to search among; InputError for anything but strings."""
    given: Any = (None,) if isinstance(ids, str | bytes) else ids
    try:
        found: frozenset[Any] = frozenset(given)
    except TypeError:
        found = frozenset((None,))
    if not all(isinstance(name, str) for name in found):
        raise InputError(f"among is a list of ids, each a string; it is {repr(ids)[:80]}")
    return found


def check_revising(
    feedback: Feedback | str | None, query_terms: int | None, mode: str
) -> Feedback | None:
    """The feedback, also of a method by name; InputError for what the mode has no terms for."""
    if isinstance(feedback, str):
        feedback = Feedback(feedback)
    if mode == "dense" and query_terms is not None:
        raise InputError(
            "mode dense has no terms to prune; leave out --query-terms (query_terms=…)"
        )
    if mode == "dense" and isinstance(feedback, Feedback) and feedback.method == "rm3":
        raise InputError(
            "mode dense has no terms, which rm3 mixes; choose --feedback rocchio or average "
            "(feedback=…)"
        )
    return feedback


def _check_page(k: int, offset: int, depth: int, method: str) -> None:
    if offset + k > depth:
        raise InputError(
            f"offset {offset} and k {k} go beyond the first {depth} documents of each part, which "
            f"fusion {method} reads for pages; give a larger depth to all pages, or use sum"
        )
