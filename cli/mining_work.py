"""What `dupmae mine` opens, searches and writes, one step after the other."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_cli import console

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus
    from dupmae_toolkit.mining.negatives import Fetch, MiningOptions, Search
    from dupmae_toolkit.mining.report import MiningReport
    from dupmae_toolkit.mining.topics import Topic
    from dupmae_toolkit.search.hybrid_index import HybridIndex


@dataclass(slots=True)
class MiningWork:
    """What the options name, opened step by step; ``stack`` closes it."""

    stack: contextlib.ExitStack
    corpus_name: str | None
    index_path: Path | None
    model: str | None
    loading: dict[str, Any]
    skip_invalid: bool
    about: dict[str, Any] = field(default_factory=dict)
    corpus: Corpus | None = None
    lookup: HybridIndex | None = None
    topics: Iterable[Topic] = ()
    total: int | None = None
    drops_self: bool = False
    candidates: Search | None = None
    fetch: Fetch | None = None
    teacher: Any = None

    def __post_init__(self) -> None:
        from dupmae_toolkit.collection.opening import open_corpus

        if self.corpus_name is not None:
            self.corpus = open_corpus(self.corpus_name, skip_invalid=self.skip_invalid)
        if self.index_path is not None:
            self._open_index(self.index_path)

    def _open_index(self, path: Path) -> None:
        from dupmae_toolkit.search.hybrid_index import HybridIndex

        index = HybridIndex.open(path, self.model, **self.loading)
        self.stack.callback(index.close)
        self.lookup = index

    def choose_topics(
        self,
        split: str | None,
        queries: str | None,
        qrels: Path | None,
        pairs: bool,
        grade: int,
    ) -> None:
        from dupmae_toolkit.collection.beir import open_beir
        from dupmae_toolkit.collection.opening import read_qrels, read_queries
        from dupmae_toolkit.mining.topics import TitleTopics, judged_topics, split_topics

        self.about |= {"corpus": self.corpus_name, "grade": grade}
        if pairs:
            source = self.corpus
            if source is None:
                assert self.lookup is not None
                source = self.lookup.corpus()
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
        from dupmae_toolkit.mining.candidates import run_scores

        self.about["teacher_run"] = None if path is None else str(path)
        if path is not None:
            scores = read_run(path)
            self.teacher = lambda topic: run_scores(scores, topic)

    def take_run(self, path: Path, depth: int) -> None:
        """The lists of a run; their documents from the index, or else from the corpus."""
        from dupmae_toolkit.collection.store import DocumentStore
        from dupmae_toolkit.collection.trec import read_run
        from dupmae_toolkit.mining.candidates import RunCandidates

        run = read_run(path)
        self.candidates = RunCandidates(run, depth)
        self.about |= {"run": str(path), "run_tag": run.tag, "scores": "those of the run"}
        if self.lookup is not None:
            self.fetch = self.lookup.get
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
        from dupmae_toolkit.mining.candidates import IndexCandidates

        if self.lookup is None:
            self._build(texts_only=pairs)
            assert self.corpus is not None
            if pairs:  # the index has no titles, and the filter by title needs them
                store = DocumentStore(self.corpus, progress=console.bar)
                self.stack.callback(store.close)
                self.fetch = store.documents
        assert self.lookup is not None
        index = self.lookup
        request = index.request(depth, mode, fusion)
        self.candidates = IndexCandidates(self.lookup, request)
        self.fetch = self.fetch or self.lookup.get
        self.about |= {
            "index": None if self.index_path is None else str(self.index_path),
            "encoder": index.manifest.encoder.to_dict(),
            "scores": mode,
        }
        if mode == "hybrid":
            self.about["fusion"] = request.fusion.describe(2, True)

    def _build(self, texts_only: bool) -> None:
        import tempfile

        from dupmae_toolkit.mining.topics import TextsOnly
        from dupmae_toolkit.model.loading import load_encoder
        from dupmae_toolkit.search.hybrid_index import HybridIndex

        assert self.corpus is not None
        corpus = TextsOnly(self.corpus) if texts_only else self.corpus
        encoder = load_encoder(self.model or "builtin", **self.loading)
        folder = self.stack.enter_context(tempfile.TemporaryDirectory(prefix="dupmae-mine-"))
        index = HybridIndex.build(Path(folder, "index"), corpus, encoder, progress=console.bar)
        self.stack.callback(index.close)
        self.lookup = index

    def write(self, output: Path, options: MiningOptions) -> tuple[MiningReport, dict[str, Any]]:
        from dataclasses import asdict, replace

        from dupmae_toolkit.errors import InputError
        from dupmae_toolkit.mining.examples import write_examples
        from dupmae_toolkit.mining.negatives import mine as work
        from dupmae_toolkit.mining.report import MiningReport

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
