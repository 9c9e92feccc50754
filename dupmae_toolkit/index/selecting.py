"""Searches a FAISS index among some of its rows.

FAISS tests each row that it comes across, so a search that goes no further than one of all rows
finds too few: HNSW explores more of its graph, IVF more cells, until enough rows were found.
"""

from __future__ import annotations

from typing import Any

import numpy as np


def selected(
    index: Any, queries: np.ndarray, k: int, live: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Scores float32 [q, k] and rows int64 [q, k] of the best of the rows where ``live`` is true.

    queries: float32 [q, d]. live: bool [n], true for at least k rows. -1 fills a list where an
    approximate index finds fewer, however far it goes.
    """
    effort = 1
    while True:
        parameters, most = _parameters(index, live, effort)
        if parameters is None:
            break
        try:
            scores, rows = index.search(queries, k, params=parameters)
        except RuntimeError:  # this kind of index cannot search among some rows
            break
        if most or (rows >= 0).all():
            return scores, rows
        effort *= 4
    # As many as surely hold k of the wanted ones.
    scores, rows = index.search(queries, min(len(live), k + len(live) - int(live.sum())))
    return _first_live(scores, rows, k, live)


def _parameters(index: Any, live: np.ndarray, effort: int) -> tuple[Any, bool]:
    """FAISS's search parameters, and whether no others would find more.

    effort: how many times more is searched than at first. None for an index of another kind.
    """
    import faiss as module

    faiss: Any = module  # its type hints know neither its attributes nor its arguments
    selector = faiss.IDSelectorBitmap(np.packbits(live, bitorder="little"))
    inner = faiss.downcast_index(index)
    if isinstance(inner, faiss.IndexPreTransform):
        found, most = _parameters(inner.index, live, effort)
        return found and faiss.SearchParametersPreTransform(index_params=found), most
    if isinstance(inner, faiss.IndexRefine):
        found, most = _parameters(inner.base_index, live, effort)
        factor = inner.k_factor
        return (
            found and faiss.IndexRefineSearchParameters(k_factor=factor, base_index_params=found),
            most,
        )
    if isinstance(inner, faiss.IndexHNSW):
        count = len(live)
        depth = min(count, inner.hnsw.efSearch * effort * count // max(int(live.sum()), 1))
        found, most = faiss.SearchParametersHNSW(sel=selector, efSearch=depth), depth == count
    elif isinstance(inner, faiss.IndexIVF):
        cells = min(inner.nlist, inner.nprobe * effort)
        found, most = faiss.SearchParametersIVF(sel=selector, nprobe=cells), cells == inner.nlist
    elif isinstance(inner, faiss.IndexFlatCodes):  # PQ, SQ: all rows are compared
        found, most = faiss.SearchParameters(sel=selector), True
    else:
        return None, True
    return found, most


def _first_live(
    scores: np.ndarray, rows: np.ndarray, k: int, live: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``k`` of each list that are live; -1 fills up."""
    best = np.full((len(rows), k), -np.inf, np.float32)
    found = np.full((len(rows), k), -1, np.int64)
    for number, (values, places) in enumerate(zip(scores, rows, strict=True)):
        kept = np.flatnonzero((places >= 0) & live[places])[:k]
        best[number, : len(kept)], found[number, : len(kept)] = values[kept], places[kept]
    return best, found
