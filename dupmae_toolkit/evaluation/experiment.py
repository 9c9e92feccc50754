"""One data set, one encoder, one folder: each step runs once; later calls reuse its result.

    FOLDER/encoded/documents   FOLDER/encoded/queries-SPLIT   the vectors of every text
    FOLDER/index               the index; index-inputs.json says what it was built from
    FOLDER/bm25                Lucene's index of the texts, if BM25 is requested
    FOLDER/NAME.MODE.trec      the runs, each with NAME.MODE.trec.json beside it
    FOLDER/NAME.qrels          the judgements that they are measured with

With several splits, the last two are named NAME.SPLIT.MODE.trec and NAME.SPLIT.qrels.

A result is reused if its inputs (texts, encoder, options) are the same, by digest. So a call that
was killed can continue, and a call with another split or k does only the new work.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_toolkit.collection.beir import BeirDataset, all_topics, real_qrels
from dupmae_toolkit.collection.trec import read_metadata, read_run, write_run
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.digests import digest, digest_of
from dupmae_toolkit.evaluation.judging import write_judgements
from dupmae_toolkit.evaluation.missed import Unknown, unknown_in
from dupmae_toolkit.evaluation.self_matches import settled
from dupmae_toolkit.files import read_json, write_json
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Run

if TYPE_CHECKING:
    from dupmae_toolkit.collection.passages import Passages
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.fusion import Fusion
    from dupmae_toolkit.search.hybrid_index import HybridIndex

MODES = ("dense", "lexical", "bm25", "hybrid")
#: The name of the runs of Lucene's own BM25.
BASELINE = "lucene-bm25"
#: Incremented with each change that makes runs of earlier versions incomparable.
_VERSION = 2


class Experiment:
    """The steps; each runs when first needed. ``reused`` lists those that an earlier call did."""

    def __init__(
        self,
        dataset: BeirDataset,
        encoder: Encoder,
        folder: Path,
        split: str,
        k: int,
        faiss: str = "Flat",
        bm25: bool = True,
        progress: Progress = silent,
        *,
        drop_self: bool | None = None,
        label: str | None = None,
        passages: Passages | None = None,
        aggregate: str | None = None,
    ) -> None:
        """bm25: whether the words of the texts are indexed too.

        drop_self: whether documents with their topic's own id are removed; None: only for ArguAna
        and Quora. label: how the names of the runs begin; None: the data set's name. passages,
        aggregate: rank documents by passages that are cut like this, see ``HybridIndex.search``.
        """
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        self.dataset = dataset
        self.encoder = encoder
        self.folder = folder
        self.split = split
        self.k = k
        self.faiss = faiss
        self.words = bm25
        self.progress = progress
        self.drops_self = dataset.drops_self_matches if drop_self is None else drop_self
        self.label = label or dataset.name
        self.passages, self.aggregate = passages, aggregate
        self.documents_folder, self.index_folder = "documents", "index"
        self.topics_folder = f"queries-{split}"
        self.reused: list[str] = []
        from dupmae_toolkit.index.build import BuildOptions

        BuildOptions(faiss).check(encoder.info.dense_dim)
        # Read before writing anything, so that a wrong split leaves nothing behind.
        self.queries = all_topics(dataset, split)
        self.qrels = real_qrels(dataset, split)

    @property
    def depth(self) -> int:
        """Hits to request: one more than to keep if a self-match may have to be removed."""
        return self.k + 1 if self.drops_self else self.k

    @cached_property
    def documents(self) -> EncodedCorpus:
        """The encoded corpus."""
        from dupmae_toolkit.encoding.passages import PassageSource
        from dupmae_toolkit.encoding.stream import encode_corpus

        folder = self.folder / "encoded" / self.documents_folder
        source: Any = self.dataset.corpus
        if self.passages is not None:
            source = PassageSource(source, self.passages, self.encoder)
        encoded = encode_corpus(source, self.encoder, folder, progress=self.progress)
        self._note("documents", encoded.newly_encoded == 0)
        return encoded

    @cached_property
    def topics(self) -> EncodedCorpus:
        """The encoded topics of the split.

        Topics that were cut at another length, or computed in another precision, are encoded again.
        """
        from dupmae_toolkit.encoding.resume import is_outdated
        from dupmae_toolkit.encoding.source import Memory
        from dupmae_toolkit.encoding.stream import encode_corpus

        folder = self.folder / "encoded" / self.topics_folder
        if is_outdated(folder, self.encoder):
            shutil.rmtree(folder)
        named = getattr(self.dataset, "topics_source", self.dataset.source)
        source = Memory(self.queries, f"{named} ({self.split})")
        encoded = encode_corpus(
            source, self.encoder, folder, kind="queries", progress=self.progress
        )
        self._note("queries", encoded.newly_encoded == 0)
        return encoded

    @cached_property
    def index(self) -> HybridIndex:
        """The index of the documents; one that was built from something else is replaced."""
        from dupmae_toolkit.index.build import build_index
        from dupmae_toolkit.index.layout import MANIFEST_FILE
        from dupmae_toolkit.search.hybrid_index import HybridIndex

        folder = self.folder / self.index_folder
        record = self.folder / f"{self.index_folder}-inputs.json"
        inputs = {
            "version": _VERSION,
            "faiss": self.faiss,
            "bm25": self.words,
            "documents": digest_of(self.documents),
            "score": self._score(),
        }
        exists = (folder / MANIFEST_FILE).exists()
        reusable = exists and _read(record) == inputs
        if not reusable:
            # Remove the record before changing the index; write it when the index is complete.
            record.unlink(missing_ok=True)
            build_index(
                folder,
                self.documents,
                vocabulary=self.encoder.vocabulary,
                faiss_spec=self.faiss,
                bm25=self.words,
                overwrite=exists,
                progress=self.progress,
            )
            write_json(record, inputs)
        self._note("index", reusable)
        return HybridIndex.open(folder)

    @property
    def modes(self) -> tuple[str, ...]:
        """The modes that the index can be searched in."""
        lacking = set() if self.words else {"bm25"}
        lacking |= {"dense", "lexical"} - set(self.encoder.info.sides)
        return tuple(mode for mode in MODES if mode not in lacking)

    def truncated(self) -> dict[str, Any]:
        """How many topics and documents were cut, and at how many tokens."""
        topics, documents = self.topics, self.documents
        return {
            "queries": topics.manifest["truncated"],
            "query_max_length": topics.info.query_max_length,
            "documents": documents.manifest["truncated"],
            "max_length": documents.info.max_length,
        }

    def precision(self) -> dict[str, str]:
        """The precision of the products that topics and documents were encoded with."""
        return {"queries": self.topics.precision, "documents": self.documents.precision}

    def request(
        self,
        mode: str,
        fusion: Fusion,
        exact: bool = False,
        plain: bool = False,
        idf_power: float | None = None,
    ) -> Request:
        """What is asked of the index; see ``HybridIndex.request``."""
        plain = plain and mode != "bm25"
        more: dict[str, Any] = {"idf_power": idf_power, "aggregate": self.aggregate}
        return self.index.request(self.depth, mode, fusion, exact=exact, plain=plain, **more)

    def search(self, request: Request, path: Path | None = None) -> tuple[Run, Path]:
        """The run of a request, and its file. path: another place, whose name the run is given."""
        mode = request.mode
        inputs: dict[str, Any] = {"faiss": self.faiss, "exact": request.exact}
        if self.passages is not None:
            inputs["aggregate"] = request.aggregate
        if mode == "hybrid":
            inputs["fusion"] = request.fusion.describe(len(request.parts), True)
        if "lexical" in request.parts:
            inputs["idf_power"] = request.idf_power
        inputs["vectors"] = [digest_of(self.documents), digest_of(self.topics)]
        inputs["score"] = self._score()

        def run() -> Run:
            # BM25 takes the texts; the others take vectors.
            topics = self.queries if mode == "bm25" else self.topics
            return self.index.run(topics, request, progress=self.progress)

        return self._run(mode, inputs, run, path)

    def bm25(self, path: Path | None = None) -> tuple[Run, Path]:
        """The run of Lucene's BM25 over the same texts, and its file; path: as in ``search``."""
        from dupmae_toolkit.evaluation.bm25 import SETTINGS, bm25_run

        texts = self.documents.manifest["contents_sha256"]
        inputs = {**SETTINGS, "texts": [texts, self.topics.manifest["contents_sha256"]]}

        def run() -> Run:
            return bm25_run(
                self.dataset.corpus,
                self.queries,
                self.depth,
                self.folder / "bm25",
                fingerprint=texts,
                progress=self.progress,
            )

        return self._run(BASELINE, inputs, run, path)

    def _run(
        self,
        mode: str,
        inputs: dict[str, Any],
        search: Callable[[], Run],
        path: Path | None,
    ) -> tuple[Run, Path]:
        """The run on disk if it was made from the same inputs; else a new one, written there."""
        named = path is not None
        path = path or self.folder / f"{self.label}.{mode}.trec"
        step = path.stem if named else mode
        drops = self.drops_self
        made = {"version": _VERSION, "split": self.split, "k": self.k, "inputs": digest(inputs)}
        made["drops_self_matches"] = drops
        stored = read_metadata(path)
        if stored is not None and stored.get("made_from") == made and stored.get("hits"):
            self._note(step, True)
            return read_run(path), path
        run, _ = settled(search(), self.k, drops)
        run.metadata |= {"dataset": self.dataset.name, "split": self.split, "made_from": made}
        if named:
            run.tag = path.stem
        write_run(run, path)
        self._note(step, False)
        return run, path

    def write_qrels(self, path: Path | None = None) -> dict[str, str]:
        """Write the judgements beside the runs; returns their source, split, file and SHA-256."""
        path = path or self.folder / f"{self.label}.qrels"
        sha256 = write_judgements(self.qrels, path)
        source = getattr(self.dataset, "qrels_source", self.dataset.source)
        return {"source": source, "split": self.split, "file": path.name, "sha256": sha256}

    def share(self, other: Experiment) -> None:
        """Take the encoded documents of an experiment on another split of the same data set."""
        self.__dict__["documents"] = other.documents

    def unknown(self) -> Unknown:
        """How many judged documents are not in the corpus."""
        return unknown_in(self.qrels, self.index.__contains__)

    def close(self) -> None:
        """Close the index, if it was opened."""
        if "index" in self.__dict__:
            self.index.close()

    def _score(self) -> dict[str, Any]:
        """What an index takes from its encoder besides the vectors."""
        from dupmae_toolkit.encoding.resume import SCORE_FIELDS

        info = self.documents.info.to_dict()
        return {name: info[name] for name in SCORE_FIELDS}

    def _note(self, step: str, reused: bool) -> None:
        if reused:
            self.reused.append(step)


def _read(record: Path) -> Any:
    try:
        return read_json(record)
    except InputError:
        return None
