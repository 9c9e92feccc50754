"""Mine a corpus for hard negatives: open the inputs, search, write the examples."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries
from dupmae_toolkit.collection.store import DocumentStore
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.mining.candidates import (
    Fetch,
    IndexCandidates,
    RunCandidates,
    Search,
    run_scores,
)
from dupmae_toolkit.mining.examples import check_output, write_examples
from dupmae_toolkit.mining.negative_filters import MiningOptions, TeacherScores
from dupmae_toolkit.mining.negatives import mine
from dupmae_toolkit.mining.report import MiningReport
from dupmae_toolkit.mining.topics import (
    TextsOnly,
    TitleTopics,
    Topic,
    judged_topics,
    split_topics,
)
from dupmae_toolkit.progress import Advance, Progress, silent
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.hybrid_index import HybridIndex

DEPTH = 200
SPLIT = "train"


@dataclass(frozen=True, slots=True)
class TopicOptions:
    """The queries to mine for; by default those of the corpus, a BEIR data set.

    queries: another BEIR data set, or a file of queries if ``qrels`` is given. qrels: a file of
    judgements. split: that of the BEIR data set. grade: the lowest grade of a positive. pairs: the
    titles of the corpus are the queries, each with its own document as the positive.
    """

    queries: str | None = None
    qrels: Path | None = None
    split: str = SPLIT
    grade: int = 1
    pairs: bool = False


@dataclass(frozen=True, slots=True)
class CandidateOptions:
    """Where the candidates of a query come from.

    index: the index to search; None: the corpus is encoded and indexed in a temporary folder. run:
    a TREC run whose rankings are used instead of a search. depth: the number of candidates per
    query. mode, fusion: those of the search. model: the encoder, by default that of the index, or
    the built-in one for a temporary index; device, precision, query_max_length: see
    ``load_encoder``.
    """

    index: Path | None = None
    run: Path | None = None
    depth: int = DEPTH
    mode: str = "hybrid"
    fusion: Fusion = field(default_factory=Fusion)
    model: str | None = None
    device: str | None = None
    precision: str = "auto"
    query_max_length: int | None = None


@dataclass(frozen=True, slots=True)
class Mined:
    """What ``mine_corpus`` did.

    metadata: the contents of ``OUTPUT.json``. notes: on the corpus, see ``Corpus.notes``.
    """

    report: MiningReport
    metadata: dict[str, Any]
    notes: list[str]


def mine_corpus(
    corpus: str | None,
    output: str | Path,
    options: MiningOptions | None = None,
    topics: TopicOptions | None = None,
    candidates: CandidateOptions | None = None,
    *,
    teacher_run: Path | None = None,
    skip_invalid: bool = False,
    columns: Columns = ANY_COLUMNS,
    duplicates: str = "error",
    progress: Progress = silent,
) -> Mined:
    """Write examples with hard negatives to ``output``, and their metadata to ``OUTPUT.json``.

    corpus: what ``open_corpus`` opens; None if an index holds the documents and ``topics`` names
    the queries. skip_invalid, columns, duplicates: see ``open_corpus``. teacher_run: a TREC run
    with another model's scores, to filter by. Raises InputError for bad input, for a
    candidate that has no document, and if no query gets a negative; then nothing is written.
    """
    output = Path(output)
    options, topics = options or MiningOptions(), topics or TopicOptions()
    candidates = candidates or CandidateOptions()
    check_output(output)
    with contextlib.ExitStack() as stack:
        documents = (
            None
            if corpus is None
            else (
                open_corpus(
                    corpus, skip_invalid=skip_invalid, columns=columns, duplicates=duplicates
                )
            )
        )
        index = None
        if candidates.index is not None:
            index = HybridIndex.open(
                candidates.index,
                candidates.model,
                device=candidates.device,
                precision=candidates.precision,
                query_max_length=candidates.query_max_length,
            )
            stack.enter_context(index)
        asked = _topics(topics, corpus, documents, index)
        teacher = None if teacher_run is None else _teacher(teacher_run)
        if candidates.run is not None:
            lists = _run_lists(stack, candidates, asked, documents, index, progress)
        else:
            lists = _index_lists(stack, candidates, asked, documents, index, progress)
        options = replace(options, drop_self=options.drop_self or asked.drops_self)
        report = MiningReport()

        def about() -> dict[str, Any]:
            if not report.written:
                raise InputError(
                    f"not one of {report.queries:,} queries got a negative: "
                    f"{report.without_positives:,} have no positive document, "
                    f"{report.without_negatives:,} no candidate that passes the filters"
                )
            return {
                "kind": "mined examples",
                "corpus": corpus,
                "grade": topics.grade,
                **asked.about,
                "teacher_run": None if teacher_run is None else str(teacher_run),
                **lists.about,
                "options": asdict(options),
                "report": report.to_dict(),
            }

        with progress("mining", asked.total) as advance:
            examples = mine(
                _counted(asked.topics, advance), lists.search, lists.fetch, options, report, teacher
            )
            metadata = write_examples(output, examples, about)
        return Mined(report, metadata, [] if documents is None else documents.notes())


@dataclass(frozen=True, slots=True)
class _Topics:
    """The topics, their number if it is known, and their entries in the metadata."""

    topics: Iterable[Topic]
    total: int | None
    about: dict[str, Any]
    titles: bool = False
    drops_self: bool = False


@dataclass(frozen=True, slots=True)
class _Lists:
    """Where a topic's candidates and their documents come from, and the entries in the metadata."""

    search: Search
    fetch: Fetch
    about: dict[str, Any]


def _topics(
    options: TopicOptions, name: str | None, corpus: Corpus | None, index: HybridIndex | None
) -> _Topics:
    """name: what ``corpus`` was opened from."""
    if options.pairs:
        if corpus is None and index is not None:
            corpus = index.corpus()
        if corpus is None:
            raise InputError("there is nothing to mine: name a corpus, or an index")
        return _Topics(TitleTopics(corpus), corpus.count(), {"queries": "titles"}, titles=True)
    source = options.queries or name
    if source is None:
        raise InputError("there are no queries: name them, or a corpus that has some")
    if options.qrels is not None:
        queries, qrels = read_queries(source), read_qrels(options.qrels)
        judged = judged_topics(queries, qrels, grade=options.grade, source=str(options.qrels))
        about = {"queries": source, "qrels": str(options.qrels)}
        return _Topics(judged, len(judged), about)
    dataset = open_beir(source)
    judged = split_topics(dataset, options.split, grade=options.grade)
    about = {"queries": source, "split": options.split}
    return _Topics(judged, len(judged), about, drops_self=dataset.drops_self_matches)


def _teacher(path: Path) -> TeacherScores:
    run = read_run(path)
    return lambda topic: run_scores(run, topic)


def _run_lists(
    stack: contextlib.ExitStack,
    options: CandidateOptions,
    asked: _Topics,
    corpus: Corpus | None,
    index: HybridIndex | None,
    progress: Progress,
) -> _Lists:
    """The lists of a run; their documents from the index, or else from the corpus."""
    assert options.run is not None
    run = read_run(options.run)
    about = {"run": str(options.run), "run_tag": run.tag, "scores": "those of the run"}
    search = RunCandidates(run, options.depth)
    if index is not None:
        return _Lists(search, index.get, about)
    if corpus is None:
        raise InputError("the documents of the run are missing: name a corpus, or an index")
    wanted = {name for ranking in run.topics.values() for name in ranking.ids[: options.depth]}
    wanted.update(name for topic in asked.topics for name in topic.positives)
    store = DocumentStore(corpus, wanted, progress)
    stack.callback(store.close)
    return _Lists(search, store.documents, about)


def _index_lists(
    stack: contextlib.ExitStack,
    options: CandidateOptions,
    asked: _Topics,
    corpus: Corpus | None,
    index: HybridIndex | None,
    progress: Progress,
) -> _Lists:
    """The search of the index; without one, of a temporary index of the corpus."""
    fetch: Fetch | None = None
    if index is None:
        if corpus is None:
            raise InputError("there is nothing to search: name a corpus, or an index")
        index = _temporary_index(stack, options, corpus, asked.titles, progress)
        if asked.titles:  # the temporary index has no titles, and the filter by title needs them
            store = DocumentStore(corpus, progress=progress)
            stack.callback(store.close)
            fetch = store.documents
    request = index.request(options.depth, options.mode, options.fusion)
    about: dict[str, Any] = {
        "index": None if options.index is None else str(options.index),
        "encoder": index.manifest.encoder.to_dict(),
        "scores": options.mode,
    }
    if options.mode == "hybrid":
        about["fusion"] = request.fusion.describe(len(request.parts), True)
    return _Lists(IndexCandidates(index, request), fetch or index.get, about)


def _temporary_index(
    stack: contextlib.ExitStack,
    options: CandidateOptions,
    corpus: Corpus,
    titles_are_queries: bool,
    progress: Progress,
) -> HybridIndex:
    from dupmae_toolkit.model.loading import load_encoder

    encoder = load_encoder(
        options.model or "builtin",
        device=options.device,
        precision=options.precision,
        query_max_length=options.query_max_length,
    )
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dupmae-mine-"))
    texts = TextsOnly(corpus) if titles_are_queries else corpus
    index = HybridIndex.build(Path(folder, "index"), texts, encoder, progress=progress)
    return stack.enter_context(index)


def _counted(topics: Iterable[Topic], advance: Advance) -> Iterator[Topic]:
    for topic in topics:
        advance(1)
        yield topic
