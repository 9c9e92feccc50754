"""Lucene's BM25 as a baseline: Anserini's classes, settings and analysis, called through pyjnius.

Documents are indexed as in Anserini's flat BEIR baselines: title and text in one field, English
analysis with Porter's stemmer, no positions. k1 is 0.9 and b is 0.4.
"""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import make_folder, read_json, replace_folder, write_json
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Query, Ranking, Run

K1, B = 0.9, 0.4
_FIELD = "contents"
_CLAUSES = 512  # ids to look up at a time; Lucene by default refuses more than 1,024
SETTINGS = {
    "format_version": 1,
    "kind": "bm25",
    "k1": K1,
    "b": B,
    "analysis": "Anserini DefaultEnglishAnalyzer",
}


def bm25_run(
    documents: Iterable[Document],
    queries: Sequence[Query],
    k: int,
    workdir: str | Path,
    *,
    fingerprint: str | None = None,
    progress: Progress = silent,
) -> Run:
    """The best ``k`` documents of every query by BM25; ties by id ascending.

    The index is kept in ``workdir`` and reused for the same documents: those with the same
    ``fingerprint``. By default this is a hash of ids and texts; computing it reads the documents an
    extra time, so they must not be an iterator. Raises InputError for a ``workdir`` that holds
    something else, and JavaError if Lucene fails.
    """
    if k < 1:
        raise InputError(f"k is {k}; ask for at least one hit")
    folder = build_index(documents, workdir, fingerprint=fingerprint, progress=progress)
    searcher = Bm25Searcher(folder)
    run = Run(tag="bm25", metadata={"mode": "bm25", "k": k, **SETTINGS})
    with progress("searching by BM25", len(queries)) as advance:
        for query in queries:
            run.topics[query.id] = searcher.search(query.text, k)
            advance(1)
    searcher.close()
    return run


def build_index(
    documents: Iterable[Document],
    workdir: str | Path,
    *,
    fingerprint: str | None = None,
    progress: Progress = silent,
) -> Path:
    """Index the documents into ``workdir`` unless it already has them; see ``bm25_run``."""
    folder = Path(workdir)
    fingerprint = fingerprint or _fingerprint(documents)
    if folder.exists() and any(folder.iterdir()):
        if not (folder / "manifest.json").is_file():
            raise InputError.at(folder, None, "not empty, and not a BM25 index; name a new folder")
        manifest = read_json(folder / "manifest.json")
        if not isinstance(manifest, dict) or manifest.get("kind") != "bm25":
            raise InputError.at(
                folder, None, "holds something other than a BM25 index; name a new folder"
            )
        if manifest == _manifest(fingerprint, manifest.get("count")):
            return folder
    make_folder(folder.parent)
    with replace_folder(folder) as temporary:
        count = _write(documents, temporary / "lucene", progress)
        ids = _ids(temporary / "lucene")
        if len(ids) != count:
            raise DupMAEError(f"{folder}: Anserini indexed {len(ids):,} of {count:,} documents")
        # Ids contain no line feeds: this is checked when they are read.
        (temporary / "docid").write_text("".join(f"{name}\n" for name in ids), "utf-8")
        write_json(temporary / "manifest.json", _manifest(fingerprint, count))
    return folder


class Bm25Searcher:
    """Searches an index that ``build_index`` made."""

    def __init__(self, folder: Path) -> None:
        from dupmae_toolkit.index import handles

        self._ids = (folder / "docid").read_text("utf-8").split("\n")[:-1]
        jvm.start()
        with jvm.errors(f"{folder}: opening the BM25 index"), jvm.lock:
            self._reader = _open(folder / "lucene")
            self._searcher = jvm.autoclass("org.apache.lucene.search.IndexSearcher")(self._reader)
            similarity = jvm.autoclass("org.apache.lucene.search.similarities.BM25Similarity")
            self._searcher.setSimilarity(similarity(K1, B))
            self._hits = handles.hits()
            self._string = jvm.autoclass("java.lang.String")
            self._generator = jvm.autoclass("io.anserini.search.query.BagOfWordsQueryGenerator")()
            analyzers = jvm.autoclass("io.anserini.analysis.DefaultEnglishAnalyzer")
            self._analyzer = analyzers.newDefaultInstance()
            self._order = _score_then_id()

    def search(self, text: str, k: int) -> Ranking:
        """The best ``k`` documents: by descending float32 score, ties by id ascending."""
        with jvm.errors("searching by BM25"), jvm.lock:
            # pyjnius passes characters above U+FFFF in Java's modified UTF-8, so pass bytes.
            words = self._string(text.encode("utf-8"), "UTF-8")
            query = self._generator.buildQuery(_FIELD, self._analyzer, words)
            found = self._hits(self._searcher.search(query, k, self._order, True))
        pairs = np.frombuffer(found.tostring(), [("doc", ">i4"), ("score", ">f4")])
        return Ranking([self._ids[n] for n in pairs["doc"]], pairs["score"].astype(np.float32))

    def score(self, text: str, ids: Sequence[str]) -> np.ndarray:
        """The scores of the documents with these ids, float64 [n].

        A document without a word of the query scores 0, as in BM25; an unknown id scores NaN.
        """
        rows: dict[str, float] = dict.fromkeys(ids, np.nan)
        known = [name for name in rows if name in self._known]
        for start in range(0, len(known), _CLAUSES):
            part = known[start : start + _CLAUSES]
            rows |= dict.fromkeys(part, 0.0) | self._score_known(text, part)
        return np.array([rows[name] for name in ids], dtype=np.float64)

    def _score_known(self, text: str, ids: Sequence[str]) -> dict[str, float]:
        """The scores of those documents that have a word of the query."""
        with jvm.errors("scoring by BM25"), jvm.lock:
            term = jvm.autoclass("org.apache.lucene.index.Term")
            term_query = jvm.autoclass("org.apache.lucene.search.TermQuery")
            builder = jvm.autoclass("org.apache.lucene.search.BooleanQuery$Builder")
            occur = jvm.autoclass("org.apache.lucene.search.BooleanClause$Occur")
            among = builder()
            for name in ids:
                value = self._string(name.encode("utf-8"), "UTF-8")
                among.add(term_query(term("id", value)), occur.SHOULD)
            words = self._string(text.encode("utf-8"), "UTF-8")
            query = self._generator.buildQuery(_FIELD, self._analyzer, words)
            both = builder()
            both.add(query, occur.MUST)
            both.add(among.build(), occur.FILTER)
            found = self._hits(self._searcher.search(both.build(), len(ids), self._order, True))
        pairs = np.frombuffer(found.tostring(), [("doc", ">i4"), ("score", ">f4")])
        return {self._ids[n]: float(s) for n, s in zip(pairs["doc"], pairs["score"], strict=True)}

    @functools.cached_property
    def _known(self) -> set[str]:
        return set(self._ids)

    def close(self) -> None:
        with jvm.errors("closing the BM25 index"), jvm.lock:
            self._reader.close()


def _write(documents: Iterable[Document], folder: Path, progress: Progress) -> int:
    jvm.start()
    indexer_class = jvm.autoclass("io.anserini.index.SimpleIndexer")
    options = ["-index", str(folder.resolve()), "-input", "", "-collection", "JsonCollection"]
    count = 0
    total = len(documents) if isinstance(documents, Sequence) else None
    if hasattr(documents, "count") and not isinstance(documents, Sequence):
        total = documents.count()
    with jvm.errors(f"{folder}: writing the BM25 index"):
        indexer = indexer_class([*options, "-threads", "1", "-optimize"])
        with progress("indexing for BM25", total) as advance:
            for document in documents:
                record = {"id": document.id, "contents": f"{document.title} {document.text}"}
                indexer.addRawDocument(json.dumps(record))
                count += 1
                advance(1)
        indexer.close()
    (folder / "write.lock").unlink(missing_ok=True)
    return count


def _ids(folder: Path) -> list[str]:
    """The ids in the order of Lucene's document numbers, which merging may have changed."""
    from dupmae_toolkit.index import handles

    step, ids = 10_000, []
    with jvm.errors(f"{folder}: reading ids"), jvm.lock:
        reader = _open(folder)
        stored, total = reader.storedFields(), reader.maxDoc()
        for start in range(0, total, step):
            lines = handles.stored_values("id")(stored, start, min(total, start + step))
            ids += lines.split("\n")[:-1]
        reader.close()
    return ids


def _open(folder: Path) -> Any:
    import jnius

    path = jvm.autoclass("java.nio.file.Paths").get(str(folder.resolve()))
    locks = jvm.autoclass("org.apache.lucene.store.NoLockFactory").INSTANCE
    directory = jvm.autoclass("org.apache.lucene.store.FSDirectory").open(path, locks)
    reader = jvm.autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
    return jnius.cast("org.apache.lucene.index.IndexReader", reader)


def _score_then_id() -> Any:
    field = jvm.autoclass("org.apache.lucene.search.SortField")
    kind = jvm.autoclass("org.apache.lucene.search.SortField$Type")
    by_id = field("id", kind.STRING_VAL)
    return jvm.autoclass("org.apache.lucene.search.Sort")(field.FIELD_SCORE, by_id)


def _manifest(fingerprint: str, count: int | None) -> dict[str, Any]:
    return {**SETTINGS, "anserini": jvm.find_jar().name, "documents": fingerprint, "count": count}


def _fingerprint(documents: Iterable[Document]) -> str:
    digest = hashlib.sha256()
    for document in documents:
        for value in (document.id, document.title, document.text):
            data = value.encode("utf-8", "surrogatepass")
            digest.update(len(data).to_bytes(8, "little"))
            digest.update(data)
    return digest.hexdigest()
