"""TREC runs as a teacher: their scores by topic and document, fused if there are several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.mining.examples import Example
from dupmae_toolkit.records import Ranking
from dupmae_toolkit.search.fusion import Fusion

#: What to do with a text that one of the runs does not list for the query.
MISSING = ("min", "drop")


class RunsTeacher:
    """A fusion of TREC runs, or the scores of a single one.

    Each run's scores are normalised over all documents that it lists for the query. missing:
    ``min``, a text that a run does not list gets the run's lowest normalised score for the query
    (in rank fusion it adds nothing); ``drop``, such a text is left out. A query that is in no run
    is left out.
    """

    def __init__(
        self, paths: Sequence[str | Path], fusion: Fusion | None = None, missing: str = "min"
    ) -> None:
        if missing not in MISSING:
            raise InputError(f"missing {missing!r}: choose one of {', '.join(MISSING)}")
        chosen = fusion or Fusion("linear" if len(paths) > 1 else "sum")
        self.fusion = replace(chosen, missing="min")
        self.missing = missing
        self.paths = [Path(path) for path in paths]
        described = self.fusion.describe(len(paths), completed=False)  # refuses wrong weights
        self._fusion = {key: value for key, value in described.items() if key != "ties"}
        if missing == "drop":
            self._fusion["missing"] = "left out"
        self._runs = [read_run(path) for path in self.paths]
        self._hashes = [sha256_file(path) for path in self.paths]

    def describe(self) -> dict[str, Any]:
        runs = [
            {"path": str(path), "tag": run.tag, "sha256": digest}
            for path, run, digest in zip(self.paths, self._runs, self._hashes, strict=True)
        ]
        return {"kind": "runs", "runs": runs, "fusion": self._fusion}

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """float64 [passages], NaN for what is left out; see ``Teacher``."""
        return np.concatenate([np.zeros(0), *map(self._score_one, examples)])

    def _score_one(self, example: Example) -> np.ndarray:
        nothing = Ranking([], np.empty(0))
        lists = [run.topics.get(example.query_id, nothing) for run in self._runs]
        asked = [passage.id for passage in example.passages]
        if not any(len(ranking) for ranking in lists):
            return np.full(len(asked), np.nan)
        names = sorted({name for ranking in lists for name in ranking.ids} | set(asked))
        column = {name: number for number, name in enumerate(names)}
        scores = np.zeros((len(lists), len(names)))
        ranks = np.zeros((len(lists), len(names)), dtype=np.int64)
        for row, ranking in enumerate(lists):
            columns = [column[name] for name in ranking.ids]
            scores[row, columns] = ranking.scores
            ranks[row, columns] = np.arange(1, len(columns) + 1)
        with np.errstate(over="ignore", invalid="ignore"):
            fused = self.fusion.fuse(scores, ranks)
        if not (np.abs(fused) <= np.finfo(np.float32).max).all():
            raise InputError(
                f"topic {example.query_id}: the fused scores are too large for float32; normalise "
                "by min-max (--norm min-max, norm=…)"
            )
        if self.missing == "drop":
            fused = np.where((ranks > 0).all(axis=0), fused, np.nan)
        return fused[[column[name] for name in asked]]
