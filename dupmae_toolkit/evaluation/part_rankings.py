"""Rankings of the same topics by a sum of parts, by the sums that lack one, and by each alone.

They are the index's own searches, proven exact; the measure is nDCG@10.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.self_matches import without_self_matches
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Representations, Run
from dupmae_toolkit.search.answers import Request
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.hybrid_index import HybridIndex
from dupmae_toolkit.search.queries import Queries

MEASURE = "nDCG@10"
#: The name of the ranking by the sum of all parts.
SUM = "hybrid"
#: Hits of each ranking; a document beyond has no rank.
DEPTH = 100
#: What the ratio of the other parts' weights is multiplied by to refit them.
RATIOS = tuple(2.0 ** (step / 2) for step in range(-4, 5))


@dataclass(frozen=True, slots=True)
class Rankings:
    """runs and values, float64 [topics], by the ranking's name: ``SUM``, a part, ``without``."""

    runs: dict[str, Run]
    values: dict[str, np.ndarray]


def without(part: str, ratio: float | None = None) -> str:
    """The name of the ranking that lacks a part; ratio: that of the refitted weights."""
    return f"without {part}" + (f" × {ratio:.3g}" if ratio is not None else "")


def rank_by_parts(
    index: HybridIndex,
    vectors: Representations,
    qrels: Qrels,
    request: Request,
    *,
    refit: bool = False,
    drop_self: bool = False,
    progress: Progress = silent,
) -> Rankings:
    """All rankings of ``vectors``, whose topics are those of ``qrels``.

    request: that of the sum, for one hit more than ``DEPTH``. refit: also rank by the weights of
    ``RATIOS`` without each part. drop_self: leave out the document that has the topic's own id.
    """
    runs: dict[str, Run] = {}
    values: dict[str, np.ndarray] = {}
    asked = _requests(index, request, refit)
    with progress("ranking", len(asked)) as advance:
        for name, each in asked.items():
            run = index.run(vectors, each)
            if drop_self:
                run = without_self_matches(run, DEPTH)
            per_topic = evaluate(qrels, run, [MEASURE]).per_topic[MEASURE]
            values[name] = np.array([per_topic[topic] for topic in vectors.ids])
            runs[name] = run
            advance(1)
    return Rankings(runs, values)


def _requests(index: HybridIndex, request: Request, refit: bool) -> dict[str, Request]:
    weights = request.fusion.weights_for(len(request.parts))
    asked = {SUM: request}
    for place, part in enumerate(request.parts):
        asked[part] = index.request(request.k, part, exact=True, idf_power=request.idf_power)
        others = [weight if n != place else 0.0 for n, weight in enumerate(weights)]
        asked[without(part)] = _weighted(request, others)
        if refit and sum(map(bool, others)) > 1:
            first = next(n for n, weight in enumerate(others) if weight)
            for ratio in RATIOS:
                scaled = [w * ratio if n == first else w for n, w in enumerate(others)]
                asked[without(part, ratio)] = _weighted(request, scaled)
    return asked


def _weighted(request: Request, weights: Iterable[float]) -> Request:
    return replace(request, fusion=Fusion("sum", tuple(weights)))


def check_weights(parts: Sequence[str], weights: Sequence[float]) -> None:
    """Raise InputError if nothing is left of the sum without one of its parts."""
    if sum(map(bool, weights)) < 2:
        stated = ", ".join(f"{part} {w:g}" for part, w in zip(parts, weights, strict=True))
        raise InputError(
            f"weights {stated}: nothing is left without one part; give two a weight above 0"
        )


def judged_queries(
    queries: Queries, qrels: Qrels, sample: int | None = None, seed: int = 1
) -> tuple[Queries, dict[str, int]]:
    """The queries that are judged, and how many queries and topics were left out, by the reason.

    sample: how many to draw of them, by ``seed``, if there are more. Raises InputError if no query
    is judged, and for a sample of less than one.
    """
    if not isinstance(queries, Representations | Sequence):
        if queries.kind != "queries":
            raise InputError(
                f"{queries.folder}: holds documents; `dupmae encode --queries` encodes queries"
            )
        queries = queries.representations()
    if isinstance(queries, Representations):
        names = list(queries.ids)
    else:
        names = [query.id for query in queries]
    rows = [row for row, name in enumerate(names) if name in qrels]
    if not rows:
        raise InputError(
            f"not one of the {len(names):,} queries is judged; queries and judgements belong to "
            "different sets"
        )
    judged = len(rows)
    if sample is not None:
        rows = drawn(rows, [names[row] for row in rows], sample, seed)
    left_out = {
        "queries without judgements": len(names) - judged,
        "topics that were not drawn": judged - len(rows),
        "judged topics without a query": len(qrels.keys() - set(names)),
    }
    return take(queries, rows), left_out


def drawn(rows: Sequence[int], names: Sequence[str], count: int, seed: int) -> list[int]:
    """``count`` of the rows, in their order; all if there are no more.

    names: of the rows, all different. Which are drawn depends on the names and the seed alone.
    """
    if count < 1:
        raise InputError(f"a sample of {count} topics; draw at least one")
    if count >= len(rows):
        return list(rows)
    by_name = dict(zip(names, rows, strict=True))
    chosen = random.Random(seed).sample(sorted(by_name), count)
    return sorted(by_name[name] for name in chosen)


def take(queries: Queries, rows: Sequence[int]) -> Queries:
    """Some of the queries, by their places."""
    if not isinstance(queries, Representations):
        assert isinstance(queries, Sequence)
        return [queries[row] for row in rows]
    texts = queries.texts
    return replace(
        queries,
        ids=[queries.ids[row] for row in rows],
        dense=queries.dense[list(rows)],
        lexical=queries.lexical[list(rows)],
        texts=None if texts is None else [texts[row] for row in rows],
    )
