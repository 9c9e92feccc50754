"""Judgements in the form that measures need: whole grades, fractions, or grades by subtopic."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dupmae_toolkit.collection.beir import calls_to_drop_self
from dupmae_toolkit.collection.opening import read_real_qrels, read_subtopics
from dupmae_toolkit.collection.qrels import RealQrels, trec_lines
from dupmae_toolkit.collection.subtopics import Subtopics
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.diversity import is_diversity, merged
from dupmae_toolkit.evaluation.gains import check_grades, graded
from dupmae_toolkit.evaluation.measures import (
    Scores,
    evaluate,
    evaluate_subtopics,
    parse_measures,
)
from dupmae_toolkit.evaluation.missed import Missed, missed_by
from dupmae_toolkit.evaluation.self_matches import (
    SelfMatches,
    self_matches,
    without_self_matches,
)
from dupmae_toolkit.files import atomic_file
from dupmae_toolkit.records import Run


class Measured(NamedTuple):
    """The measures and counts of one run."""

    scores: Scores
    missed: Missed
    self_matches: SelfMatches


@dataclass(frozen=True, slots=True)
class Judging:
    """Judgements, and the measures that are computed from them.

    measures: their names. qrels: grades by document. subtopics: grades by subtopic, for measures of
    diversity; else None. drop_self: whether documents with their topic's own id are left out.
    """

    measures: Sequence[str]
    qrels: RealQrels
    subtopics: Subtopics | None
    drop_self: bool

    def kept(self, run: Run) -> Run:
        """The run as it is measured: without self-matches if ``drop_self``."""
        return without_self_matches(run) if self.drop_self else run

    def measured(self, run: Run) -> Measured:
        """Measure a run. Raises InputError as ``evaluate`` does."""
        seen, kept = self_matches(run, dropped=self.drop_self), self.kept(run)
        if self.subtopics is None:
            scores = evaluate(self.qrels, kept, self.measures)
        else:
            scores = evaluate_subtopics(self.subtopics, kept, self.measures)
        return Measured(scores, missed_by(self.qrels, kept), seen)


def read_judging(
    source: str | Path,
    split: str | None,
    measures: Sequence[str],
    drop_self: bool | None = None,
) -> Judging:
    """The judgements that ``source`` names, as the measures need them.

    Fractions are read for nDCG, ERR, RBP and Compat, subtopics for measures of diversity. See
    ``opening.read_qrels`` and ``opening.read_subtopics``. drop_self: None: only for ArguAna and
    Quora. Raises InputError for unknown measures, for measures of both kinds at once, for grades
    that a measure does not take, and as the two functions do.
    """
    parsed = parse_measures(measures, subtopics=True)
    names = [str(measure) for measure in parsed]
    diverse = [str(measure) for measure in parsed if is_diversity(measure)]
    if diverse and len(diverse) < len(parsed):
        other = next(name for name in names if name not in diverse)
        raise InputError(
            f"{diverse[0]} needs judgements by subtopic and {other} judgements without; measure "
            "one kind at a time"
        )
    if diverse and split is not None:
        raise InputError(f"{source}: BEIR data sets have no subtopics, which {diverse[0]} needs")
    subtopics = read_subtopics(source) if diverse else None
    qrels = read_real_qrels(source, split) if subtopics is None else merged(subtopics)
    judgements = graded(qrels)
    try:
        check_grades(parsed, judgements)
    except InputError as error:
        raise InputError.at(source, None, str(error)) from error
    drops = calls_to_drop_self(source) if drop_self is None else drop_self
    return Judging(names, judgements.qrels, subtopics, drops)


def write_judgements(qrels: RealQrels, path: Path) -> str:
    """Write judgements in TREC's format, unless they stand there; returns the file's SHA-256."""
    text = trec_lines(qrels).encode()
    if not path.is_file() or path.read_bytes() != text:
        with atomic_file(path) as temporary:
            temporary.write_bytes(text)
    return hashlib.sha256(text).hexdigest()
