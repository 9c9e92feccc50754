"""What a study found: its record, and its tables over collections."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from dupmae_toolkit.errors import counted
from dupmae_toolkit.evaluation.bootstrap import Interval, interval_of_means
from dupmae_toolkit.evaluation.report.folder import Section
from dupmae_toolkit.evaluation.significance import (
    COLUMNS,
    Comparison,
    entry_of,
    is_marked,
    row_of,
)
from dupmae_toolkit.evaluation.sweep.grid import Cell, Grid
from dupmae_toolkit.evaluation.sweep.running import Made, Opened
from dupmae_toolkit.evaluation.sweep.study import MEAN, Study
from dupmae_toolkit.files import sha256_file

#: The version of the form of the record.
FORM = 1
#: The columns of the long table, a row for each run, collection and measure.
LONG = ("run", "collection", "encoder", "index", "score", *COLUMNS[1:])


@dataclass
class Results:
    """A study that has run. sections: by collection; those without any run are missing.

    Their p-values are corrected over all runs and collections of a measure.
    """

    study: Study
    grid: Grid
    collections: Sequence[Opened]
    made: Made
    sections: Mapping[str, Section]

    def __post_init__(self) -> None:
        self._compared = {
            (row.run, name, row.measure): row
            for name, section in self.sections.items()
            for row in section.measured.rows
        }

    def value(self, label: str, collection: str, measure: str) -> float | None:
        """A run's mean over the topics of a collection; None if the run failed."""
        section = self.sections.get(collection)
        scores = section.measured.scores.get(label) if section else None
        return None if scores is None else scores.means[measure]

    def comparison(self, label: str, collection: str, measure: str) -> Comparison | None:
        """A run against the baseline; None for the baseline, and if one of both failed."""
        return self._compared.get((label, collection, measure))

    def mean(self, label: str, measure: str) -> float | None:
        """The mean of a run's means; None if it lacks a collection."""
        values = [self.value(label, each.name, measure) for each in self.collections]
        known = [value for value in values if value is not None]
        return float(np.mean(known)) if len(known) == len(values) else None

    def difference(self, label: str, measure: str) -> Interval | None:
        """The mean over collections of the differences from the baseline, with its interval."""
        rows = [self.comparison(label, each.name, measure) for each in self.collections]
        known = [list(row.differences.values()) for row in rows if row is not None]
        return interval_of_means(known) if len(known) == len(rows) else None

    @property
    def comparisons(self) -> int:
        """How many comparisons there are in each measure."""
        measure = self.study.measures[0]
        return sum(row.measure == measure for row in self._compared.values())

    def notes(self) -> list[str]:
        """What a reader of the figures must know, a sentence each."""
        found = []
        if self.comparisons:
            found.append(
                f"Differences are from {self.grid.baseline}. p-values are after Holm's correction "
                f"over {'all ' if self.comparisons > 1 else ''}"
                f"{counted(self.comparisons, 'comparison')} of a measure: all runs on all "
                "collections."
            )
        tests = [each.name for each in self.collections if each.entry.tests and self.sections]
        if tests:
            a_test = "is a test" if len(tests) == 1 else "are tests"
            found.append(
                f"{', '.join(tests)} {a_test}. The best of {counted(len(self.grid.cells), 'run')} "
                "there is no test result: a run that is picked by these figures must be tested on "
                "other topics. `dupmae choose` chooses on development topics."
            )
        if self.grid.same:
            pairs = ", ".join(f"{one} ({other})" for one, other in self.grid.same.items())
            found.append(f"Not run again, because another run has the same ranking: {pairs}.")
        for name, section in self.sections.items():
            if self.grid.baseline not in section.measured.scores:
                found.append(f"{name}: nothing is compared, for {self.grid.baseline} failed.")
        return found

    def to_dict(self) -> dict[str, Any]:
        """The record. The same study over the same texts gives the same."""
        settings = asdict(self.study)
        return {
            "form": FORM,
            "study": {
                "file": settings.pop("path"),
                "sha256": settings.pop("sha256"),
                "settings": settings,
            },
            "baseline": self.grid.baseline,
            "measures": list(self.study.measures),
            "notes": self.notes(),
            "encoders": self.made.encoders,
            "collections": {each.name: self._collection(each) for each in self.collections},
            "same": self.grid.same,
            "runs": [
                self._run(cell, each.name) for each in self.collections for cell in self.grid.cells
            ],
            "means": [
                self._mean(cell.label, measure)
                for measure in self.study.measures
                for cell in self.grid.cells
            ],
        }

    def _collection(self, collection: Opened) -> dict[str, Any]:
        section = self.sections.get(collection.name)
        return {
            "source": collection.dataset.source,
            "split": collection.entry.judged_split,
            "is_test": collection.entry.tests,
            "texts": collection.texts,
            "judged_topics": len(section.qrels) if section else None,
            "encoded": collection.facts,
        }

    def _run(self, cell: Cell, collection: str) -> dict[str, Any]:
        path = self.made.runs[collection].get(cell.label)
        failures = [
            each.why
            for each in self.made.failures
            if (each.collection, each.run) == (collection, cell.label)
        ]
        measures = {}
        for name in self.study.measures if path else ():
            row = self.comparison(cell.label, collection, name)
            entry = entry_of(row) if row else {"mean": self.value(cell.label, collection, name)}
            measures[name] = {k: v for k, v in entry.items() if k not in ("run", "measure")}
        return {
            "run": cell.label,
            "collection": collection,
            "encoder": cell.encoder.name,
            "index": cell.index.name,
            "score": cell.score.name if cell.score else None,
            "state": "done" if path else "failed",
            "why": failures[0] if failures else None,
            "sha256": sha256_file(path) if path else None,
            "measures": measures,
        }

    def _mean(self, label: str, measure: str) -> dict[str, Any]:
        spread = self.difference(label, measure)
        return {
            "run": label,
            "measure": measure,
            "mean": self.mean(label, measure),
            "difference": spread.mean if spread else None,
            "interval": [spread.low, spread.high] if spread and spread.low is not None else None,
        }

    def long_rows(self) -> list[list[Any]]:
        """The rows below ``LONG``, of the runs that were made."""
        rows = []
        for each in self.collections:
            for cell in self.grid.cells:
                if cell.label not in self.made.runs[each.name]:
                    continue
                score = cell.score.name if cell.score else None
                about = [cell.label, each.name, cell.encoder.name, cell.index.name, score]
                for name in self.study.measures:
                    row = self.comparison(cell.label, each.name, name)
                    blank = [None] * (len(COLUMNS) - 3)
                    value = self.value(cell.label, each.name, name)
                    rows.append(about + (row_of(row)[1:] if row else [name, value, *blank]))
        return rows

    def wide(self, measure: str) -> tuple[list[str], list[list[tuple[float | None, bool]]]]:
        """A table of one measure: its columns, and for each cell of the grid a row of values.

        Each value is with whether it is marked: it differs from the baseline, see ``is_marked``.
        The last column is the mean over collections, if there are several.
        """
        names = [each.name for each in self.collections]
        rows = []
        for cell in self.grid.cells:
            row: list[tuple[float | None, bool]] = []
            for name in names:
                compared = self.comparison(cell.label, name, measure)
                marked = compared is not None and is_marked(compared)
                row.append((self.value(cell.label, name, measure), marked))
            if len(names) > 1:
                row.append((self.mean(cell.label, measure), False))
            rows.append(row)
        return names + ([MEAN] if len(names) > 1 else []), rows
