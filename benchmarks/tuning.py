"""The best weight of two runs, against a grid of ranx.

ranx measures eleven weights from 0 to 1, its default; ours is the best of all weights. Both
normalise scores by min-max, count what a run lacks as 0, and measure nDCG@10. ranx orders ties
otherwise.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.fusing import DEPTH, as_dicts, synthetic_qrels, synthetic_run
from benchmarks.rows import Row, Sizes, against, in_turns, peer_import, timed
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.evaluation import tuning
from dupmae_toolkit.evaluation.tuning_topics import Topic
from dupmae_toolkit.records import Run

STEP = 0.1
MEASURE = "nDCG@10"
#: Judged documents of each topic; two thirds of them are relevant.
JUDGED = (10, 45)


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """A row for few and for many relevant documents."""
    depth = min(DEPTH, sizes.documents // 2 or 1)
    runs = [synthetic_run(sizes.queries, depth, sizes.documents, seed) for seed in (1, 2)]
    rows = []
    for judged in JUDGED:
        qrels = Qrels(synthetic_qrels(runs[0], judged))
        relevant = np.mean([sum(g > 0 for g in grades.values()) for grades in qrels.values()])
        size = f"{sizes.queries:,} topics × {depth:,}, {relevant:.0f} relevant"
        work = f"the best weight of two runs, {size}"
        rows += against(work, "ranx", lambda w=work, q=qrels: _tuning(w, runs, q))
    return rows


def _tuning(work: str, runs: list[Run], qrels: Qrels) -> Row:
    with peer_import("ranx"):
        import ranx
    judged = {t: {d: g for d, g in grades.items() if g > 0} for t, grades in qrels.items()}
    settings = {"norm": "min-max", "method": "wsum", "metric": "ndcg@10"}

    def ours() -> float:
        return tuning.tune(_topics(runs, qrels))[1].value

    def theirs(topics: int | None = None) -> float:
        names = list(judged)[:topics]
        asked = ranx.Qrels({name: judged[name] for name in names})
        loaded = []
        for run in runs:
            scores = as_dicts(run)
            loaded.append(ranx.Run({name: scores[name] for name in names}, name=run.tag))
        best = ranx.optimize_fusion(asked, loaded, **settings, step=STEP, show_progress=False)
        fused = ranx.fuse(loaded, norm="min-max", method="wsum", params=best)
        return float(ranx.evaluate(asked, fused, "ndcg@10"))

    theirs(2)  # compiles
    (mine, other), (ours_s, theirs_s) = in_turns(1, ours, theirs)
    topics = _topics(runs, qrels)
    sweep = timed(lambda: tuning.tune(topics))[1]
    points = round(1 / STEP) + 1
    same = f"{MEASURE} {mine:.4f}, the grid of {points} weights {other:.4f}; a sweep {sweep:.2f} s"
    return Row(work, "ranx", ours_s, theirs_s, same)


def _topics(runs: list[Run], qrels: Qrels) -> list[Topic]:
    return list(tuning.topics_of(qrels, runs, MEASURE, "min-max").values())
