"""A Lucene index whose term frequencies are impacts, in Anserini's layout.

Documents are added in the order of their rows and end up in one Lucene segment, so that Lucene's
document numbers are the rows. Each document has a field ``id`` (stored; also as doc values, by
which stock Pyserini sorts) and a field ``contents`` with term frequencies and without norms.
ImpactSimilarity scores query weight × frequency.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index import handles
from dupmae_toolkit.index.vocabulary import LONGEST_TERM
from dupmae_toolkit.progress import Advance, Progress, silent

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

ID_FIELD = "id"
CONTENTS_FIELD = "contents"
#: Separates a term from its impact; a control character, which no term contains.
_DELIMITER = "\x01"
_BUFFER_MIB = 128.0
#: Documents passed to Java in one call.
_BATCH = 256
_MAX_HITS = 2**31 - 1


def write_lucene(
    folder: Path,
    ids: Sequence[str],
    impacts: csr_matrix,
    terms: Sequence[str],
    progress: Progress = silent,
) -> None:
    """Write documents with integer impacts [n, |V|] into ``folder``, row i as document number i.

    ``terms`` names the columns as ``lucene_terms`` gives them. The folder is created; it must not
    hold an index. Raises InputError for an id that is too long, JavaError if Lucene fails.
    """
    _check_ids(ids)
    folder.mkdir(parents=True, exist_ok=True)
    jvm.start()
    with jvm.errors(f"{folder}: writing the Lucene index"):
        with jvm.lock:
            writer = _open_writer(folder)
            add = handles.add_documents(writer, *_document())
        try:
            with progress("indexing terms", len(ids)) as advance:
                for first in range(0, len(ids), _BATCH):
                    batch = slice(first, min(first + _BATCH, len(ids)))
                    _add(add, ids[batch], impacts[batch], terms, advance)
            with jvm.lock:
                writer.forceMerge(1)
        except BaseException:
            with contextlib.suppress(Exception), jvm.lock:
                writer.rollback()
            raise
        with jvm.lock:
            writer.close()


class LuceneImpacts:
    """An impact index opened for search. Searching from several threads at once is safe.

    ``terms`` names the columns of query matrices; without it only ``search_terms`` is available.
    """

    def __init__(self, folder: Path, terms: Sequence[str] | None = None) -> None:
        self.folder = Path(folder)
        self._terms = terms
        jvm.start()
        import jnius

        if not self.folder.is_dir():
            raise InputError(f"{folder}: no such folder; it should hold a Lucene index")
        with jvm.errors(f"{folder}: opening the Lucene index"), jvm.lock:
            directory = _directory(self.folder)
            reader = jvm.autoclass("org.apache.lucene.index.DirectoryReader").open(directory)
            self.reader = jnius.cast("org.apache.lucene.index.IndexReader", reader)
            self._searcher = jvm.autoclass("org.apache.lucene.search.IndexSearcher")(self.reader)
            self._searcher.setSimilarity(_similarity())
            self._count = int(self.reader.numDocs())
            #: The number of Lucene segments; one in an index that this toolkit wrote.
            self.segments = int(self.reader.leaves().size())
            self._search = handles.search(CONTENTS_FIELD)
            self._bytes = jvm.autoclass("java.nio.ByteBuffer")
            self._arrays = jvm.autoclass("java.util.Arrays")

    def __len__(self) -> int:
        """The number of documents."""
        return self._count

    def search(self, queries: csr_matrix, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """The best ``k`` documents of each row of ``queries`` (float32 [q, terms], non-negative).

        Columns are those of ``terms``; queries may lack the last ones, which are words. For each
        query: document numbers (int32) and scores (float32, Σ weight × impact), by descending
        score, ties by document number. Documents that share no term with the query are not
        returned. Weights from ``round_weights`` make the scores exact dot products.
        """
        if self._terms is None:
            raise InputError(f"{self.folder}: opened without terms; use search_terms")
        if queries.shape[1] > len(self._terms):
            raise InputError(
                f"queries over {queries.shape[1]:,} terms cannot search an index of "
                f"{len(self._terms):,}; encode them with the index's encoder"
            )
        return [self._top(*self._row(queries, row), k) for row in range(queries.shape[0])]

    def search_terms(
        self, queries: Sequence[Mapping[str, float]], k: int
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """As ``search``, for queries given as mappings from Lucene's terms to weights."""
        return [
            self._top(list(query), np.asarray(list(query.values()), np.float32), k)
            for query in queries
        ]

    def ids(self) -> list[str]:
        """The ids of all documents, by document number."""
        with jvm.errors(f"{self.folder}: reading ids"):
            with jvm.lock:
                stored, total = self.reader.storedFields(), int(self.reader.maxDoc())
            read, step = handles.stored_values(ID_FIELD), 10_000
            found: list[str] = []
            for start in range(0, total, step):
                found += read(stored, start, min(total, start + step)).split("\n")[:-1]
            return found

    def terms(self, prefix: str) -> list[str]:
        """All terms that begin with ``prefix``, which must not be empty, in Lucene's order."""
        import jnius

        found: list[str] = []
        with jvm.errors(f"{self.folder}: reading terms"), jvm.lock:
            text = jnius.cast("java.lang.CharSequence", jvm.autoclass("java.lang.String")(prefix))
            fields = jvm.autoclass("org.apache.lucene.index.MultiTerms")
            terms = fields.getTerms(self.reader, CONTENTS_FIELD)
            if terms is None:  # no document has any
                return found
            each = jnius.cast("org.apache.lucene.index.TermsEnum", terms.iterator())
            start = jvm.autoclass("org.apache.lucene.util.BytesRef")(text)
            at = None if each.seekCeil(start).toString() == "END" else each.term()
            while at is not None and (term := at.utf8ToString()).startswith(prefix):
                found.append(term)
                at = each.next()
        return found

    def impacts(self) -> csr_matrix:
        """All impacts, [n, |V|] of uint16, indices sorted: what ``write_lucene`` was given."""
        from scipy.sparse import csr_matrix

        if self._terms is None:
            raise InputError(f"{self.folder}: opened without terms; its impacts have no columns")
        counts, one = self._document_frequencies(), np.ones(1, np.float32)
        # A term's score in a document for a weight of 1 is its impact there.
        pairs = zip(self._terms, counts, strict=True)
        found = [self._top([term], one, count) for term, count in pairs if count]
        rows = np.concatenate([np.empty(0, np.int32), *(rows for rows, _ in found)])
        values = np.concatenate([np.empty(0, np.float32), *(scores for _, scores in found)])
        columns = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
        shape = (self._count, len(counts))
        impacts = csr_matrix((values.astype(np.uint16), (rows, columns)), shape=shape)
        impacts.sort_indices()
        return impacts

    def _document_frequencies(self) -> list[int]:
        """The number of documents that contain each term."""
        term = jvm.autoclass("org.apache.lucene.index.Term")
        with jvm.errors(f"{self.folder}: reading terms"), jvm.lock:
            return [
                int(self.reader.docFreq(term(CONTENTS_FIELD, each))) for each in self._terms or ()
            ]

    def close(self) -> None:
        """Release the files."""
        with jvm.errors(f"{self.folder}: closing"), jvm.lock:
            self.reader.close()

    def _row(self, queries: csr_matrix, row: int) -> tuple[list[str], np.ndarray]:
        assert self._terms is not None
        part = slice(queries.indptr[row], queries.indptr[row + 1])
        terms = self._terms
        return [terms[i] for i in queries.indices[part].tolist()], queries.data[part]

    def _top(self, terms: list[str], weights: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        if k < 1:
            raise InputError(f"k is {k}; ask for at least one hit")
        weights = np.asarray(weights, np.float32)
        if not np.all(np.isfinite(weights)) or (len(weights) and weights.min() < 0):
            raise InputError("a query's weights hold negative numbers, NaN or infinity")
        if not weights.all():
            terms = [term for term, weight in zip(terms, weights, strict=True) if weight]
            weights = weights[weights != 0]
        if not terms:
            return np.empty(0, np.int32), np.empty(0, np.float32)
        with jvm.errors(f"{self.folder}: searching"):
            buffer = self._bytes.wrap(weights.astype(">f4").tobytes())
            listed = self._arrays.asList(*terms)
            found = self._search(self._searcher, listed, buffer, min(k, _MAX_HITS))
        pairs = np.frombuffer(found.tostring(), [("doc", ">i4"), ("score", ">f4")])
        rows = pairs["doc"].astype(np.int32)
        if len(rows) and (rows.min() < 0 or rows.max() >= self._count):
            raise DupMAEError(
                f"{self.folder}: returned impossible document numbers; run `dupmae verify` on the "
                "index"
            )
        return rows, pairs["score"].astype(np.float32)


def _check_ids(ids: Sequence[str]) -> None:
    for number, name in enumerate(ids):
        if len(name) > LONGEST_TERM // 4 and len(name.encode()) > LONGEST_TERM:
            raise InputError(
                f"the id of document {number}, {name[:40]!r}…, is too long: "
                f"Lucene takes at most {LONGEST_TERM:,} bytes"
            )


def _open_writer(folder: Path) -> Any:
    analyzer = (
        jvm.autoclass("org.apache.lucene.analysis.custom.CustomAnalyzer")
        .builder()
        .withTokenizer("whitespace", "maxTokenLen", str(LONGEST_TERM + 8))
        .addTokenFilter("delimitedTermFrequency", "delimiter", _DELIMITER)
        .build()
    )
    settings = jvm.autoclass("org.apache.lucene.index.IndexWriterConfig")(analyzer)
    settings.setSimilarity(_similarity())
    heap = jvm.autoclass("java.lang.Runtime").getRuntime().maxMemory() / 2**20
    settings.setRAMBufferSizeMB(min(_BUFFER_MIB, heap / 8))
    settings.setUseCompoundFile(False)
    # Both keep the documents in the order in which they are added.
    settings.setMergePolicy(jvm.autoclass("org.apache.lucene.index.LogDocMergePolicy")())
    settings.setMergeScheduler(jvm.autoclass("org.apache.lucene.index.SerialMergeScheduler")())
    return jvm.autoclass("org.apache.lucene.index.IndexWriter")(_directory(folder), settings)


def _document() -> tuple[Any, tuple[Any, Any, Any]]:
    """A reusable document, and its fields: stored id, sorted id, contents."""
    import jnius

    field_type = jvm.autoclass("org.apache.lucene.document.FieldType")()
    field_type.setIndexOptions(jvm.autoclass("org.apache.lucene.index.IndexOptions").DOCS_AND_FREQS)
    field_type.setOmitNorms(True)
    field_type.setTokenized(True)
    field_type.freeze()
    text = jnius.cast("java.lang.CharSequence", jvm.autoclass("java.lang.String")(""))
    store = jvm.autoclass("org.apache.lucene.document.Field$Store").YES
    value = jvm.autoclass("org.apache.lucene.util.BytesRef")(text)
    fields = (
        jvm.autoclass("org.apache.lucene.document.StringField")(ID_FIELD, "", store),
        jvm.autoclass("org.apache.lucene.document.BinaryDocValuesField")(ID_FIELD, value),
        jvm.autoclass("org.apache.lucene.document.Field")(CONTENTS_FIELD, text, field_type),
    )
    document = jvm.autoclass("org.apache.lucene.document.Document")()
    for field in fields:
        document.add(field)
    return document, fields


def _add(
    add: handles.Handle,
    ids: Sequence[str],
    impacts: csr_matrix,
    terms: Sequence[str],
    advance: Advance,
) -> None:
    """Add documents, each as text: term, delimiter, impact, separated by spaces."""
    columns, values, bounds = impacts.indices.tolist(), impacts.data.tolist(), impacts.indptr
    pieces = [f"{terms[c]}{_DELIMITER}{v}" for c, v in zip(columns, values, strict=True)]
    texts = [" ".join(pieces[start:end]) for start, end in pairwise(bounds.tolist())]
    listed = jvm.autoclass("java.util.Arrays").asList
    add(listed(*ids), listed(*texts))
    advance(len(ids))


def _directory(folder: Path) -> Any:
    path = jvm.autoclass("java.nio.file.Paths").get(str(folder.resolve()))
    # No lock file: only this process writes the folder, and it never changes afterwards.
    locks = jvm.autoclass("org.apache.lucene.store.NoLockFactory").INSTANCE
    return jvm.autoclass("org.apache.lucene.store.FSDirectory").open(path, locks)


def _similarity() -> Any:
    return jvm.autoclass("io.anserini.search.similarity.ImpactSimilarity")()
