"""`dupmae mine`: hard negatives out of a search, or out of a run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from dupmae_cli import console
from dupmae_cli.indexing import SkipInvalid
from dupmae_cli.searching import JsonOption, Mode, Precision

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus
    from dupmae_toolkit.search.lookup import Lookup
    from dupmae_toolkit.training.mining import Fetch, MiningOptions, Search
    from dupmae_toolkit.training.mining_report import MiningReport
    from dupmae_toolkit.training.topics import Topic

DEPTH = 200


class Pick(StrEnum):
    RANDOM = "random"
    TOP = "top"


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("mine")(mine)


def mine(
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The JSON lines to write (.jsonl, .jsonl.gz)."),
    ],
    corpus: Annotated[
        str | None,
        typer.Argument(
            help="A BEIR folder or zip, JSON lines, a TSV, an ir_datasets id; not needed with "
            "--index if the queries come from elsewhere."
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", "-i", help="Search this index; default: one of CORPUS, for now."),
    ] = None,
    run: Annotated[
        Path | None, typer.Option("--run", help="Take the lists of this TREC run; search nothing.")
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="The split of the BEIR data set; default: train."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(help="Queries from elsewhere: a file with --qrels, a BEIR data set."),
    ] = None,
    qrels: Annotated[
        Path | None, typer.Option(help="Judgements of --queries: TREC's or BEIR's columns.")
    ] = None,
    pairs: Annotated[
        bool,
        typer.Option("--pairs", help="Titles are queries, and their own texts the positives."),
    ] = False,
    grade: Annotated[int, typer.Option(help="The least grade of a positive.")] = 1,
    mode: Annotated[Mode, typer.Option(help="What is searched.")] = Mode.HYBRID,
    weights: Annotated[
        str | None, typer.Option(help="Of dense and lexical, as in 0.3,0.7; default: the model's.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(help=f"Candidates of a query; default: --to-rank, or {DEPTH}.")
    ] = None,
    from_rank: Annotated[int, typer.Option(help="The first rank looked at.")] = 1,
    to_rank: Annotated[int | None, typer.Option(help="The last one; default: --depth.")] = None,
    negatives: Annotated[int, typer.Option("--negatives", "-n", help="Of a query, at most.")] = 15,
    pick: Annotated[
        Pick, typer.Option(help="Drawn from all that pass the filters, or the first of them.")
    ] = Pick.RANDOM,
    seed: Annotated[int, typer.Option(help="Of the drawing.")] = 1,
    margin: Annotated[
        float | None,
        typer.Option(help="Leave out what scores more than the best positive minus this."),
    ] = None,
    margin_ratio: Annotated[
        float | None,
        typer.Option(help="The same as a share of the positive's score, as in 0.05."),
    ] = None,
    same_text: Annotated[
        bool,
        typer.Option("--drop-same-text/--keep-same-text", help="Of a positive, or of the query."),
    ] = True,
    same_title: Annotated[
        bool | None,
        typer.Option(
            "--drop-same-title/--keep-same-title",
            help="Of a positive, or the query; default: keep, but drop with --pairs.",
        ),
    ] = None,
    drop_self: Annotated[
        bool, typer.Option("--drop-self", help="Leave out the document with the query's id.")
    ] = False,
    teacher_run: Annotated[
        Path | None, typer.Option(help="A TREC run with another model's scores, to filter by.")
    ] = None,
    teacher_margin: Annotated[
        float, typer.Option(help="Leave out what the teacher scores above positive minus this.")
    ] = 0.0,
    keep_bare: Annotated[
        bool, typer.Option("--keep-bare", help="Write queries without negatives too.")
    ] = False,
    model: Annotated[
        str | None,
        typer.Option(help="builtin (the default), a folder, a hub id; with --index: its own."),
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto: bf16 where the hardware has it, else fp32.")
    ] = Precision.AUTO,
    skip_invalid: SkipInvalid = False,
    json: JsonOption = False,
) -> None:
    """Mine hard negatives: documents near a query that do not answer it.

    OUTPUT gets a line for each query: its positives, its negatives, and their
    scores. What it took lies beside it, in OUTPUT.json. What looks like an answer
    that nobody judged is left out: by its text, by --margin, by --teacher-run.
    Without --index, CORPUS is encoded and indexed in a temporary folder first.

    [bold]Examples:[/bold]

      dupmae mine scifact.zip --output mined.jsonl.gz

      dupmae mine scifact.zip --index indexes/scifact --output mined.jsonl --from-rank 5 -n 30

      dupmae mine --index indexes/notes --queries q.tsv --qrels q.qrels --output m.jsonl --margin 1

      dupmae mine abstracts.jsonl --pairs --output mined.jsonl --mode lexical --margin-ratio 0.05

      dupmae mine scifact.zip --run bm25.trec --output mined.jsonl --pick top
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.fusion import Fusion, parse_weights
    from dupmae_toolkit.training.mining import MiningOptions

    if to_rank is not None and depth is not None and to_rank > depth:
        raise InputError(f"--to-rank {to_rank} lies behind --depth {depth}; ask for more depth")
    depth = depth or to_rank or DEPTH
    options = MiningOptions(
        negatives=negatives,
        from_rank=from_rank,
        to_rank=to_rank or depth,
        pick=pick.value,
        seed=seed,
        margin=margin,
        margin_ratio=margin_ratio,
        same_text=same_text,
        same_title=pairs if same_title is None else same_title,
        drop_self=drop_self,
        teacher_margin=teacher_margin,
        texts_only=pairs,
        keep_bare=keep_bare,
    )
    _check(output, corpus, index, run, split, queries, qrels, pairs)
    if run is not None and (weights or mode != Mode.HYBRID or model):
        raise InputError("--run searches nothing; leave out --mode, --weights and --model")
    fusion = Fusion("sum", parse_weights(weights))
    if weights is not None and mode != Mode.HYBRID:
        raise InputError(f"mode {mode.value} has no use for --weights")
    loading = {"device": device, "precision": precision.value}
    with contextlib.ExitStack() as stack:
        work = _Work(stack, corpus, index, model, loading, skip_invalid)
        work.choose_topics(split, queries, qrels, pairs, grade)
        work.read_teacher(teacher_run)
        if run is not None:
            work.take_run(run, depth)
        else:
            work.search(mode.value, fusion, depth, pairs)
        report, about = work.write(output, options)
    if json:
        console.print_json(about)
    else:
        _print(report, output)


@dataclass(slots=True)
class _Work:
    """What the options name, opened step by step; ``stack`` closes it."""

    stack: contextlib.ExitStack
    corpus_name: str | None
    index_path: Path | None
    model: str | None
    loading: dict[str, Any]
    skip_invalid: bool
    about: dict[str, Any] = field(default_factory=dict)
    corpus: Corpus | None = None
    lookup: Lookup | None = None
    topics: Iterable[Topic] = ()
    total: int | None = None
    drops_self: bool = False
    candidates: Search | None = None
    fetch: Fetch | None = None
    teacher: Any = None

    def __post_init__(self) -> None:
        from dupmae_toolkit.collection.corpora import open_corpus

        if self.corpus_name is not None:
            self.corpus = open_corpus(self.corpus_name, skip_invalid=self.skip_invalid)
        if self.index_path is not None:
            self._open_index(self.index_path)

    def _open_index(self, path: Path) -> None:
        from dupmae_toolkit.search.hybrid_index import HybridIndex
        from dupmae_toolkit.search.lookup import Lookup

        index = HybridIndex.open(path, self.model, **self.loading)
        self.stack.callback(index.close)
        self.lookup = Lookup(index)

    def choose_topics(
        self,
        split: str | None,
        queries: str | None,
        qrels: Path | None,
        pairs: bool,
        grade: int,
    ) -> None:
        from dupmae_toolkit.collection.beir import open_beir
        from dupmae_toolkit.collection.qrels import read_qrels
        from dupmae_toolkit.collection.queries import read_queries
        from dupmae_toolkit.search.lookup import IndexedCorpus
        from dupmae_toolkit.training.topics import TitleTopics, judged_topics, split_topics

        self.about |= {"corpus": self.corpus_name, "grade": grade}
        if pairs:
            source = self.corpus
            if source is None:
                assert self.lookup is not None
                source = IndexedCorpus(self.lookup.index)
            self.topics, self.total = TitleTopics(source), source.count()
            self.about["queries"] = "titles"
        elif qrels is not None:
            assert queries is not None
            found = judged_topics(
                read_queries(queries), read_qrels(qrels), grade=grade, source=str(qrels)
            )
            self.topics, self.total = found, len(found)
            self.about |= {"queries": queries, "qrels": str(qrels)}
        else:
            name = queries or self.corpus_name
            assert name is not None
            dataset = open_beir(name)
            found = split_topics(dataset, split or "train", grade=grade)
            self.topics, self.total = found, len(found)
            self.drops_self = dataset.drops_self_matches
            self.about |= {"queries": name, "split": split or "train"}

    def read_teacher(self, path: Path | None) -> None:
        from dupmae_toolkit.collection.trec import read_run
        from dupmae_toolkit.search.candidates import run_scores

        self.about["teacher_run"] = None if path is None else str(path)
        if path is not None:
            scores = read_run(path)
            self.teacher = lambda topic: run_scores(scores, topic)

    def take_run(self, path: Path, depth: int) -> None:
        """The lists of a run; their documents from the index, or else from the corpus."""
        from dupmae_toolkit.collection.store import DocumentStore
        from dupmae_toolkit.collection.trec import read_run
        from dupmae_toolkit.search.candidates import RunCandidates

        run = read_run(path)
        self.candidates = RunCandidates(run, depth)
        self.about |= {"run": str(path), "run_tag": run.tag, "scores": "those of the run"}
        if self.lookup is not None:
            self.fetch = self.lookup.documents
            return
        assert self.corpus is not None
        wanted = {name for ranking in run.topics.values() for name in ranking.ids[:depth]}
        wanted.update(name for topic in self.topics for name in topic.positives)
        store = DocumentStore(self.corpus, wanted, console.bar)
        self.stack.callback(store.close)
        self.fetch = store.documents

    def search(self, mode: str, fusion: Any, depth: int, pairs: bool) -> None:
        """The index's search; without an index, one of the corpus is built for it first."""
        from dupmae_toolkit.collection.store import DocumentStore
        from dupmae_toolkit.search.candidates import IndexCandidates

        if self.lookup is None:
            self._build(texts_only=pairs)
            assert self.corpus is not None
            if pairs:  # the index has no titles, and the filter by title needs them
                store = DocumentStore(self.corpus, progress=console.bar)
                self.stack.callback(store.close)
                self.fetch = store.documents
        assert self.lookup is not None
        index = self.lookup.index
        request = index.request(depth, mode, fusion)
        self.candidates = IndexCandidates(self.lookup, request)
        self.fetch = self.fetch or self.lookup.documents
        self.about |= {
            "index": None if self.index_path is None else str(self.index_path),
            "encoder": index.manifest.encoder.to_dict(),
            "scores": mode,
        }
        if mode == "hybrid":
            self.about["fusion"] = request.fusion.describe(2, True)

    def _build(self, texts_only: bool) -> None:
        import tempfile

        from dupmae_toolkit.model.loading import load_encoder
        from dupmae_toolkit.search.hybrid_index import HybridIndex
        from dupmae_toolkit.search.lookup import Lookup
        from dupmae_toolkit.training.topics import TextsOnly

        assert self.corpus is not None
        corpus = TextsOnly(self.corpus) if texts_only else self.corpus
        encoder = load_encoder(self.model or "builtin", **self.loading)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="dupmae-mine-"))
        index = HybridIndex.build(Path(folder, "index"), corpus, encoder, progress=console.bar)
        self.stack.callback(index.close)
        self.lookup = Lookup(index)

    def write(self, output: Path, options: MiningOptions) -> tuple[MiningReport, dict[str, Any]]:
        from dataclasses import asdict, replace

        from dupmae_toolkit.errors import InputError
        from dupmae_toolkit.training.examples import write_examples
        from dupmae_toolkit.training.mining import mine as work
        from dupmae_toolkit.training.mining_report import MiningReport

        assert self.candidates is not None
        assert self.fetch is not None
        report = MiningReport()
        options = replace(options, drop_self=options.drop_self or self.drops_self)

        def about() -> dict[str, Any]:
            if not report.written:
                raise InputError(
                    f"not one of {report.queries:,} queries got a negative: "
                    f"{report.without_positives:,} have no positive document, "
                    f"{report.without_negatives:,} no candidate that passes the filters"
                )
            return {"kind": "mined examples", **self.about, "options": asdict(options)} | {
                "report": report.to_dict()
            }

        with console.bar("mining", self.total) as advance:
            examples = work(
                _counted(self.topics, advance),
                self.candidates,
                self.fetch,
                options,
                report,
                self.teacher,
            )
            return report, write_examples(output, examples, about)


def _counted(topics: Iterable[Topic], advance: Any) -> Iterable[Topic]:
    for topic in topics:
        advance(1)
        yield topic


def _check(
    output: Path,
    corpus: str | None,
    index: Path | None,
    run: Path | None,
    split: str | None,
    queries: str | None,
    qrels: Path | None,
    pairs: bool,
) -> None:
    """Refuse, before the work, options that do not go together, and a place for no file."""
    from dupmae_cli.places import check_examples_output

    from dupmae_toolkit.errors import InputError

    check_examples_output(output)
    if corpus is None and index is None:
        raise InputError("name a CORPUS, or an index with --index")
    if pairs and (queries or qrels or split):
        raise InputError("--pairs makes the queries; leave out --queries, --qrels and --split")
    if qrels is not None and (queries is None or split is not None):
        raise InputError("--qrels goes with --queries, and not with --split")
    if corpus is None and queries is None and not pairs:
        raise InputError("name the queries: --queries with --qrels or --split, or --pairs")


def _print(report: MiningReport, output: Path) -> None:
    from rich.console import Console
    from rich.table import Table

    from dupmae_toolkit.training.mining_report import REASONS

    values = report.to_dict()
    table = Table(box=None, padding=(0, 1), pad_edge=False, show_header=False)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("")

    def row(count: int, text: str) -> None:
        if count:
            table.add_row(f"{count:,}", text)

    row(report.queries, "queries")
    row(report.without_positives, "without a positive document, left out")
    row(report.without_negatives, "without negatives")
    row(report.with_fewer, "with fewer negatives than asked for")
    row(report.candidates, "candidates")
    for reason, text in REASONS.items():
        row(report.dropped[reason], f"left out: {text}")
    row(report.not_needed, "not needed")
    row(report.negatives, "negatives")
    row(report.positives, "positives")
    row(report.positives_not_listed, "positives beyond the lists")
    row(values["negatives_above_positive"], "negatives that score above the best positive")
    shown = Console(stderr=True, soft_wrap=True, highlight=False, markup=False)
    shown.print(table)
    names = {"positive_ranks": "positive's rank", "ranks": "negative's rank"}
    names |= {"margins": "positive − negative"}
    spread = Table(box=None, padding=(0, 1), pad_edge=False)
    spread.add_column("", no_wrap=True)
    columns = ("min", "p10", "p25", "median", "p75", "p90", "max")
    for name in columns:
        spread.add_column(name, justify="right", no_wrap=True)
    for key, text in names.items():
        if values[key]:
            spread.add_row(text, *(f"{values[key][name]:.4g}" for name in columns))
    shown.print(spread)
    console.say(f"{output}: {report.written:,} queries, {report.negatives:,} negatives")
