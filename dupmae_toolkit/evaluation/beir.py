"""BEIR end to end: encode, index, search in every mode, write runs, measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.collection.beir import BeirDataset, real_qrels
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.own import OwnDataset, open_datasets
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.experiment import BASELINE, Experiment
from dupmae_toolkit.evaluation.gains import check_grades, graded
from dupmae_toolkit.evaluation.measures import (
    DEFAULT_MEASURES,
    Scores,
    evaluate,
    parse_measures,
)
from dupmae_toolkit.evaluation.missed import Unknown
from dupmae_toolkit.evaluation.self_matches import SelfMatches, self_matches
from dupmae_toolkit.files import make_folder, read_json, write_json
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Run

if TYPE_CHECKING:
    from dupmae_toolkit.collection.passages import Passages
    from dupmae_toolkit.search.fusion import Fusion

METRICS_FILE = "metrics.json"
#: What ``BeirResult.about`` says of one data set, and not of the options.
_OF_ONE = ("qrels", "topics_with_self_match", "judged_documents", "judged_not_in_corpus")


@dataclass(slots=True)
class BeirResult:
    """The results of an encoder on one data set.

    ``scores`` and ``runs`` are by mode: dense, lexical, bm25, hybrid, and Lucene's own BM25 if
    requested. ``unknown`` counts judged documents that the corpus lacks. ``self_matches`` are those
    of the mode that had the most. ``about`` has the options; ``texts`` says how many queries and
    documents were cut (``truncated``), and the ``precision`` of their encoding. ``reused`` names
    the steps whose results came from an earlier call; ``skipped`` counts the invalid lines skipped,
    and ``left_out`` is a message that says which.
    """

    dataset: str
    split: str
    documents: int
    skipped: int
    scores: dict[str, Scores]
    runs: dict[str, Path]
    unknown: Unknown
    self_matches: SelfMatches
    about: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, Any] = field(default_factory=dict)
    reused: list[str] = field(default_factory=list)
    left_out: str = ""

    def metrics(self) -> dict[str, Any]:
        """mode → measure → value; ``about`` has the data set, the topics and the options."""
        values: dict[str, Any] = {mode: scores.means for mode, scores in self.scores.items()}
        first = next(iter(self.scores.values()))
        return values | {
            "about": {
                "dataset": self.dataset,
                "split": self.split,
                "documents": self.documents,
                "skipped": self.skipped,
                "topics": first.judged,
                "topics_unjudged": first.unjudged,
                "topics_with_hits": {mode: s.returned for mode, s in self.scores.items()},
                **self.texts,
                **self.about,
            }
        }


@dataclass(frozen=True, slots=True)
class BeirOptions:
    """How to make the runs. ``fusion`` and ``exact`` apply to the hybrid run.

    bm25: also run Lucene's own BM25. words: index the words of the texts, for the part bm25.
    plain: lexical and hybrid runs by the plain score. more_splits: further splits of the same data
    set. drop_self: whether documents with their topic's own id are removed; None: only for ArguAna
    and Quora. passages, aggregate: rank documents by passages that are cut like this, and by their
    scores combined in this way; Lucene's own BM25 ranks whole documents. queries, qrels: the topics
    and judgements of a corpus that has no BEIR layout; ``split`` is then only their name.
    columns: the names of that corpus's fields.
    """

    split: str = "test"
    k: int = 1000
    bm25: bool = False
    words: bool = True
    plain: bool = False
    fusion: Fusion | None = None
    exact: bool = False
    faiss: str = "Flat"
    measures: Sequence[str] = DEFAULT_MEASURES
    drop_self: bool | None = None
    more_splits: Sequence[str] = ()
    passages: Passages | None = None
    aggregate: str | None = None
    queries: str | None = None
    qrels: str | None = None
    columns: Columns = ANY_COLUMNS

    @property
    def splits(self) -> tuple[str, ...]:
        """All splits, each once."""
        return tuple(dict.fromkeys((self.split, *self.more_splits)))


def run_beir(
    source: str | Path,
    encoder: Encoder,
    output: str | Path,
    options: BeirOptions | None = None,
    *,
    skip_invalid: bool = False,
    progress: Progress = silent,
) -> list[BeirResult]:
    """Run all modes on the BEIR data set that ``source`` names, and write everything to ``output``.

    With ``queries`` and ``qrels`` in the options, ``source`` is a corpus in any format instead.
    ``output`` gets the runs ``<dataset>.<mode>.trec``, ``<dataset>.qrels`` (the judgements that
    they are measured with), ``metrics.json`` (mode → measure → value), and the encoded texts and
    the index, which a second call reuses. For a folder or zip with several data sets (CQADupStack
    has twelve), each gets a folder in ``output``, and ``metrics.json`` has the means of their
    means. With several splits, the runs are named ``<dataset>.<split>.<mode>.trec``, the judgements
    likewise, and ``metrics.json`` has the measures of each split in ``splits``. For ArguAna and
    Quora, documents with their topic's own id are removed before the cut-off, unless the options
    say otherwise.

    Raises InputError before writing anything for a missing split, for bad options, and for broken
    topics or qrels; later, for broken documents, and for an ``output`` that was made with another
    encoder or from other texts.
    """
    options = options or BeirOptions()
    folder = Path(output)
    datasets = open_checked(source, options, skip_invalid=skip_invalid)
    several = len(datasets) > 1
    experiments = [
        [
            Experiment(
                dataset,
                encoder,
                folder / dataset.name if several else folder,
                split,
                options.k,
                options.faiss,
                options.words,
                progress,
                drop_self=options.drop_self,
                label=f"{dataset.name}.{split}" if len(options.splits) > 1 else None,
                passages=options.passages,
                aggregate=options.aggregate,
            )
            for split in options.splits
        ]
        for dataset in datasets
    ]
    _check_metrics([folder, *(of_one[0].folder for of_one in experiments)])
    make_folder(folder)
    results: list[BeirResult] = []
    with exclusive(folder):
        for of_one in experiments:
            made = _run_splits(of_one, options)
            write_json(of_one[0].folder / METRICS_FILE, metrics_of(made))
            results += made
        if several:
            write_json(folder / METRICS_FILE, metrics_of(results))
    return results


def _check_metrics(folders: Sequence[Path]) -> None:
    """Refuse folders with a metrics.json that ``run_beir`` did not write."""
    for path in (folder / METRICS_FILE for folder in folders):
        if path.exists():
            told = read_json(path)
            if not isinstance(told, dict) or told.keys().isdisjoint(("about", "splits")):
                raise InputError.at(
                    path, None, "was not written by `dupmae beir`; name another folder"
                )


def _run_splits(experiments: Sequence[Experiment], options: BeirOptions) -> list[BeirResult]:
    """The results on the splits of one data set, whose documents are encoded once."""
    results = []
    for experiment in experiments:
        if experiment is not experiments[0]:
            experiment.share(experiments[0])
        results.append(_run_one(experiment, options))
    return results


def metrics_of(results: Sequence[BeirResult]) -> dict[str, Any]:
    """The content of ``metrics.json``: means over several data sets; several splits separately."""
    by_split: dict[str, list[BeirResult]] = {}
    for result in results:
        by_split.setdefault(result.split, []).append(result)
    found = {
        split: of_one[0].metrics() if len(of_one) == 1 else mean_of_means(of_one)
        for split, of_one in by_split.items()
    }
    return {"splits": found} if len(found) > 1 else next(iter(found.values()))


def open_checked(
    source: str | Path, options: BeirOptions, *, skip_invalid: bool = False
) -> list[BeirDataset]:
    """The data sets that ``run_beir`` would use, with options, topics and qrels checked.

    Raises InputError if any is invalid. Fast enough to call before an encoder is loaded.
    """
    measures = parse_measures(options.measures)
    if options.k < 1:
        raise InputError(f"k is {options.k}; ask for at least one hit")
    if options.queries and len(options.splits) > 1:
        raise InputError("queries and qrels are one split; name it with a single split")
    datasets = open_datasets(
        source,
        options.queries,
        options.qrels,
        options.split,
        skip_invalid=skip_invalid,
        columns=options.columns,
    )
    names = [dataset.name for dataset in datasets]
    if len(set(names)) < len(names):
        raise InputError.at(
            source, None, f"two data sets with the same name in it ({', '.join(names)})"
        )
    for dataset in datasets:
        for split in options.splits:
            dataset.queries(split)
            try:
                check_grades(measures, graded(real_qrels(dataset, split)))
            except InputError as error:
                place = getattr(dataset, "qrels_source", dataset.source)
                raise InputError.at(place, None, str(error)) from error
        if isinstance(dataset, OwnDataset):
            dataset.check_corpus()
    return datasets


def mean_of_means(results: Sequence[BeirResult]) -> dict[str, Any]:
    """Unweighted means over data sets, mode → measure → value; ``datasets`` has each one's."""
    first = results[0]
    means: dict[str, Any] = {
        mode: {
            name: fmean(result.scores[mode].means[name] for result in results)
            for name in scores.means
        }
        for mode, scores in first.scores.items()
    }
    shared = {key: value for key, value in first.about.items() if key not in _OF_ONE}
    about = {"means_of": len(results), "split": first.split, **shared}
    return means | {
        "about": about,
        "datasets": {result.dataset: result.metrics() for result in results},
    }


def _run_one(experiment: Experiment, options: BeirOptions) -> BeirResult:
    from dupmae_toolkit.encoding.passages import documents_in
    from dupmae_toolkit.search.fusion import Fusion

    fusion = options.fusion or Fusion()
    # Made first, so that weights that do not fit are refused before anything is searched.
    requests = [
        experiment.request(mode, fusion, options.exact and mode == "hybrid", options.plain)
        for mode in experiment.modes
    ]
    hybrid = requests[-1]
    scores: dict[str, Scores] = {}
    runs: dict[str, Path] = {}
    unknown = experiment.unknown()
    made = [(request.mode, *experiment.search(request)) for request in requests]
    if options.bm25:
        made.append((BASELINE, *experiment.bm25()))
    matches: dict[str, SelfMatches] = {}
    for mode, run, path in made:
        matches[mode] = _self_matches_of(run, experiment.drops_self)
        scores[mode] = evaluate(experiment.qrels, run, options.measures)
        runs[mode] = path
    experiment.close()
    texts = {"truncated": experiment.truncated(), "precision": experiment.precision()}
    info = experiment.encoder.info
    about = {
        "k": options.k,
        "encoder": info.name,
        "weights_sha256": info.weights_sha256,
        "parts": list(hybrid.parts),
        "fusion": hybrid.fusion.describe(len(hybrid.parts), True),
        "idf_power": hybrid.idf_power,
        "faiss": options.faiss,
        "passages": (
            options.passages.to_dict() | {"aggregate": hybrid.aggregate}
            if options.passages
            else None
        ),
        "qrels": experiment.write_qrels(),
        "self_matches": "removed" if experiment.drops_self else "kept",
        "topics_with_self_match": {mode: seen.found for mode, seen in matches.items()},
        **unknown.about(),
    }
    result = BeirResult(
        dataset=experiment.dataset.name,
        split=experiment.split,
        documents=documents_in(experiment.documents),
        skipped=experiment.dataset.corpus.skipped,
        scores=scores,
        runs=runs,
        about=about,
        texts=texts,
        reused=experiment.reused,
        left_out=experiment.dataset.corpus.left_out(),
        unknown=unknown,
        self_matches=max(matches.values(), key=lambda seen: (seen.leading, seen.found)),
    )
    return result


def _self_matches_of(run: Run, dropped: bool) -> SelfMatches:
    """The self-matches of a run; if they were removed already, their number is in its metadata."""
    if not dropped:
        return self_matches(run)
    stated = run.metadata.get("topics_with_self_match")
    return SelfMatches(True, stated if isinstance(stated, int) else 0, 0, len(run))
