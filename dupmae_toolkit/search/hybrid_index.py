"""HybridIndex: built from documents, searched with texts or with query vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakSet, finalize

import numpy as np

from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.metadata import OWN_FIELDS
from dupmae_toolkit.collection.passages import passages_of
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Encoder, Query, Representations
from dupmae_toolkit.search.answers import (
    AGGREGATES,
    MAX,
    PARTS,
    PLAIN,
    WORDS,
    Request,
    check_k,
    check_offset,
)
from dupmae_toolkit.search.engine import new_pool
from dupmae_toolkit.search.explaining import Explaining
from dupmae_toolkit.search.filters import parse_filter
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.given import (
    Weights,
    check_encoder,
    check_fusion,
    check_id,
    check_text,
    given_encoder,
    given_queries,
    shown_by,
    with_weights,
)
from dupmae_toolkit.search.lexical import MAX_POSTINGS
from dupmae_toolkit.search.lookups import check_lookup, check_not_dense, load_lookup, without_dense
from dupmae_toolkit.search.matching import check_field
from dupmae_toolkit.search.queries import (
    Queries,
    check_query_length,
    load_encoder,
    query_vectors,
    texts_alone,
)
from dupmae_toolkit.search.searcher import Answers, Searched, metadata_of
from dupmae_toolkit.search.selection import kinds_in, masks_of
from dupmae_toolkit.search.snapshot import Snapshot

if TYPE_CHECKING:
    from dupmae_toolkit.index.lucene import LuceneImpacts
    from dupmae_toolkit.index.segment import Segment
    from dupmae_toolkit.index.updates import Update
    from dupmae_toolkit.model.lookup import LookupEncoder

#: The default depth of a leg is four times k, at least the first and at most the second.
LEAST_DEPTH, MOST_DEPTH = 100, 1000


class HybridIndex(Explaining):
    """The dense and the lexical index of a collection as one.

    Example:
        index = HybridIndex.open("indexes/notes")
        for hit in index.search("how do I parse a date", k=10):
            print(hit.rank, hit.id, hit.score, hit.dense, hit.lexical, hit.bm25)
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest | None,
        encoder: Encoder | None,
        max_postings: int = MAX_POSTINGS,
        check: str = "quick",
        **settings: Any,
    ) -> None:
        """Use ``open`` or ``build``. manifest: None for the index's current one."""
        self.path = path
        self._encoder = encoder
        #: The name of the encoder to load; None: the manifest's.
        self._encoder_name: str | None = None
        #: What encodes queries; None: the encoder.
        self._lookup: LookupEncoder | None = None
        self._settings = settings
        self._pool = new_pool()
        self._lock = threading.RLock()
        self._closed = False
        self._process = os.getpid()
        self._snapshot = (
            Snapshot.newest(path, self._pool, None, max_postings, check)[0]
            if manifest is None
            else Snapshot(path, manifest, self._pool, None, max_postings, check)
        )
        #: Segments that no longer belong to the index; searches under way may still need them.
        self._retired: WeakSet[Segment] = WeakSet()
        #: What such segments had opened, once no search needs them. Closed at the next refresh.
        self._left: list[list[LuceneImpacts]] = []

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | str | os.PathLike[str] | None = None,
        *,
        max_postings: int = MAX_POSTINGS,
        check: str = "quick",
        query_max_length: int | None = None,
        query_encoder: str = "network",
        **settings: Any,
    ) -> HybridIndex:
        """Open an index.

        encoder: an encoder, or the name or folder of one; None: the one that the manifest names,
        loaded when a text is first searched. Searching with vectors needs none.

        max_postings: how many postings may be held in memory, 5 bytes each. Searching them is
        faster than Lucene and gives the same results. Lucene searches the others; with 0, all.

        check: ``quick`` compares the sizes of all files with the manifest, and the checksums of
        small files and of files that are read whole. ``full`` compares all checksums, which reads
        every file; ``sizes`` compares none. A file that was changed raises InputError, on opening
        or when it is first used.

        query_max_length: where an encoder that is loaded here cuts queries, in tokens, as far as
        its backbone has positions; None: where the index says. settings: its ``device`` and
        ``precision``. Raises EncoderMismatchError, with both names, if the index was built with
        another encoder.

        query_encoder: ``lookup`` takes the term weights of queries from the table of the encoder's
        checkpoint (``dupmae derive-lookup``), without torch. Hybrid scores then have no dense part.
        Raises InputError if there is no table.
        """
        check_lookup(query_encoder)
        if isinstance(encoder, os.PathLike):
            encoder = os.fspath(encoder)
        if query_encoder == "network":
            check_query_length(query_max_length, encoder)
        settings["query_max_length"] = query_max_length
        index = cls(Path(path), None, None, max_postings, check, **settings)
        if query_encoder == "lookup":
            index._lookup = load_lookup(index.path, index.manifest, encoder, query_max_length)
            if isinstance(encoder, str):
                index._encoder_name = encoder  # loaded when documents are added
                return index
        if isinstance(encoder, str):
            encoder = load_encoder(encoder, index.manifest.encoder, **settings)
        if encoder is not None:
            check_encoder(encoder, "encode_queries")
            index.manifest.check_encoder(index.path, encoder.info)
        index._encoder = encoder
        return index

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Any,
        encoder: Encoder | str | os.PathLike[str],
        *,
        passages: int | None = None,
        overlap: int | None = None,
        faiss: str = "Flat",
        overwrite: bool = False,
        progress: Progress | bool = silent,
        **settings: Any,
    ) -> HybridIndex:
        """Encode documents and build an index of them at ``path``.

        documents: anything that ``open_corpus`` opens: Documents, dicts, texts, a mapping of ids to
        texts, a data frame, an Arrow table, or the name of a file or folder. Files and iterators
        are never all in memory. encoder: an encoder, ``builtin``, or the name or folder of another.
        passages, overlap: cut the documents into passages of at most so many tokens, with so many
        shared (a quarter, if not given), and rank documents by these; None: index whole texts,
        which the encoder cuts at its limit. faiss: a FAISS factory string. progress: True shows a
        bar on stderr. settings: further fields of ``BuildOptions`` (``max_impact``,
        ``segment_size``, ``bm25``, ``mean_length``). An interrupted build is continued. If ``path``
        holds an index, or an interrupted build of other documents or settings, it is refused unless
        ``overwrite``.
        """
        from dupmae_toolkit.index.build import BuildOptions, index_corpus

        options, progress = BuildOptions(faiss_spec=faiss, **settings), shown_by(progress)
        encoder = given_encoder(encoder)
        manifest = index_corpus(
            path,
            documents,
            encoder,
            options,
            passages=passages_of(passages, overlap),
            overwrite=overwrite,
            progress=progress,
        )
        return cls(Path(path), manifest, encoder)

    mode = "hybrid"
    tag = "dupmae"

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return len(self._snapshot)

    def __repr__(self) -> str:
        """The folder, the number of documents, and whether the index can be searched."""
        name = f"{type(self).__name__} {str(getattr(self, 'path', ''))!r}"
        snapshot = getattr(self, "_snapshot", None)
        if snapshot is None:  # a debugger may call this before __init__ has finished
            return f"<{name}: not opened>"
        state = "open" if self._process == os.getpid() else "opened in another process"
        documents = counted(len(snapshot), "document")
        return f"<{name}: {documents}, {'closed' if self._closed else state}>"

    @property
    def manifest(self) -> Manifest:
        """The manifest of the state of the index that is open."""
        return self._snapshot.manifest

    def refresh(self) -> bool:
        """Open the newest state of the index; returns whether it differs from the open one.

        Without it, every search sees the state that was opened, whatever other processes change.
        Searches that are under way finish in the state in which they began.
        """
        self._check_open()
        with self._lock:
            snapshot, changed = Snapshot.newest(self.path, self._pool, self._snapshot)
            if changed:
                for made_by in (self._encoder, self._lookup):
                    if made_by is not None:
                        snapshot.manifest.check_encoder(self.path, made_by.info)
                for segment in set(self._snapshot.segments).difference(snapshot.segments):
                    self._retired.add(segment)
                    # Closed later: Java must not be called during Python's garbage collection.
                    finalize(segment, self._left.append, segment.opened)
                # The old one is released when the last search or answer that refers to it is gone.
                self._snapshot = snapshot
            self._close_left()
            return changed

    def _close_left(self) -> None:
        while self._left:
            for lucene in self._left.pop():
                lucene.close()

    def warm(self) -> None:
        """Do the work that the first queries would otherwise wait for, for example in a server.

        This reads the impacts, and makes a quantized copy of Flat vectors, which speeds up single
        queries and takes a quarter of the vectors' memory. Without ``warm`` the copy is made after
        a few single queries, and only if torch is loaded. The answers are the same. Call it again
        after ``refresh``.
        """
        self._check_open()
        self._snapshot.warm(dense=self._lookup is None)

    def add(
        self,
        documents: Any,
        *,
        replace: bool = False,
        progress: Progress | bool = silent,
    ) -> Update:
        """Add documents in one step, and open the new state; see ``updates.add_corpus``.

        documents: as for ``build``. replace: they replace those with the same ids.
        """
        from dupmae_toolkit.index.updates import add_corpus

        self._check_open()
        shown = shown_by(progress)
        done = add_corpus(self.path, documents, self.encoder, replace=replace, progress=shown)
        self.refresh()
        return done

    def delete(
        self, ids: Iterable[str] = (), *, ignore_missing: bool = False, filter: str | None = None
    ) -> Update:
        """Delete documents in one step, all or none, and open the new state.

        filter: also those that it matches when the index is locked for the change.
        """
        from dupmae_toolkit.index.updates import delete_documents

        self._check_open()
        where = None if filter is None else partial(masks_of, filter)
        done = delete_documents(self.path, ids, ignore_missing=ignore_missing, where=where)
        self.refresh()
        return done

    def compact(self, progress: Progress | bool = silent) -> Update:
        """Rewrite the index without deleted documents, in as few segments as possible."""
        from dupmae_toolkit.index.updates import compact_index

        self._check_open()
        done = compact_index(self.path, progress=shown_by(progress))
        self.refresh()
        return done

    @property
    def encoder(self) -> Encoder:
        """The encoder of the queries, loaded on first use if it was not given."""
        with self._lock:
            if self._encoder is None:
                info, given = self.manifest.encoder, self._encoder_name
                if given is not None:
                    encoder = load_encoder(given, info, **self._settings)
                    self.manifest.check_encoder(self.path, encoder.info)
                    self._encoder = encoder
                    return encoder
                try:
                    encoder = load_encoder(info.name, info, remembered=True, **self._settings)
                except InputError as error:
                    raise InputError(
                        f"{self.path}: its encoder {info.name!r} is not found by that name; give "
                        f"its folder with --model (encoder=…): {error}"
                    ) from error
                self.manifest.check_encoder(self.path, encoder.info)
                self._encoder = encoder
            return self._encoder

    def request(
        self,
        k: int = 10,
        mode: str | None = None,
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
        plain: bool = False,
        idf_power: float | None = None,
        filter: str | None = None,
        among: Iterable[str] | None = None,
        offset: int | None = None,
        weights: Weights | None = None,
        aggregate: str | None = None,
    ) -> Request:
        """A checked request; ``sum`` gets the index's weights, or the encoder's if ``plain``."""
        check_k(k)
        until = k
        if offset is not None:
            check_offset(offset)
            until = k + offset
        manifest, mode = self.manifest, self.mode if mode is None else mode
        if mode == "bm25":
            self._check_words(plain)
        scoring = None if plain else manifest.scoring
        info, sides = manifest.encoder, self._snapshot.sides
        if mode in PLAIN and mode not in sides:
            (other,) = sides
            raise InputError(
                f"{self.path}: its encoder {info.name!r} gives no {mode} vectors; choose mode "
                f"hybrid or {other}"
            )
        each = (info.dense_weight, info.lexical_weight) if scoring is None else scoring.weights
        parts = sides if scoring is None else self._snapshot.parts
        own = each[: len(parts)]
        if parts != PARTS[: len(parts)]:
            own = tuple([each[PARTS.index(part)] for part in parts])
        if idf_power is None:
            idf_power = scoring.idf_power if scoring else 0.0
        elif plain and idf_power:
            raise InputError("the plain score has no frequencies; leave out plain or idf_power")
        if self._lookup is not None:
            parts, own = without_dense(self.path, mode, parts, own)
        if weights is not None:
            fusion = with_weights(fusion, weights, parts, mode)
        if isinstance(fusion, str):
            fusion = Fusion(fusion, own if fusion == "sum" else None)
        elif not isinstance(fusion, Fusion):
            check_fusion(fusion)
        elif fusion.method == "sum" and fusion.weights is None:
            fusion = replace(fusion, weights=own)
        if offset is not None:
            if fusion.is_sum or mode != "hybrid":
                exact = True  # what is not proven may depend on how much was asked for
            else:
                depth = MOST_DEPTH if depth is None else depth
                _check_page(k, offset, depth, fusion.method)
        if depth is None:
            depth = max(until, min(max(4 * int(until), LEAST_DEPTH), MOST_DEPTH))
        parts = parts if mode == "hybrid" else ()
        if filter is not None and not isinstance(filter, str):
            parse_filter(filter)  # says what is wrong
        ids = None if among is None else ids_among(among)
        if aggregate is not None:
            self._check_aggregate(aggregate)
        aggregate = aggregate or MAX
        return Request(
            k, mode, fusion, depth, exact, parts, idf_power, filter, ids, offset, aggregate
        )

    def _check_aggregate(self, aggregate: str) -> None:
        """Raise InputError unless documents can be ranked by their passages in this way."""
        if self.manifest.passages is None:
            raise InputError(
                f"{self.path}: holds whole documents, which have no passages to aggregate; build "
                "it again with --passages (passages=…)"
            )
        if aggregate not in AGGREGATES:
            raise InputError(f"aggregate {aggregate!r}; choose one of {', '.join(AGGREGATES)}")

    def _check_words(self, plain: bool) -> None:
        """Raise InputError unless the index can be searched by BM25."""
        if plain:
            raise InputError("the plain score has no BM25; leave out plain, or mode bm25")
        if self.manifest.scoring is None:
            raise InputError(
                f"{self.path}: was built by an earlier version, without BM25; `dupmae compact` "
                "adds it"
            )
        if self.manifest.bm25 is None:
            raise InputError(f"{self.path}: was built without BM25; build it again with it")

    def answers(self, queries: Queries, request: Request, progress: Progress = silent) -> Answers:
        """The answers as documents by number, with their certificates."""
        snapshot, parts, selection = self._snapshot, request.parts, None
        if request.filter is not None or request.among is not None:
            self._check_open()
            # Before the queries are encoded, which takes longer than to find what is wrong.
            selection = snapshot.selections.get(request.filter, request.among)
        vectors = self.vectors(queries, parts)
        inputs = snapshot.inputs(vectors, request)
        engine = snapshot.engine(parts, selection)
        if snapshot.by_document is None:
            answers = engine.search(inputs, request, progress)
        else:
            whole = snapshot.engine(parts)
            answers = snapshot.by_document.search(engine, whole, inputs, request, progress)
        for answer in answers:
            answer.snapshot = snapshot
        return Answers(vectors.ids, answers, snapshot, vectors, selection)

    def vectors(self, queries: Queries, parts: tuple[str, ...] = PARTS) -> Representations:
        """Both vectors of queries, checked. Searching with them does not encode the texts again.

        parts: those of the score that they are for. BM25 alone needs only the texts: then no
        encoder is called or loaded, and the vectors have no columns.
        """
        self._check_open()
        if parts == WORDS:
            return texts_alone(queries)
        if self._lookup is None:
            return query_vectors(queries, self.manifest.encoder, self.path, lambda: self.encoder)
        lookup = self._lookup
        vectors = query_vectors(queries, self.manifest.encoder, self.path, lambda: lookup)
        if vectors is queries or not isinstance(queries, Sequence):
            check_not_dense(self.path, vectors)
        return vectors

    def inputs(self, vectors: Representations, request: Request) -> dict[str, Any]:
        """What the legs take for these queries in the open state; see ``inputs.leg_inputs``."""
        return self._snapshot.inputs(vectors, request)

    def metadata(self, request: Request, searched: Searched) -> dict[str, Any]:
        """How scores are computed and fused, what a missing one counts as, and how ties break."""
        # The open state may be newer than the one that was searched.
        manifest = searched.manifest if isinstance(searched, Snapshot) else self.manifest
        described = metadata_of(request, self.path, len(searched), manifest.encoder)
        if manifest.passages is not None:
            described["passages"] = {
                **manifest.passages.to_dict(),
                "count": manifest.live,
                "aggregate": request.aggregate,
            }
        if self._lookup is not None:
            described["query_encoder"] = self._lookup.describe()
        if request.parts == WORDS:  # BM25 counts the words of whole texts; nothing is encoded
            described["truncated"] |= {"queries": 0, "documents": 0}
        else:
            described["precision"]["documents"] = manifest.precision
            described["truncated"]["documents"] = manifest.truncated
            described["truncated"]["max_length"] = manifest.encoder.max_length
        if request.mode == "hybrid":
            described["depth"] = request.depth
            lists = {"lists": list(request.parts)}
            described["fusion"] = lists | request.fusion.describe(len(request.parts), True)
        if "dense" in request.parts:
            described["dense"] = {
                "score": "inner product of query and document vector",
                "faiss": manifest.faiss_spec,
            }
        if "lexical" in request.parts:
            described["lexical"] = {
                "score": "sum over terms of query weight × impact / scale",
                "scale": manifest.scale,
                "max_impact": manifest.max_impact,
            }
            described["lexical"]["frequencies"] = (
                {"function": "(idf / mean idf) ^ power", "power": request.idf_power}
                if request.idf_power
                else None
            )
        if "bm25" in request.parts and manifest.bm25 is not None:
            described["bm25"] = {
                "score": "sum over words of idf × impact / scale",
                "scale": manifest.max_impact,
                **manifest.bm25.to_dict(),
            }
        if request.mode in ("lexical", "bm25"):
            described[request.mode]["missing"] = (
                "documents without a term of the query are left out"
            )
        return described

    def __contains__(self, name: object) -> bool:
        """Whether a document with this id can be found."""
        self._check_open()
        return self._snapshot.has(check_id(name))

    @overload
    def get(self, ids: str) -> Document | None: ...  # type: ignore[overload-overlap]

    @overload
    def get(self, ids: Iterable[str]) -> dict[str, Document]: ...

    def get(self, ids: str | Iterable[str]) -> Document | dict[str, Document] | None:
        """The documents with these ids, by id; ids that are not in the index are left out.

        For a single id, its document, or None.
        """
        self._check_open()
        snapshot = self._snapshot
        names = list(map(check_id, [ids] if isinstance(ids, str) else ids))
        if snapshot.passages is not None:
            read = map(snapshot.whole, dict.fromkeys(names))
            whole = {each.id: each for each in read if each is not None}
            return whole.get(ids) if isinstance(ids, str) else whole
        numbers = {n for name in names if (n := snapshot.numbering.number(name)) is not None}
        found = snapshot.documents(np.array(sorted(numbers), dtype=np.int64))
        if isinstance(ids, str):
            return found[0] if found else None
        return {document.id: document for document in found}

    def word_frequencies(self, words: Iterable[str]) -> dict[str, int] | None:
        """How many documents have each word, as ``analysis.words`` gives it; None without BM25.

        Where rows are passages, how many of these.
        """
        self._check_open()
        if self.manifest.bm25 is None:
            return None
        wanted = list(dict.fromkeys(words))
        counts = self._snapshot.frequencies.of_words(wanted)
        return dict(zip(wanted, counts.tolist(), strict=True))

    @overload
    def scores(
        self, queries: str, ids: Iterable[str], request: Request | None = None
    ) -> dict[str, float]: ...

    @overload
    def scores(
        self, queries: Queries, ids: Sequence[Iterable[str]], request: Request | None = None
    ) -> list[dict[str, float]]: ...

    def scores(
        self, queries: Any, ids: Any, request: Request | None = None
    ) -> dict[str, float] | list[dict[str, float]]:
        """For a text, or for each of many queries, the scores of documents, found or not.

        ids: of the documents; for many queries, the ids for each. The scores are those that a
        ranking shows; ids that are not in the index are left out. Raises InputError for a fusion
        whose scores depend on what else was found.
        """
        if isinstance(queries, str):
            check_text(queries)
            return self.scores([Query("0", queries)], [ids], request)[0]
        request, queries = request or self.request(), given_queries(queries)
        snapshot = self._snapshot
        vectors = self.vectors(queries, request.parts)
        if len(ids) != len(vectors):
            lists = f"{counted(len(ids), 'list')} of ids"
            raise InputError(f"{counted(len(vectors), 'query')} with {lists}; give one each")
        inputs = snapshot.inputs(vectors, request)
        engine = snapshot.engine(request.parts)
        results = []
        for row, (_, names) in enumerate(zip(vectors.ids, ids, strict=True)):
            if isinstance(names, str):
                raise InputError(f"the ids of a query are a list of strings, not {names!r}")
            names = list(map(check_id, names))
            if snapshot.by_document is not None:
                results.append(snapshot.by_document.scored(engine, inputs, row, names, request))
                continue
            found = {name: snapshot.numbering.number(name) for name in names}
            numbers = {name: n for name, n in found.items() if n is not None}
            documents = np.array(list(numbers.values()), dtype=np.int64)
            scores = engine.score(inputs, row, documents, request)
            results.append(dict(zip(numbers, scores.tolist(), strict=True)))
        return results

    def fields(self) -> dict[str, set[str]]:
        """The fields of the documents' metadata, with the kinds of their values.

        See ``index.fields`` for the kinds.
        """
        self._check_open()
        found = kinds_in(self._snapshot.searched)
        return {name: kinds for name, kinds in found.items() if name not in OWN_FIELDS}

    def field(self, name: str) -> str:
        """The name of a field of the metadata as the index has it; InputError if it lacks it."""
        return check_field(name, self.fields())

    def corpus(self) -> IndexedCorpus:
        """The documents that the index holds now, as a corpus."""
        self._check_open()
        return IndexedCorpus(self._snapshot, self.path)

    def __enter__(self) -> HybridIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the threads and close the files; nothing can be searched afterwards."""
        with self._lock:
            self._closed = True
            self._pool.shutdown()
            self._snapshot.close()
            for segment in list(self._retired):
                segment.close()
            self._close_left()

    def _check_open(self) -> None:
        if self._closed:
            raise DupMAEError(f"{self.path}: this HybridIndex was closed; open the index again")
        if self._process != os.getpid():
            # A forked process does not have its threads, nor those of torch and Java.
            raise DupMAEError(
                f"{self.path}: was opened before this process was forked; open the index, and load "
                "the encoder, after forking"
            )


def ids_among(ids: Iterable[str]) -> frozenset[str]:
    """Ids of documents to search among; InputError for anything but strings."""
    given: Any = (None,) if isinstance(ids, str | bytes) else ids
    try:
        found: frozenset[Any] = frozenset(given)
    except TypeError:
        found = frozenset((None,))
    if not all(isinstance(name, str) for name in found):
        raise InputError(f"among is a list of ids, each a string; it is {repr(ids)[:80]}")
    return found


def _check_page(k: int, offset: int, depth: int, method: str) -> None:
    if offset + k > depth:
        raise InputError(
            f"offset {offset} and k {k} go beyond the first {depth} documents of each part, which "
            f"fusion {method} reads for pages; give a larger depth to all pages, or use sum"
        )


class IndexedCorpus(Corpus):
    """The documents of one state of an index, as a corpus."""

    def __init__(self, snapshot: Snapshot, path: Path) -> None:
        self._snapshot = snapshot
        self.name = path.name
        self.source = str(path)

    def count(self) -> int:
        return len(self._snapshot)

    def numbered(self) -> Iterator[tuple[int, Document]]:
        for number, document in self._snapshot.numbered():
            yield number + 1, document
