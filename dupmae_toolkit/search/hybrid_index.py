"""HybridIndex: built from documents, searched with texts or with ready-made vectors."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, overload
from weakref import WeakSet, finalize

from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import (
    Document,
    Encoder,
    Hit,
    Query,
    Ranking,
    Representations,
    Run,
)
from dupmae_toolkit.search.answers import check_k
from dupmae_toolkit.search.engine import Answer, Request, new_pool
from dupmae_toolkit.search.fusion import Fusion
from dupmae_toolkit.search.postings import MOST_POSTINGS
from dupmae_toolkit.search.queries import Queries, leg_inputs, load_encoder, query_vectors
from dupmae_toolkit.search.report import describe, proof
from dupmae_toolkit.search.view import View

if TYPE_CHECKING:
    from dupmae_toolkit.index.lucene import LuceneImpacts
    from dupmae_toolkit.index.segment import Segment
    from dupmae_toolkit.index.updates import Update

#: What each leg returns unless told otherwise: four times k, but no less and no more than these.
LEAST_DEPTH, MOST_DEPTH = 100, 1000


class HybridIndex:
    """Both indexes of a collection as one.

    Example:
        index = HybridIndex.open("indexes/notes")
        for hit in index.search("how do I parse a date", k=10):
            print(hit.rank, hit.id, hit.score, hit.dense, hit.lexical)
    """

    def __init__(
        self,
        path: Path,
        manifest: Manifest | None,
        encoder: Encoder | None,
        most_postings: int = MOST_POSTINGS,
        check: str = "quick",
        **settings: Any,
    ) -> None:
        """``open`` and ``build`` make them. manifest: None for the one that stands there."""
        self.path = path
        self._encoder = encoder
        self._settings = settings
        self._pool = new_pool()
        self._lock = threading.RLock()
        self._closed = False
        self._process = os.getpid()
        self._view = (
            View.newest(path, self._pool, None, most_postings, check)[0]
            if manifest is None
            else View(path, manifest, self._pool, None, most_postings, check)
        )
        #: Segments that are no part of the index any more; searches under way may need them yet.
        self._retired: WeakSet[Segment] = WeakSet()
        #: What such segments had opened, once no search needs them; closed at the next change.
        self._left: list[list[LuceneImpacts]] = []

    @classmethod
    def open(
        cls,
        path: str | Path,
        encoder: Encoder | str | None = None,
        *,
        most_postings: int = MOST_POSTINGS,
        check: str = "quick",
        **settings: Any,
    ) -> HybridIndex:
        """Open an index.

        encoder: an encoder, or the name or folder of one; None: the one that the manifest names,
        loaded when a text is first searched. Queries that are vectors need none. most_postings: so
        many pairs of document and term are held in memory, 5 bytes each, which searches faster than
        Lucene with the same results; beyond them, or with 0, Lucene is asked. check: ``quick``
        compares the sizes of all files with the manifest, and the checksums of small files and of
        those that are read whole; ``full``, all checksums, which reads every file; ``sizes``, none.
        A file that was changed raises InputError, on opening or when it is first used. settings:
        ``device`` and ``precision`` of an encoder that is loaded here. Raises EncoderMismatchError,
        with both names, for another encoder than the index was built with.
        """
        index = cls(Path(path), None, None, most_postings, check, **settings)
        if isinstance(encoder, str):
            encoder = load_encoder(encoder, index.manifest.encoder, **settings)
        if encoder is not None:
            index.manifest.check_encoder(index.path, encoder.info)
        index._encoder = encoder
        return index

    @classmethod
    def build(
        cls,
        path: str | Path,
        documents: Iterable[Document] | Iterable[dict[str, Any]],
        encoder: Encoder,
        *,
        faiss: str = "Flat",
        overwrite: bool = False,
        progress: Progress = silent,
        **settings: Any,
    ) -> HybridIndex:
        """Encode documents and build an index of them at ``path``.

        documents: Documents, or dicts with ``id``, ``text`` and perhaps ``title``; never all in
        memory. faiss: a FAISS factory string. settings: further fields of ``BuildOptions``
        (``max_impact``, ``segment_size``). An interrupted build is continued; an index that stands
        there, or the beginning of another one, is refused unless ``overwrite``.
        """
        from dupmae_toolkit.index.build import BuildOptions
        from dupmae_toolkit.index.corpus import index_corpus

        options = BuildOptions(faiss_spec=faiss, **settings)
        manifest = index_corpus(
            path, documents, encoder, options, overwrite=overwrite, progress=progress
        )
        return cls(Path(path), manifest, encoder)

    #: The mode of a search that names none.
    mode = "hybrid"

    def __len__(self) -> int:
        """The number of documents that can be found."""
        return len(self._view)

    def __repr__(self) -> str:
        """The folder, the documents of the state that is open, and whether it can be searched."""
        name = f"{type(self).__name__} {str(getattr(self, 'path', ''))!r}"
        view = getattr(self, "_view", None)
        if view is None:  # a debugger may ask before __init__ has come to its end
            return f"<{name}: not opened>"
        state = "open" if self._process == os.getpid() else "opened in another process"
        documents = "1 document" if len(view) == 1 else f"{len(view):,} documents"
        return f"<{name}: {documents}, {'closed' if self._closed else state}>"

    @property
    def manifest(self) -> Manifest:
        """What the state of the index that is open says of itself."""
        return self._view.manifest

    def refresh(self) -> bool:
        """Open the newest state of the index; returns whether it is another one.

        Until then every search sees the state that was opened, whatever other processes do.
        Searches that are under way end in the state in which they began.
        """
        self._check_open()
        with self._lock:
            view, changed = View.newest(self.path, self._pool, self._view)
            if changed:
                if self._encoder is not None:
                    view.manifest.check_encoder(self.path, self._encoder.info)
                for segment in set(self._view.segments).difference(view.segments):
                    self._retired.add(segment)
                    # Closed later: Java is not to be called while Python collects its garbage.
                    finalize(segment, self._left.append, segment.opened)
                # It is released when the last search or answer that knows it is gone.
                self._view = view
            self._close_left()
            return changed

    def _close_left(self) -> None:
        while self._left:
            for lucene in self._left.pop():
                lucene.close()

    def warm(self) -> None:
        """Do now what the first queries would, for who wants all of them fast, as a server does.

        Impacts are read, and of Flat vectors a copy in bytes is made that single queries look at
        first (a quarter of the vectors' memory; otherwise made after some queries, and only where
        torch is loaded). Answers are the same. After ``refresh`` it is to be called again.
        """
        self._check_open()
        self._view.warm()

    def add(
        self,
        documents: Iterable[Document] | Iterable[dict[str, Any]],
        *,
        replace: bool = False,
        progress: Progress = silent,
    ) -> Update:
        """Add documents in one step, and open the new state; see ``updates.add_corpus``.

        replace: documents whose ids are in the index take the place of those.
        """
        from dupmae_toolkit.index.updates import add_corpus

        self._check_open()
        done = add_corpus(self.path, documents, self.encoder, replace=replace, progress=progress)
        self.refresh()
        return done

    def delete(self, ids: Iterable[str], *, ignore_missing: bool = False) -> Update:
        """Delete documents in one step, all or none, and open the new state."""
        from dupmae_toolkit.index.updates import delete_documents

        self._check_open()
        done = delete_documents(self.path, ids, ignore_missing=ignore_missing)
        self.refresh()
        return done

    def compact(self, progress: Progress = silent) -> Update:
        """Write the index anew without deleted documents, in as few segments as can be."""
        from dupmae_toolkit.index.updates import compact_index

        self._check_open()
        done = compact_index(self.path, progress=progress)
        self.refresh()
        return done

    @property
    def encoder(self) -> Encoder:
        """The encoder of the queries; loads it if it was not given."""
        with self._lock:
            if self._encoder is None:
                info = self.manifest.encoder
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

    @overload
    def search(
        self,
        query: str,
        k: int = 10,
        mode: str = "hybrid",
        fusion: str | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
    ) -> list[Hit]: ...

    @overload
    def search(
        self,
        query: list[str],
        k: int = 10,
        mode: str = "hybrid",
        fusion: str | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
    ) -> list[list[Hit]]: ...

    def search(
        self,
        query: str | list[str],
        k: int = 10,
        mode: str = "hybrid",
        fusion: str | Fusion = "sum",
        exact: bool = False,
        depth: int | None = None,
    ) -> list[Hit] | list[list[Hit]]:
        """The ``k`` best documents for a text, or for each of a list of texts.

        mode: hybrid, dense or lexical. fusion: how hybrid scores come about, by name or in detail.
        exact: look deeper until the ranking is proven. depth: what each leg returns at first; by
        default four times ``k``, from 100 to 1000, and at least ``k``; a sum is over all documents
        anyway where the vectors are Flat and the postings in memory (``open``). A lexical search
        returns only documents that share a term with the query.
        """
        if isinstance(query, str) and not query.strip():
            raise InputError("the question has no text; give it some words")
        texts = [query] if isinstance(query, str) else query
        if not isinstance(texts, list | tuple) or not all(isinstance(t, str) for t in texts):
            raise InputError("a search takes a text, or a list of texts")
        topics = [Query(str(number), text) for number, text in enumerate(texts)]
        request = self.request(k, mode, fusion, depth, exact)
        answers = self._answers(self._view, self._vectors(topics), request, silent)
        found = [self.hits(answer) for answer in answers]
        return found[0] if isinstance(query, str) else found

    def search_batch(
        self,
        queries: Queries,
        k: int = 1000,
        mode: str = "hybrid",
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """A run: the ``k`` best documents for each of many queries. See ``search``.

        Queries that are encoded already need no encoder. How the run came about stands in its
        metadata, with the certificate: how many topics' rankings are proven.
        """
        return self.run(queries, self.request(k, mode, fusion, depth, exact), tag, progress)

    def run(
        self,
        queries: Queries,
        request: Request,
        tag: str | None = None,
        progress: Progress = silent,
    ) -> Run:
        """``search_batch`` with a ready-made request."""
        view = self._view
        vectors = self._vectors(queries)
        answers = self._answers(view, vectors, request, progress)
        run = Run(tag=tag or f"dupmae-{request.mode}")
        for topic, answer in zip(vectors.ids, answers, strict=True):
            run.topics[topic] = Ranking(view.numbering.ids(answer.documents), answer.scores)
        run.metadata = describe(request, self.path, view.manifest, len(view)) | {
            "certificate": proof(vectors.ids, answers)
        }
        return run

    def answer(self, text: str, request: Request) -> Answer:
        """The answer to one text as documents by number, with its certificate."""
        return self._answers(self._view, self._vectors([Query("0", text)]), request, silent)[0]

    def hits(self, answer: Answer) -> list[Hit]:
        """An answer with ids, titles and texts, of the state of the index that gave it."""
        documents = (answer.view or self._view).documents(answer.documents)
        empty: list[None] = [None] * len(documents)
        dense = empty if answer.dense is None else answer.dense.tolist()
        lexical = empty if answer.lexical is None else answer.lexical.tolist()
        return [
            Hit(rank, document.id, score, d, lex, document.title, document.text)
            for rank, (document, score, d, lex) in enumerate(
                zip(documents, answer.scores.tolist(), dense, lexical, strict=True), 1
            )
        ]

    def request(
        self,
        k: int = 10,
        mode: str = "hybrid",
        fusion: str | Fusion = "sum",
        depth: int | None = None,
        exact: bool = False,
    ) -> Request:
        """A checked request; ``sum`` gets the weights of the encoder that built the index."""
        check_k(k)
        chosen = Fusion(fusion) if isinstance(fusion, str) else fusion
        if chosen.method == "sum" and chosen.weights is None:
            info = self.manifest.encoder
            chosen = replace(chosen, weights=(info.dense_weight, info.lexical_weight))
        if depth is None:
            depth = max(k, min(max(4 * k, LEAST_DEPTH), MOST_DEPTH))
        return Request(k, mode, chosen, depth, exact)

    def __enter__(self) -> HybridIndex:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let threads and files go; nothing can be searched afterwards."""
        with self._lock:
            self._closed = True
            self._pool.shutdown()
            self._view.close()
            for segment in list(self._retired):
                segment.close()
            self._close_left()

    def _check_open(self) -> None:
        if self._closed:
            raise DupMAEError(f"{self.path}: this HybridIndex was closed; open the index again")
        if self._process != os.getpid():
            # Its threads, and those of torch and Java, are in the other process.
            raise DupMAEError(
                f"{self.path}: was opened in the process that this one was forked from; open the "
                "index, and load the encoder, after forking"
            )

    def _answers(
        self, view: View, vectors: Representations, request: Request, progress: Progress
    ) -> list[Answer]:
        dense, lexical = leg_inputs(vectors, request.mode, view.manifest.max_impact)
        answers = view.engine(request.mode).search(dense, lexical, request, progress)
        for answer in answers:
            answer.view = view
        return answers

    def _vectors(self, queries: Queries) -> Representations:
        self._check_open()
        return query_vectors(queries, self.manifest.encoder, self.path, lambda: self.encoder)
