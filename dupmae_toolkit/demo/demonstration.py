"""The whole demonstration: it reads documents, indexes and searches them, measures and times."""

from __future__ import annotations

import contextlib
import hashlib
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from dupmae_toolkit.demo.docstrings import read_docstrings, was_cut
from dupmae_toolkit.demo.questions import Questions, load_questions
from dupmae_toolkit.demo.report import DemoReport, ModeReport
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.experiment import BASELINE
from dupmae_toolkit.index.build import index_corpus
from dupmae_toolkit.index.layout import MANIFEST_FILE
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.progress import Advance, Progress, silent
from dupmae_toolkit.records import Document, Encoder, EncoderInfo, Query, Run
from dupmae_toolkit.search.answers import Mode
from dupmae_toolkit.search.hybrid_index import HybridIndex

MEASURES = ("nDCG@10", "R@100", "RR@10")
MODES: tuple[Mode, ...] = ("dense", "lexical", "bm25", "hybrid")
#: How many questions are shown, and how many hits of each.
EXAMPLES, EXAMPLE_HITS = 3, 3
_DEPTH = 100
_TIMED = 50
_PART_SIZE = 512
_SOURCE = "docstrings of "


class Stopwatch:
    """Adds up the seconds and the units of work that are reported under each description."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress
        self.seconds: dict[str, float] = {}
        self.done: dict[str, int] = {}

    @contextlib.contextmanager
    def __call__(self, description: str, total: int | None = None) -> Iterator[Advance]:
        with self.measure(description), self._progress(description, total) as advance:

            def count(done: int) -> None:
                self.done[description] = self.done.get(description, 0) + done
                advance(done)

            yield count

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        """Time a piece of work that shows no progress of its own."""
        start = time.perf_counter()
        try:
            yield
        finally:
            spent = time.perf_counter() - start
            self.seconds[name] = self.seconds.get(name, 0.0) + spent


def run_demo(
    folder: str | Path,
    model: str | Encoder = "builtin",
    progress: Progress = silent,
    *,
    questions: int | None = None,
    note: Callable[[str], None] = lambda message: None,
) -> DemoReport:
    """Index the running Python's docstrings in ``folder``, search them, and measure all modes.

    model: an encoder, or the name or folder of one. questions: how many are asked; default all.
    note: called with a line about each step. The index of an earlier demonstration is reused if its
    documents and its encoder are the same, and replaced if not. Raises InputError for a folder that
    holds another index.
    """
    folder = Path(folder)
    watch = Stopwatch(progress)
    _check_folder(folder)
    with watch.measure("reading"):
        documents = read_docstrings(progress=progress)
    asked = load_questions({document.id for document in documents}, questions)
    source = _source(documents)
    version = platform.python_version()
    words = sum(len(document.contents.split()) for document in documents)
    note(f"{len(documents):,} docstrings of Python {version}, {words:,} words")
    with watch.measure("model"):
        encoder = _load(model) if isinstance(model, str) else model
    reused = _is_there(folder, source, encoder.info)
    if reused:
        note(f"{folder}: indexed by an earlier run")
    else:
        with watch.measure("building"):
            index_corpus(
                folder,
                Memory(documents, source),
                encoder,
                part_size=_PART_SIZE,
                overwrite=True,
                progress=watch,
            )
    note(f"searching: {len(asked.queries)} questions in {len(MODES) + 1} ways")
    with contextlib.closing(HybridIndex.open(folder, encoder)) as index:
        runs: dict[str, Run] = {
            mode: index.search_batch(asked.queries, _DEPTH, mode, progress=watch) for mode in MODES
        }
        modes: dict[str, ModeReport] = {
            mode: _measure(index, mode, asked, runs[mode]) for mode in MODES
        }
        examples = [
            (query.text, index.search(query.text, EXAMPLE_HITS))
            for query in _best_answered(asked, runs[HybridIndex.mode])
        ]
    modes[BASELINE] = _measure_bm25(documents, asked, watch)
    return DemoReport(
        index=str(folder),
        reused=reused,
        model=encoder.info.name,
        source=source,
        documents=len(documents),
        words=words,
        encoded=watch.done.get("encoding", 0),
        cut=sum(was_cut(document) for document in documents),
        truncated=index.manifest.truncated,
        questions=len(asked.queries),
        judgements=asked.judgements,
        missing=asked.missing,
        dropped=asked.dropped,
        seconds=_seconds(watch, reused),
        examples=examples,
        modes=modes,
    )


def _load(model: str) -> Encoder:
    from dupmae_toolkit.model.loading import load_encoder

    return load_encoder(model)


def _source(documents: list[Document]) -> str:
    """A name for the documents; it contains their checksum, so that other ones have another."""
    digest = hashlib.sha256(repr([(d.id, d.title, d.text) for d in documents]).encode())
    return f"{_SOURCE}Python {platform.python_version()}, {digest.hexdigest()[:12]}"


def _check_folder(folder: Path) -> None:
    if (folder / MANIFEST_FILE).exists():
        source = Manifest.load(folder).source
        if not source.startswith(_SOURCE):
            raise InputError(f"{folder}: holds an index of {source}; name another folder")


def _is_there(folder: Path, source: str, encoder: EncoderInfo) -> bool:
    if not (folder / MANIFEST_FILE).exists():
        return False
    manifest = Manifest.load(folder)
    fitted = manifest.bm25 is not None  # not built by an earlier version
    return fitted and manifest.source == source and manifest.encoder.same_vectors_as(encoder)


def _best_answered(asked: Questions, run: Run) -> list[Query]:
    """The questions whose first hits have the highest grades; ties go to the earlier ones."""

    def grades(query: Query) -> int:
        judged = asked.qrels[query.id]
        return sum(judged.get(name, 0) for name in run[query.id].ids[:EXAMPLE_HITS])

    return sorted(asked.queries, key=grades, reverse=True)[:EXAMPLES]


def _measure(index: HybridIndex, mode: Mode, asked: Questions, run: Run) -> ModeReport:
    from dupmae_toolkit.evaluation.measures import evaluate

    texts = [query.text for query in asked.queries[:_TIMED]]
    times = [_milliseconds(index, text, mode) for text in texts]
    return ModeReport(evaluate(asked.qrels, run, MEASURES).means, median(times))


def _measure_bm25(documents: list[Document], asked: Questions, watch: Stopwatch) -> ModeReport:
    from dupmae_toolkit.evaluation.bm25 import bm25_run
    from dupmae_toolkit.evaluation.measures import evaluate

    with tempfile.TemporaryDirectory(prefix="dupmae-demo-") as folder:
        workdir = Path(folder, "bm25")
        run = bm25_run(documents, asked.queries, _DEPTH, workdir, progress=watch)
    spent = watch.seconds.get("searching by BM25", 0.0)
    means = evaluate(asked.qrels, run, MEASURES).means
    return ModeReport(means, 1000 * spent / len(asked.queries))


def _milliseconds(index: HybridIndex, text: str, mode: Mode) -> float:
    start = time.perf_counter()
    index.search(text, 10, mode)
    return 1000 * (time.perf_counter() - start)


def _seconds(watch: Stopwatch, reused: bool) -> dict[str, float | None]:
    spent = watch.seconds
    encoding = spent.get("encoding", 0.0)
    return {
        "reading": spent["reading"],
        "model": spent["model"],
        "encoding": None if reused else encoding,
        "indexing": None if reused else spent["building"] - encoding,
    }
