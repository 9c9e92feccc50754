"""Fusing and writing runs, against ranx and Pyserini; measuring them, against ir_measures.

The runs are synthetic; about half of each topic's thousand documents are in both runs. Fusion is by
reciprocal ranks with k = 60, which all three support, over all documents of both runs, so that the
results can be compared number by number.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import Row, Sizes, against, in_turns, peer_import, timed
from dupmae_toolkit.collection.opening import read_qrels
from dupmae_toolkit.collection.trec import read_run, write_run
from dupmae_toolkit.evaluation.measures import DEFAULT_MEASURES, evaluate
from dupmae_toolkit.fusing.fuse import fuse
from dupmae_toolkit.fusing.fusion import Fusion
from dupmae_toolkit.records import Ranking, Run

DEPTH = 1000
RRF_K = 60
#: Topics whose fused scores are compared.
_COMPARED = 100

#: Topic -> document -> score.
Fused = dict[str, dict[str, float]]


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """Fusing from memory and from files, for each peer; and measuring, both ways."""
    depth = min(DEPTH, sizes.documents // 2 or 1)
    runs = [synthetic_run(sizes.queries, depth, sizes.documents, seed) for seed in (1, 2)]
    paths = [folder / f"{run.tag}.trec" for run in runs]
    for run, path in zip(runs, paths, strict=True):
        write_run(run, path)
    size = f"{sizes.queries:,} topics × {depth:,}"
    measured = []
    # Measuring runs first: after a peer has left millions of objects behind, everything is slower.
    for reading in (False, True):
        work = f"{'reading and measuring' if reading else 'measuring'} {size}"
        measured += against(
            work, "ir-measures", lambda w=work, r=reading: _measuring(w, runs[0], paths[0], r)
        )
    rows = []
    for name, peer in (("ranx", Ranx), ("pyserini", Pyserini)):
        for work in ("fusing and writing", "reading, fusing and writing"):
            reading = work.startswith("reading")
            rows += against(
                f"{work} {size}",
                name,
                lambda p=peer, n=name, r=reading, w=work: _fusing(
                    f"{w} {size}", n, p(), runs, paths, r, folder
                ),
            )
    return rows + measured


def synthetic_run(topics: int, depth: int, documents: int, seed: int) -> Run:
    """A run whose topics rank ``depth`` of the same 2 · ``depth`` documents, none twice.

    Scores are float32 and all different, since each tool orders ties in its own way.
    """
    names = [f"d{number:08}" for number in range(documents)]
    rng = np.random.default_rng(seed)
    pool = np.random.default_rng(0)
    run = Run(tag=f"run{seed}")
    for topic in range(topics):
        start = int(pool.integers(documents))
        chosen = (start + rng.permutation(2 * depth)[:depth]) % documents
        steps = 0.01 + rng.random(depth)
        scores = np.cumsum(steps)[::-1].round(3).astype(np.float32)
        run.topics[f"q{topic}"] = Ranking.sorted([names[i] for i in chosen.tolist()], scores)
    return run


def as_dicts(run: Run) -> Fused:
    """A run in the form that the peers take."""
    return {
        topic: dict(zip(ranking.ids, ranking.scores.astype(float).tolist(), strict=True))
        for topic, ranking in run.topics.items()
    }


class Ranx:
    """Fusing with ranx, whose compiled code reads runs as dicts."""

    def __init__(self) -> None:
        with peer_import("ranx"):
            import ranx
        self._ranx = ranx
        small = [synthetic_run(2, 5, 20, seed) for seed in (1, 2)]
        # The first calls compile.
        self.write(self.fuse([self.load(run) for run in small]), Path(os.devnull))

    def load(self, run: Run) -> Any:
        return self._ranx.Run(as_dicts(run), name=run.tag)

    def read(self, path: Path) -> Any:
        return self._ranx.Run.from_file(str(path), kind="trec")

    def fuse(self, runs: list[Any]) -> Any:
        return self._ranx.fuse(runs, norm=None, method="rrf", params={"k": RRF_K})

    def write(self, run: Any, path: Path) -> None:
        run.name = "fused"
        run.save(str(path), kind="trec")

    def scores(self, run: Any, topics: list[str]) -> Fused:
        return {topic: dict(run.run[topic].items()) for topic in topics}


class Pyserini:
    """Fusing with Pyserini, whose runs are pandas tables."""

    def __init__(self) -> None:
        os.environ.setdefault("OPENAI_API_KEY", "none")
        with peer_import("pyserini"):
            from pyserini import fusion, trectools
        self._fusion, self._trectools = fusion, trectools

    def load(self, run: Run) -> Any:
        import pandas

        ranked = [(t, d, n) for t, r in run.topics.items() for n, d in enumerate(r.ids, 1)]
        frame = pandas.DataFrame(ranked, columns=["topic", "docid", "rank"])
        frame["score"] = np.concatenate([r.scores for r in run.topics.values()]).astype(float)
        frame["q0"], frame["tag"] = "Q0", run.tag
        loaded = self._trectools.TrecRun()
        loaded.run_data = frame[self._trectools.TrecRun.columns]
        return loaded

    def read(self, path: Path) -> Any:
        return self._trectools.TrecRun(filepath=str(path))

    def fuse(self, runs: list[Any]) -> Any:
        return self._fusion.reciprocal_rank_fusion(runs, rrf_k=RRF_K)

    def write(self, run: Any, path: Path) -> None:
        run.save_to_txt(str(path), tag="fused")

    def scores(self, run: Any, topics: list[str]) -> Fused:
        table = run.run_data
        table = table[table["topic"].isin(topics)]
        found: Fused = {topic: {} for topic in topics}
        columns = [table[name].tolist() for name in ("topic", "docid", "score")]
        for topic, document, score in zip(*columns, strict=True):
            found[topic][document] = float(score)
        return found


def _fusing(
    work: str, name: str, peer: Any, runs: list[Run], paths: list[Path], reading: bool, folder: Path
) -> Row:
    fusion = Fusion("rrf", rrf_k=RRF_K)
    # When reading is measured, the peer reads the files itself.
    loaded = [] if reading else [peer.load(run) for run in runs]

    def ours() -> Run:
        mine = [read_run(path) for path in paths] if reading else runs
        fused = fuse(mine, fusion, k=2 * DEPTH, tag="fused")
        write_run(fused, folder / "ours.trec")
        return fused

    def theirs() -> Any:
        fused = peer.fuse([peer.read(path) for path in paths] if reading else loaded)
        peer.write(fused, folder / f"{name}.trec")
        return fused

    (mine, other), (ours_s, theirs_s) = in_turns(1, ours, theirs)
    topics = list(mine.topics)
    step = -(-len(topics) // _COMPARED)
    topics = topics[::step]
    same = agreement({t: mine[t] for t in topics}, peer.scores(other, topics))
    return Row(work, name, ours_s, theirs_s, same)


def agreement(mine: dict[str, Ranking], theirs: Fused) -> str:
    """For how many topics both hold the same documents with the same scores, up to float32."""
    equal = 0
    for topic, ranking in mine.items():
        other = theirs[topic]
        if set(ranking.ids) == set(other):
            scores = np.array([other[document] for document in ranking.ids])
            equal += bool(np.allclose(ranking.scores, scores, rtol=1e-6))
    return f"the same documents and scores for {equal} of {len(mine)} topics looked at"


def _measuring(work: str, run: Run, path: Path, reading: bool) -> Row:
    with peer_import("ir-measures"):
        import ir_measures
    qrels_path = path.with_name("qrels.tsv")
    judged = synthetic_qrels(run)
    lines = [f"{t} 0 {d} {g}\n" for t, grades in judged.items() for d, g in grades.items()]
    qrels_path.write_text("".join(lines), "utf-8")
    measures = [ir_measures.parse_measure(name) for name in DEFAULT_MEASURES]
    scores = as_dicts(run)

    def ours() -> dict[str, float]:
        if reading:
            return evaluate(read_qrels(qrels_path), read_run(path)).means
        return evaluate(judged, run).means

    def theirs() -> dict[str, float]:
        if reading:
            given = [
                ir_measures.read_trec_qrels(str(qrels_path)),
                ir_measures.read_trec_run(str(path)),
            ]
        else:
            given = [judged, scores]
        means = ir_measures.calc_aggregate(measures, *given)
        return {str(measure): float(value) for measure, value in means.items()}

    functions: list[Callable[[], Any]] = [ours, theirs]
    for function in functions:
        timed(function)
    (mine, other), (ours_s, theirs_s) = in_turns(1, *functions)
    apart = max(abs(mine[name] - other[name]) for name in mine)
    same = f"{len(mine)} measures, at most {apart:.1e} apart"
    return Row(work, "ir-measures", ours_s, theirs_s, same)


def synthetic_qrels(run: Run, each: int = 10, seed: int = 5) -> dict[str, dict[str, int]]:
    """Judgements for ``each`` documents in every topic's ranking, with grades 0, 1 and 2."""
    rng = np.random.default_rng(seed)
    judged = {}
    for topic, ranking in run.topics.items():
        chosen = rng.choice(len(ranking), size=min(each, len(ranking)), replace=False).tolist()
        judged[topic] = {ranking.ids[i]: int(rng.integers(3)) for i in chosen}
    return judged
