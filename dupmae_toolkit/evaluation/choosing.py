"""Choosing between candidates by a rule, on development topics only.

No figure of a test can appear: runs are measured with the judgements of the rule's sets alone, and
a set that is a test is refused. The record has the rule's hash, and a folder with the record of one
rule is refused for another: a rule that is changed after its figures were seen leaves a trace.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.bootstrap import LEVEL, SAMPLES, SEED, Interval, interval_of_means
from dupmae_toolkit.evaluation.candidates import Candidate, Rankings
from dupmae_toolkit.evaluation.development import (
    MemoryDataset,
    beir_topics,
    pair_topics,
    sampled,
)
from dupmae_toolkit.evaluation.measures import evaluate, parse_measures
from dupmae_toolkit.evaluation.rules import FIRST, MEAN, Guard, Rule, SetRule
from dupmae_toolkit.files import make_folder, read_json, write_json
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Run

RECORD_FILE = "choice.json"
#: Hits of each run, unless the measure needs more.
_HITS = 100
_ALL_HITS = 1000

#: From mode to set (or ``MEAN``) to figures.
Figures = dict[str, dict[str, Interval]]


@dataclass(frozen=True, slots=True)
class Guarded:
    """A guard, the candidate's figure, the bound that it must reach, and whether it does."""

    guard: str
    figure: float
    bound: float
    passed: bool


@dataclass(frozen=True, slots=True)
class Measured:
    """A candidate with its figures.

    differences: by set, those of the deciding mode to the first candidate, paired by topic.
    """

    name: str
    settings: dict[str, Any]
    weights_sha256: str
    figures: Figures
    differences: dict[str, Interval]
    guards: list[Guarded]

    @property
    def passed(self) -> bool:
        return all(guard.passed for guard in self.guards)


@dataclass(frozen=True, slots=True)
class Choice:
    """The outcome.

    chosen: the candidate's name; None if none passes all guards. tied: those that pass and whose
    means are within the rule's tie of the best one's, in order; the first is chosen.
    """

    rule: Rule
    sets: dict[str, dict[str, Any]]
    candidates: list[Measured]
    chosen: str | None
    tied: list[str]

    def to_dict(self) -> dict[str, Any]:
        return {
            "rule": asdict(self.rule),
            "interval": {"level": LEVEL, "samples": SAMPLES, "seed": SEED},
            "sets": self.sets,
            "candidates": [asdict(each) | {"passed": each.passed} for each in self.candidates],
            "tied": self.tied,
            "chosen": self.chosen,
        }


def choose(
    rule: Rule,
    candidates: Sequence[Candidate],
    output: str | Path,
    *,
    data: str | Path = "",
    load: Callable[[str], Encoder],
    demonstration: Callable[[], MemoryDataset] | None = None,
    progress: Progress = silent,
) -> Choice:
    """Measure all candidates on the rule's sets, choose one, and record it in ``output``.

    candidates: in order of preference, the cheaper first; the first is what guards and differences
    refer to. data: the folder of the sets' paths. load: gives the encoder of a name. demonstration:
    gives the set of that kind. Raises InputError before anything is encoded for a set that is a
    test, too few topics, wrong candidates, and an ``output`` that has another rule's record.
    """
    names = [candidate.name for candidate in candidates]
    if not names or len(set(names)) < len(names):
        raise InputError("name at least one candidate, and each once")
    if len(rule.modes) > 1 and any(candidate.runs for candidate in candidates):
        raise InputError(
            f"runs have no modes; a rule for them names one mode, not {', '.join(rule.modes)}"
        )
    folder = Path(output)
    _check_record(folder / RECORD_FILE, rule)
    sets = {each.name: open_set(each, data, demonstration) for each in rule.sets}
    topics = sum(len(dataset.queries()) for dataset in sets.values())
    if topics < rule.least_topics:
        raise InputError(
            f"the sets have {topics:,} topics, but the rule wants at least {rule.least_topics:,}; "
            "add sets, or larger samples"
        )
    make_folder(folder)
    with exclusive(folder):
        rankings = Rankings(folder, load, _hits(rule.measure), progress)
        try:
            values, digests = _measure(rule, candidates, sets, rankings)
        finally:
            rankings.close()
        choice = decide(rule, candidates, values, digests, _describe(sets))
        write_json(folder / RECORD_FILE, choice.to_dict())
    return choice


def open_set(
    rule: SetRule,
    data: str | Path,
    demonstration: Callable[[], MemoryDataset] | None = None,
) -> MemoryDataset:
    """The topics of one set of a rule. Raises InputError for what is a test."""
    if rule.kind == "demonstration":
        if demonstration is None:
            raise InputError(f"set {rule.name}: there is no demonstration here")
        dataset = demonstration()
        dataset.name = rule.name
    elif rule.kind == "pairs":
        dataset = pair_topics(Path(data, rule.path), rule.name)
    else:
        dataset = beir_topics(
            Path(data, rule.path),
            rule.name,
            rule.split,
            only_split=rule.development,
            skip_invalid=rule.skip_invalid,
        )
    return sampled(dataset, rule.sample, rule.seed) if rule.sample else dataset


#: By candidate, mode and set: the measure of each topic, float64, in the order of the topics.
Values = list[dict[str, dict[str, np.ndarray]]]


def decide(
    rule: Rule,
    candidates: Sequence[Candidate],
    values: Values,
    digests: Sequence[str],
    sets: Mapping[str, dict[str, Any]],
) -> Choice:
    """Apply the rule to what was measured; see ``Choice``."""
    first = values[0][rule.modes[0]]
    measured = []
    figures = [{mode: _figures(by_set) for mode, by_set in each.items()} for each in values]
    for candidate, each, found, digest in zip(candidates, values, figures, digests, strict=True):
        own = each[rule.modes[0]]
        measured.append(
            Measured(
                name=candidate.name,
                settings=candidate.settings(),
                weights_sha256=digest,
                figures=found,
                differences=_figures({name: own[name] - first[name] for name in own}),
                guards=[_guarded(guard, found, figures[0]) for guard in rule.guards],
            )
        )
    passing = [each for each in measured if each.passed]
    means = {each.name: each.figures[rule.modes[0]][MEAN].mean for each in passing}
    best = max(means.values(), default=0.0)
    tied = [name for name, mean in means.items() if mean >= best - rule.tie]
    return Choice(rule, dict(sets), measured, tied[0] if tied else None, tied)


def _measure(
    rule: Rule,
    candidates: Sequence[Candidate],
    sets: Mapping[str, MemoryDataset],
    rankings: Rankings,
) -> tuple[Values, list[str]]:
    values: Values = [{mode: {} for mode in rule.modes} for _ in candidates]
    digests = [""] * len(candidates)
    (measure,) = map(str, parse_measures([rule.measure]))
    models: dict[str, list[int]] = {}
    for number, candidate in enumerate(candidates):
        models.setdefault(candidate.model, []).append(number)
    # By encoder, then by set: each encoder is loaded, and each of its indexes opened, once.
    for numbers in models.values():
        for name, dataset in sets.items():
            for number in numbers:
                digests[number] = rankings.digest(candidates[number])
                for mode in rule.modes:
                    run = rankings.run(candidates[number], dataset, mode)
                    values[number][mode][name] = _per_topic(
                        dataset, run, measure, candidates[number].name
                    )
    return values, digests


def _per_topic(dataset: MemoryDataset, run: Run, measure: str, candidate: str) -> np.ndarray:
    try:
        scores = evaluate(dataset.qrels(), run, [measure])
    except InputError as error:
        raise InputError(f"candidate {candidate}, set {dataset.name}: {error}") from error
    per_topic = scores.per_topic[measure]
    return np.array([per_topic[query.id] for query in dataset.queries()])


def _figures(values: Mapping[str, np.ndarray]) -> dict[str, Interval]:
    """The mean of each set, and the mean of these means."""
    found = {name: interval_of_means([each]) for name, each in values.items()}
    return found | {MEAN: interval_of_means(list(values.values()))}


def _guarded(guard: Guard, figures: Figures, first: Figures) -> Guarded:
    figure = figures[guard.mode][guard.set].mean
    least = first[guard.mode][guard.set].mean if guard.least == FIRST else float(guard.least)
    bound = least - guard.slack
    return Guarded(str(guard), figure, bound, figure >= bound)


def _describe(sets: Mapping[str, MemoryDataset]) -> dict[str, dict[str, Any]]:
    return {
        name: {
            "source": dataset.source,
            "topics": len(dataset.queries()),
            "left_out": dataset.left_out,
            "topics_sha256": dataset.digest(),
        }
        for name, dataset in sets.items()
    }


def _hits(measure: str) -> int:
    (parsed,) = parse_measures([measure])
    return max(_HITS, parsed.params.get("cutoff", _ALL_HITS))


def _check_record(path: Path, rule: Rule) -> None:
    if not path.exists():
        return
    record = read_json(path)
    try:
        before = record["rule"]["sha256"]
    except (KeyError, TypeError) as error:
        raise InputError.at(
            path, None, "is not the record of a choice; name another folder"
        ) from error
    if before != rule.sha256:
        raise InputError.at(
            path,
            None,
            f"was made by another rule (SHA-256 {str(before)[:12]}, now {rule.sha256[:12]}); name "
            "another folder",
        )
