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
    while (parameters := _parameters(index, live, effort)) is not None:
        try:
            scores, rows = index.search(queries, k, params=parameters.value)
        except RuntimeError:  # this kind of index cannot search among some rows
            break
        if parameters.most or (rows >= 0).all():
            return scores, rows
        effort *= 4
    return _cut(*index.search(queries, _enough(k, live)), k, live)


class _Parameters:
    """FAISS's search parameters, and whether there are none that would find more."""

    def __init__(self, value: Any, most: bool) -> None:
        self.value, self.most = value, most


def _parameters(index: Any, live: np.ndarray, effort: int) -> _Parameters | None:
    """effort: how many times more is searched than at first. None for kinds that are not known."""
    import faiss

    selector = faiss.IDSelectorBitmap(np.packbits(live, bitorder="little"))
    inner = faiss.downcast_index(index)
    wrapped = isinstance(inner, faiss.IndexPreTransform)
    if wrapped:
        inner = faiss.downcast_index(inner.index)
    if isinstance(inner, faiss.IndexHNSW):
        most = len(live)
        share = most / max(int(live.sum()), 1)
        depth = min(most, int(inner.hnsw.efSearch * share * effort))
        made = _Parameters(faiss.SearchParametersHNSW(sel=selector, efSearch=depth), depth == most)
    elif isinstance(inner, faiss.IndexIVF):
        cells = min(inner.nlist, inner.nprobe * effort)
        parameters = faiss.SearchParametersIVF(sel=selector, nprobe=cells)
        made = _Parameters(parameters, cells == inner.nlist)
    elif isinstance(inner, faiss.IndexFlatCodes):  # all rows are compared: flat, PQ, SQ
        made = _Parameters(faiss.SearchParameters(sel=selector), True)
    else:
        return None
    if wrapped:
        made.value = faiss.SearchParametersPreTransform(index_params=made.value)
    return made


def _enough(k: int, live: np.ndarray) -> int:
    """How many of all rows surely hold ``k`` of those where ``live`` is true."""
    return min(len(live), k + len(live) - int(live.sum()))


def _cut(
    scores: np.ndarray, rows: np.ndarray, k: int, live: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The first ``k`` of each list that are live; -1 fills up."""
    best = np.full((len(rows), k), -np.inf, np.float32)
    found = np.full((len(rows), k), -1, np.int64)
    for number, (values, places) in enumerate(zip(scores, rows, strict=True)):
        kept = np.flatnonzero((places >= 0) & live[places])[:k]
        best[number, : len(kept)], found[number, : len(kept)] = values[kept], places[kept]
    return best, found
