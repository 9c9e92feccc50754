"""Makes the runs of a study: each text encoded, each index built and each run searched once.

    DIR/runs/COLLECTION/LABEL.trec        the runs, each with its metadata and its card
    DIR/runs/COLLECTION/COLLECTION.qrels  the judgements that they are measured with
    DIR/work/TEXTS/ENCODER                what `experiment` keeps: vectors and indexes

The folders of work are named by digests of what they are made from, so that a study that is
changed finds what it still needs, and takes nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.beir import BeirDataset, all_topics, only_one, real_qrels
from dupmae_toolkit.collection.own import OwnDataset, open_datasets
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.evaluation.card_reading import has_own_card
from dupmae_toolkit.evaluation.cards import Draft, about_run, card_path, fingerprint
from dupmae_toolkit.evaluation.development import MemoryDataset
from dupmae_toolkit.evaluation.digests import digest, vectors_key
from dupmae_toolkit.evaluation.experiment import Experiment
from dupmae_toolkit.evaluation.gains import check_grades, graded
from dupmae_toolkit.evaluation.measures import parse_measures
from dupmae_toolkit.evaluation.sweep.grid import Cell, Grid
from dupmae_toolkit.evaluation.sweep.indexed import facts_of, with_index
from dupmae_toolkit.evaluation.sweep.study import Study, StudyCollection, StudyEncoder
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Run

#: The folders of runs and of work.
RUNS, WORK = "runs", "work"


@dataclass(frozen=True, slots=True)
class Failure:
    """A run that could not be made, and why, in a line."""

    collection: str
    run: str
    why: str


@dataclass(slots=True)
class Opened:
    """A collection of a study. texts: a digest of what its documents are read from.

    topics: one of what its topics are read from, if that is another file; else "". unjudged:
    how many topics have no judgements. facts: what was seen when its documents were encoded, by
    encoder.
    """

    entry: StudyCollection
    dataset: BeirDataset
    texts: str
    topics: str = ""
    unjudged: int = 0
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def name(self) -> str:
        return self.entry.name

    def said(self) -> list[str]:
        """What was skipped, cut or not found, a line each."""
        lines: dict[str, None] = {}
        if self.unjudged:
            topics = counted(self.unjudged, "topic")
            lines[f"{self.name}: {topics} without judgements searched but not measured"] = None
        for encoder, facts in self.facts.items():
            cut, told = facts["truncated"], f"{self.name}, {encoder}"
            if facts["left_out"]:
                lines[f"{self.name}: {facts['left_out']}"] = None
            for what, length in (("documents", "max_length"), ("queries", "query_max_length")):
                if cut[what]:
                    number = counted(cut[what], {"documents": "document"}.get(what, "query"))
                    lines[f"{told}: {number} cut at {cut[length]} tokens"] = None
            if facts["judged_not_in_corpus"]:
                lines[f"{self.name}: {facts['judged_not_in_corpus']}"] = None
        return list(lines)


@dataclass(slots=True)
class Made:
    """What a study's runs came to: by collection and label, the files of the runs.

    topics: the encoded topics of each run, likewise. encoders: what is known of each that was
    loaded. reused: how many runs an earlier call had made. used: the folders of work in use.
    """

    runs: dict[str, dict[str, Path]]
    topics: dict[str, dict[str, Path]]
    failures: list[Failure] = field(default_factory=list)
    encoders: dict[str, dict[str, Any]] = field(default_factory=dict)
    reused: int = 0
    used: set[Path] = field(default_factory=set)


def open_collections(
    study: Study,
    draft: Draft | None,
    demonstration: Callable[[], MemoryDataset] | None,
) -> list[Opened]:
    """The collections of a study, with their topics and judgements checked.

    draft: has checksums of what the study reads; None: they are computed. demonstration: gives the
    collection of that kind. Raises InputError for a collection that is missing or broken.
    """
    known = {entry["path"]: entry for entry in draft.inputs} if draft else {}

    def seen(path: str) -> str | None:
        told = known[path] if path in known else fingerprint(path)
        return (told or {}).get("sha256")

    measures = parse_measures(study.measures)
    found = []
    for entry in study.collections:
        try:
            dataset = _open(entry, demonstration)
            topics = all_topics(dataset, entry.judged_split)
            qrels = real_qrels(dataset, entry.judged_split)
            unjudged = sum(topic.id not in qrels for topic in topics)
            check_grades(measures, graded(qrels))
            if isinstance(dataset, OwnDataset):
                dataset.check_corpus()
        except InputError as error:
            raise InputError(f"collection {entry.name}: {error}") from error
        if isinstance(dataset, MemoryDataset):
            held = [[d.id, d.title, d.text] for _, d in dataset.corpus.numbered()]
            texts = digest([entry.kind, held])
        else:
            fields = [entry.id, entry.title, entry.text]
            own = fields if any(fields) else []
            texts = digest([entry.path, seen(entry.path), entry.skip_invalid, *own])
        opened = Opened(entry, dataset, texts, unjudged=unjudged)
        if isinstance(dataset, MemoryDataset):
            opened.topics = dataset.digest()
        elif entry.queries:
            opened.topics = digest([entry.queries, seen(entry.queries)])
        found.append(opened)
    return found


def _open(entry: StudyCollection, demonstration: Callable[[], MemoryDataset] | None) -> BeirDataset:
    if entry.kind == "beir":
        own = (entry.queries, entry.qrels, entry.judged_split)
        found = open_datasets(
            entry.path, *own, skip_invalid=entry.skip_invalid, columns=entry.columns
        )
        return only_one(found, entry.path)
    if demonstration is None:
        raise InputError("there is no demonstration here")
    dataset = demonstration()
    dataset.name = entry.name
    return dataset


class Runner:
    """Makes the runs of a study in ``folder``; ``fail_fast``: stops at the first failure."""

    def __init__(
        self,
        study: Study,
        grid: Grid,
        folder: Path,
        load: Callable[[StudyEncoder], Encoder],
        draft: Draft | None = None,
        fail_fast: bool = False,
        say: Callable[[str], None] | None = None,
        progress: Progress = silent,
    ) -> None:
        """load: gives an encoder. draft: of the runs' cards; None: they get none.

        say: is told of each failure when it happens.
        """
        self._study, self._grid, self._folder, self._load = study, grid, folder, load
        self._draft, self._fail_fast, self._progress = draft, fail_fast, progress
        self._say = say or (lambda line: None)
        names = [each.name for each in study.collections]
        self.made = Made({name: {} for name in names}, {name: {} for name in names})

    def make(self, collections: Sequence[Opened]) -> Made:
        """Make all runs, encoder by encoder, each of which is loaded once."""
        for entry in self._study.encoders:
            cells = [cell for cell in self._grid.cells if cell.encoder == entry]
            if cells:
                self._of_encoder(entry, cells, collections)
        return self.made

    def _of_encoder(
        self, entry: StudyEncoder, cells: Sequence[Cell], collections: Sequence[Opened]
    ) -> None:
        try:
            encoder = self._load(entry)
        except Exception as error:
            for each in collections:
                self._failed(each, cells, f"encoder {entry.name}", error)
            return
        info = encoder.info.to_dict()
        self.made.encoders[entry.name] = info
        key = vectors_key(encoder)
        for each in collections:
            self._of_collection(each, cells, encoder, key)

    def _of_collection(
        self, collection: Opened, cells: Sequence[Cell], encoder: Encoder, key: str
    ) -> None:
        place = self._folder / WORK / f"{collection.dataset.name}-{collection.texts[:12]}" / key
        self.made.used.add(place)
        try:
            base = Experiment(
                collection.dataset,
                encoder,
                place,
                collection.entry.judged_split,
                self._study.k,
                progress=self._progress,
            )
            if collection.topics:
                base.topics_folder += f"-{collection.topics[:8]}"
            runs = self._folder / RUNS / collection.name
            base.write_qrels(runs / f"{collection.name}.qrels")
            _ = base.topics
        except Exception as error:
            self._failed(collection, cells, "", error)
            return
        by_cut: dict[Any, Experiment] = {}
        for entry in self._study.indexes:
            own = [cell for cell in cells if cell.index == entry]
            if not own:
                continue
            try:
                first = by_cut.get(entry.cut)
                experiment = with_index(first or base, entry)
                by_cut.setdefault(entry.cut, experiment)
                if entry.cut is None or not collection.facts.get(cells[0].encoder.name):
                    facts = facts_of(experiment)
                    collection.facts[cells[0].encoder.name] = facts
                if any(cell.score for cell in own):
                    missing = experiment.unknown().said("corpus")
                    collection.facts[cells[0].encoder.name]["judged_not_in_corpus"] = missing
            except Exception as error:
                self._failed(collection, own, "", error)
                continue
            try:
                for cell in own:
                    self._make(collection, experiment, cell, runs)
            finally:
                experiment.close()

    def _make(self, collection: Opened, experiment: Experiment, cell: Cell, folder: Path) -> None:
        path = folder / f"{cell.label}.trec"
        draft = self._draft.restarted() if self._draft else None
        try:
            if cell.score is None:
                run, _ = experiment.bm25(path)
            else:
                score = cell.score
                request = experiment.request(
                    score.mode, score.how, score.exact, score.plain, score.idf_power
                )
                run, _ = experiment.search(request, path)
            if draft is not None and not has_own_card(path):
                self._write_card(draft, collection, cell, run, path)
        except Exception as error:
            self._failed(collection, [cell], "", error)
            return
        self.made.reused += cell.label in experiment.reused
        self.made.runs[collection.name][cell.label] = path
        self.made.topics[collection.name][cell.label] = experiment.topics.folder

    def _write_card(
        self, draft: Draft, collection: Opened, cell: Cell, run: Run, path: Path
    ) -> None:
        about = {
            "study": {"file": self._study.path, "sha256": self._study.sha256},
            "collection": collection.name,
            "run": cell.label,
        }
        draft.write(card_path(path), [path], about | about_run(run))

    def _failed(
        self, collection: Opened, cells: Sequence[Cell], what: str, error: Exception
    ) -> None:
        """Note that runs of a collection cannot be made."""
        line = str(error) if isinstance(error, DupMAEError) else f"{type(error).__name__}: {error}"
        why = " ".join(f"{what}: {line}".split()) if what else " ".join(line.split())
        if self._fail_fast:
            raise DupMAEError(f"{collection.name}, {cells[0].label}: {why}") from error
        more = f" and {len(cells) - 1:,} more runs" if len(cells) > 1 else ""
        self._say(f"failed: {collection.name}, {cells[0].label}{more}: {why}")
        self.made.failures += [Failure(collection.name, cell.label, why) for cell in cells]


def unused_work(folder: Path, used: set[Path]) -> Iterator[Path]:
    """The folders of vectors and indexes in ``folder`` that a study did not use."""
    for texts in sorted((folder / WORK).glob("*")):
        for place in sorted(texts.glob("*")):
            if place.is_dir() and place not in used:
                yield place
