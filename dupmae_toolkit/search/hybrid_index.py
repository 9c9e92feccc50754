"""HybridIndex: built from documents, searched with texts or with query vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, finalize

from dupmae_toolkit.collection.passages import passages_of
from dupmae_toolkit.encoding.vectors import GIVEN
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder, Representations
from dupmae_toolkit.search.answers import (
    PARTS,
    WORDS,
    Request,
)
from dupmae_toolkit.search.contents import Contents
from dupmae_toolkit.search.described import index_metadata
from dupmae_toolkit.search.engine import new_pool
from dupmae_toolkit.search.explaining import Explaining
from dupmae_toolkit.search.given import (
    check_encoder,
    given_encoder,
    shown_by,
)
from dupmae_toolkit.search.lexical import MAX_POSTINGS
from dupmae_toolkit.search.lookups import check_lookup, check_not_dense, load_lookup
from dupmae_toolkit.search.queries import (
    Queries,
    check_query_length,
    load_encoder,
    query_vectors,
    texts_alone,
)
from dupmae_toolkit.search.requesting import Requesting
from dupmae_toolkit.search.revising import inputs_of, revised
from dupmae_toolkit.search.searcher import Answers, Searched
from dupmae_toolkit.search.selection import masks_of
from dupmae_toolkit.search.snapshot import Snapshot

if TYPE_CHECKING:
    from dupmae_toolkit.index.lucene import LuceneImpacts
    from dupmae_toolkit.index.segment import Segment
    from dupmae_toolkit.index.updates import Update
    from dupmae_toolkit.model.lookup import LookupEncoder


class HybridIndex(Requesting, Contents, Explaining):
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

        query_encoder: ``lookup`` takes the vectors of queries from the table of the encoder's
        checkpoint (``dupmae derive-lookup``), without torch. Hybrid scores have a dense part only
        if the table was fitted to texts; ``lookup-terms`` leaves it out in any case.
        Raises InputError if there is no table.
        """
        check_lookup(query_encoder)
        if isinstance(encoder, os.PathLike):
            encoder = os.fspath(encoder)
        if query_encoder == "network":
            check_query_length(query_max_length, encoder)
        settings["query_max_length"] = query_max_length
        index = cls(Path(path), None, None, max_postings, check, **settings)
        if query_encoder != "network":
            index._lookup = load_lookup(
                index.path,
                index.manifest,
                encoder,
                query_max_length,
                dense=query_encoder == "lookup",
            )
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
        self._snapshot.warm(dense=self._lookup is None or self._lookup.has_dense)

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
                    if info.name == GIVEN:
                        raise InputError(f"{self.path}: {error}") from error
                    raise InputError(
                        f"{self.path}: its encoder {info.name!r} is not found by that name; give "
                        f"its folder with --model (encoder=…): {error}"
                    ) from error
                self.manifest.check_encoder(self.path, encoder.info)
                self._encoder = encoder
            return self._encoder

    def answers(self, queries: Queries, request: Request, progress: Progress = silent) -> Answers:
        """The answers as documents by number, with their certificates."""
        snapshot, parts, selection, made = self._snapshot, request.parts, None, None
        if request.filter is not None or request.among is not None:
            self._check_open()
            # Before the queries are encoded, which takes longer than to find what is wrong.
            selection = snapshot.selections.get(request.filter, request.among)
        vectors = self.vectors(queries, parts)
        if request.revises:
            made = revised(snapshot, vectors, request, progress)
            inputs = made.inputs
        else:
            inputs = snapshot.inputs(vectors, request)
        answers = snapshot.finder(parts, selection)(inputs, request, progress)
        if made is not None:
            answers = made.certified(answers)
        for answer in answers:
            answer.snapshot = snapshot
        return Answers(vectors.ids, answers, snapshot, vectors, selection, made)

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
        given = vectors is queries or not isinstance(queries, Sequence)
        # A network's vectors state a precision. The metadata would name the table instead.
        if given and not (lookup.has_dense and vectors.precision is None):
            check_not_dense(self.path, vectors)
        return vectors

    def inputs(self, vectors: Representations, request: Request) -> dict[str, Any]:
        """What the legs take for these queries in the open state; see ``revising.inputs_of``."""
        return inputs_of(self._snapshot, vectors, request)

    def metadata(self, request: Request, searched: Searched) -> dict[str, Any]:
        """How scores are computed and fused; see ``described.index_metadata``."""
        # The open state may be newer than the one that was searched.
        manifest = searched.manifest if isinstance(searched, Snapshot) else self.manifest
        return index_metadata(request, self.path, len(searched), manifest, self._lookup)

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
