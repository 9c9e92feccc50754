"""Ranks documents by their passages, where the rows of an index are passages.

The legs rank rows, and a proof about rows is made one about documents. Once the best rows down to a
score s are known, every other row scores at most s. So the best row of a document that was not seen
scores at most s, and its three best at most 3·s together (at most s, where s is negative: it may
have one passage only). The rows of the documents that were seen are all scored, where their sum
needs it. A document above the bound is settled; until enough documents are, more rows are searched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.search.answers import MAX, SUM3, Answer, Certificate, Request, page
from dupmae_toolkit.search.engine import BATCH, Engine
from dupmae_toolkit.search.ranking import check_finite

if TYPE_CHECKING:
    from dupmae_toolkit.search.numbering import Numbering
    from dupmae_toolkit.search.passage_map import PassageMap

#: Rows that are searched at first: at least so many, and so many for each document wanted.
_FIRST = {MAX: (64, 4), SUM3: (256, 16)}
#: How many of a document's passages ``sum3`` adds up.
_SUMMED = 3


class DocumentSearch:
    """Searches documents by their passages.

    In its answers a document is the row of its best passage: of equal ones, the first in the order
    of row ids. The scores of its parts are that passage's, or the sums over the passages added up.
    """

    def __init__(self, passages: PassageMap, numbering: Numbering) -> None:
        self._map, self._numbering = passages, numbering

    def search(
        self,
        engine: Engine,
        whole: Engine,
        inputs: Mapping[str, Any],
        request: Request,
        progress: Progress = silent,
    ) -> list[Answer]:
        """The ranking of each query; see ``Engine.search``.

        engine: searches the rows that may be found. whole: with the same parts, scores any row.
        """
        count = inputs[request.parts[0]].shape[0]
        if len(request.parts) > 1 and not request.fusion.is_sum:
            with progress("searching", count) as advance:
                answers = []
                for row in range(count):
                    answers.append(self._fused(engine, whole, inputs, row, request))
                    advance(1)
        else:
            answers = self._summed(engine, whole, inputs, count, request, progress)
        return page(answers, request.offset) if request.offset else answers

    def deepened(self, engine: Engine, inputs: Mapping[str, Any], request: Request) -> Request:
        """The request with the depth to which ``search`` reads the lists of the only query."""
        if len(request.parts) == 1 or request.fusion.is_sum:
            return request
        depths = self._fused(engine, engine, inputs, 0, request).certificate.depths
        return replace(request, depth=max(depths.values()))

    def scored(
        self,
        whole: Engine,
        inputs: Mapping[str, Any],
        row: int,
        names: Iterable[str],
        request: Request,
    ) -> dict[str, float]:
        """The scores of documents by id, without those that are not there; see ``Engine.score``."""
        found = {name: self._map.rows(name) for name in names}
        rows = np.concatenate([np.zeros(0, np.int64), *found.values()])
        best, sums, *_ = self._added(rows, whole.score(inputs, row, rows, request))
        if request.aggregate == MAX:
            sums = whole.score(inputs, row, best, request)
        scores = dict(zip(self._map.ids(best), sums.tolist(), strict=True))
        return {name: scores[name] for name, own in found.items() if len(own)}

    def best_rows(
        self, whole: Engine, inputs: Mapping[str, Any], names: Iterable[str], request: Request
    ) -> np.ndarray:
        """The rows of the passages that documents are ranked by, for the only query, int64 [n].

        A document that a fusion of ranks or norms does not rank has the row that is best in the
        first part.
        """
        ranked: dict[int, float] = {}
        if len(request.parts) > 1 and not request.fusion.is_sum:
            found = whole.candidates(inputs, request)
            fused = request.fusion.fuse(found.scores, found.ranks, completed=True)
            ranked = dict(zip(found.documents.tolist(), fused.tolist(), strict=True))
            request = replace(request, mode=request.parts[0], parts=request.parts[:1])
        best = []
        for name in names:
            rows = self._map.rows(name)
            listed = np.array([row for row in rows.tolist() if row in ranked], np.int64)
            if len(listed):
                rows, scores = listed, np.array([ranked[row] for row in listed.tolist()])
            else:
                scores = whole.score(inputs, 0, rows, request)
            best.append(rows[self._numbering.order(rows, scores)[0]])
        return np.array(best, np.int64)

    def summed_rows(
        self, whole: Engine, inputs: Mapping[str, Any], names: Iterable[str], request: Request
    ) -> list[np.ndarray]:
        """For each document, the rows whose scores ``sum3`` adds up for the only query, best first.

        request: for a weighted sum, or for one part.
        """
        found = []
        for name in names:
            rows = self._map.rows(name)
            scores = whole.score(inputs, 0, rows, request)
            found.append(rows[self._numbering.order(rows, scores)[:_SUMMED]])
        return found

    def _summed(
        self,
        engine: Engine,
        whole: Engine,
        inputs: Mapping[str, Any],
        count: int,
        request: Request,
        progress: Progress,
    ) -> list[Answer]:
        answers: list[Answer | None] = [None] * count
        pending = np.arange(count)
        most = max(1, engine.searchable)
        fewest, each = _FIRST[request.aggregate]
        asked = max(fewest, each * request.until)
        while len(pending):
            asked = min(asked, most)
            deeper = replace(request, k=asked, offset=None, depth=max(request.depth, asked))
            unsettled = []
            # The rows found for a batch are grouped before the next: together they fill the memory.
            for start in range(0, len(pending), BATCH):
                batch = pending[start : start + BATCH]
                some = (
                    inputs
                    if len(batch) == count
                    else {part: inputs[part][batch] for part in request.parts}
                )
                found = engine.search(some, deeper, progress if len(batch) == count else silent)
                for row, answer in zip(batch.tolist(), found, strict=True):
                    rest = len(answer.documents) == asked < most  # rows that were not returned
                    answers[row] = self._grouped(whole, inputs, row, request, answer, rest)
                    if answers[row] is None:
                        unsettled.append(row)
            pending = np.array(unsettled, dtype=np.int64)
            asked *= 4
        return [answer for answer in answers if answer is not None]

    def _grouped(
        self,
        whole: Engine,
        inputs: Mapping[str, Any],
        row: int,
        request: Request,
        answer: Answer,
        rest: bool,
    ) -> Answer | None:
        """The documents of the best rows; None if rows beyond these may change them.

        rest: whether there are such rows.
        """
        proven = answer.certificate.certified
        documents, first = np.unique(self._map.documents[answer.documents], return_index=True)
        if rest and len(documents) < request.until:
            return None
        bound = float(answer.scores[-1]) if rest else -np.inf
        if request.aggregate == MAX:
            best, scores = answer.documents[first], answer.scores[first]
        else:
            if rest and proven:
                documents = self._contenders(answer, documents, bound, request.until)
            bound = _most(bound)
            if len(documents) < request.until and rest:
                return None
            rows = self._map.rows_of(documents)
            own = whole.score(inputs, row, rows, request)
            best, scores, chosen, starts = self._added(rows, own)
        order = np.lexsort((documents, -scores))[: request.until]
        enough = len(order) == request.until
        settled = not rest or (enough and float(scores[order[-1]]) > bound)
        # What is not proven row by row is not searched deeper for a proof.
        if not settled and (proven or not enough):
            return None
        certificate = Certificate(proven and settled, answer.certificate.depths)
        if request.aggregate == MAX:
            parts = {part: own[first][order] for part, own in answer.parts.items()}
        else:
            parts = _parts(whole, inputs, row, request, *_picked(chosen, starts, order))
        return Answer(best[order], scores[order], parts, certificate)

    def _contenders(
        self, answer: Answer, documents: np.ndarray, bound: float, until: int
    ) -> np.ndarray:
        """Those of the documents seen whose sums may be among the best; none if nothing is settled.

        documents: of the rows of the answer, ascending. bound: no other row scores more.
        """
        owners = self._map.documents[answer.documents]
        counts = np.bincount(np.searchsorted(documents, owners), minlength=len(documents))
        sums = self._added(answer.documents, answer.scores)[1].astype(np.float64)
        lacking = np.maximum(_SUMMED - counts, 0)
        # A little more, since sums are rounded.
        above = np.nextafter((sums + lacking * max(bound, 0.0)).astype(np.float32), np.inf)
        if np.partition(above, -until)[-until] <= _most(bound):
            return documents[:0]
        known = sums[lacking == 0]
        least = np.partition(known, -until)[-until] if len(known) >= until else -np.inf
        found: np.ndarray = documents[above >= least]
        return found

    def _added(
        self, rows: np.ndarray, scores: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """For each document of some rows, by number: its best row, and the sum of its best scores.

        Also the rows that were added up, and where those of each document begin among them.
        """
        owners = self._map.documents[rows]
        by_score = self._numbering.order(rows, scores)
        by_document = by_score[np.argsort(owners[by_score], kind="stable")]
        rows, scores, owners = rows[by_document], scores[by_document], owners[by_document]
        starts = np.flatnonzero(np.concatenate([[True], owners[1:] != owners[:-1]]))
        if not len(rows):
            starts = np.zeros(0, np.int64)
        lengths = np.diff(np.concatenate([starts, [len(rows)]]))
        kept = np.arange(len(rows)) - np.repeat(starts, lengths) < _SUMMED
        rows, scores = rows[kept], scores[kept]
        starts = np.concatenate([[0], np.cumsum(np.minimum(lengths, _SUMMED))])[:-1]
        return rows[starts], _sums(scores, starts), rows, starts

    def _fused(
        self,
        engine: Engine,
        whole: Engine,
        inputs: Mapping[str, Any],
        row: int,
        request: Request,
    ) -> Answer:
        """The documents of one query by a fusion of the rows' ranks or normalised scores.

        Each leg lists ``depth`` rows; more of them until there are enough documents. Pages read
        lists of one depth.
        """
        one = {part: inputs[part][row : row + 1] for part in request.parts}
        depth = request.depth
        while True:
            found = engine.candidates(one, replace(request, k=1, offset=None, depth=depth))
            fused = request.fusion.fuse(found.scores, found.ranks, completed=True)
            check_finite(fused)
            scores = fused.astype(np.float32)
            best, sums, chosen, starts = self._added(found.documents, scores)
            if request.aggregate == MAX:
                sums, chosen = scores[np.searchsorted(found.documents, best)], best
                starts = np.arange(len(best))
            enough = len(best) >= request.until or depth >= engine.searchable
            if enough or request.offset is not None:
                break
            depth *= 4
        order = np.lexsort((self._map.documents[best], -sums))[: request.until]
        parts = _parts(whole, one, 0, request, *_picked(chosen, starts, order))
        certificate = Certificate(False, dict.fromkeys(request.parts, depth))
        return Answer(best[order], sums[order], parts, certificate)


def _picked(
    chosen: np.ndarray, starts: np.ndarray, order: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The rows of some documents among ``chosen``, in their order, and where each one's begin."""
    ends = np.concatenate([starts[1:], [len(chosen)]])
    pieces = [chosen[starts[place] : ends[place]] for place in order.tolist()]
    rows = np.concatenate([np.zeros(0, np.int64), *pieces])
    return rows, np.cumsum([0, *map(len, pieces)])[:-1]


def _parts(
    whole: Engine,
    inputs: Mapping[str, Any],
    row: int,
    request: Request,
    rows: np.ndarray,
    starts: np.ndarray,
) -> dict[str, np.ndarray]:
    """The scores of each part, summed over the rows of each document; float32 [documents]."""
    return {
        part: _sums(whole.legs[part].score(inputs[part], row, rows), starts)
        for part in request.parts
    }


def _most(bound: float) -> float:
    """What a document scores at most whose rows score ``bound`` at most, as float32."""
    return float(np.float32(max(_SUMMED * bound, bound)))


def _sums(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """The sums of stretches of ``values``, in float64, as float32; starts: where each begins."""
    if not len(starts):
        return np.zeros(0, np.float32)
    sums: np.ndarray = np.add.reduceat(values.astype(np.float64), starts)
    check_finite(sums)
    return sums.astype(np.float32)
