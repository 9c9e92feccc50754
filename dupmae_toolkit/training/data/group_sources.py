"""Sources of queries with positives and negatives, as endless, shuffled, resumable streams."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from dupmae_toolkit.collection.beir import keep_judged, open_beir
from dupmae_toolkit.collection.corpora import line_parser
from dupmae_toolkit.collection.fields import ANY_COLUMNS, Columns
from dupmae_toolkit.collection.formats import JSON_SUFFIXES, TSV_SUFFIXES
from dupmae_toolkit.collection.opening import open_corpus, read_qrels, read_queries
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.collection.sources import COMPRESSED, TextSource
from dupmae_toolkit.collection.store import DocumentStore
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Query
from dupmae_toolkit.training.data.group_files import parse_group, parse_texts, split_columns
from dupmae_toolkit.training.data.groups import Draw, Group, ScoredText
from dupmae_toolkit.training.data.line_files import Line, LineFile, TextStore
from dupmae_toolkit.training.sources import DataSource

#: From the id of a document to its text; None for an unknown id.
TextOfId = Callable[[str], str | None]


class GroupSource:
    """The groups of one source, each named by a small item that can be shuffled.

    ``items`` yields the items in order, and ``read`` reads the group of an item. Both raise
    InputError with file and line for malformed data.
    """

    def __init__(self, source: DataSource) -> None:
        kinds: dict[str, Callable[[], None]] = {
            "groups": self._group_lines,
            "pairs": partial(self._text_lines, 2),
            "triples": partial(self._text_lines, 3),
            "id-triples": self._id_triples,
            "qrels": self._qrels,
            "beir": self._beir,
        }
        self.source = source
        self.name = source.path  #: in error messages
        self.packed = False  # whether items hold the texts themselves
        self.items: Callable[[], Iterator] = lambda: iter(())
        self.read: Callable[..., Group]
        kinds[source.kind]()

    def draws(self, seeds: random.Random) -> Iterator[Draw]:
        """Every group once, in order, each with its own seed."""
        for item in self.items():
            yield Draw(partial(self.read, item), seeds.getrandbits(63))

    def _file(self, suffixes: tuple[str, ...]) -> LineFile:
        file = TextSource(Path(self.source.path))
        if file.suffix not in suffixes:
            raise InputError.at(
                file,
                None,
                f"data of kind {self.source.kind!r} comes as {' or '.join(suffixes)}, plain or "
                f"compressed ({', '.join(COMPRESSED)})",
            )
        self.packed = not file.is_plain()
        return LineFile(file)

    def _group_lines(self) -> None:
        file = self._file(JSON_SUFFIXES)
        self.items = file.lines
        self.read = lambda line: parse_group(file.text(line), file.source, line.number)

    def _text_lines(self, columns: int) -> None:
        file = self._file((*TSV_SUFFIXES, *JSON_SUFFIXES))
        json = file.source.suffix in JSON_SUFFIXES
        self.items = file.lines
        self.read = lambda line: parse_texts(
            file.text(line), file.source, line.number, json=json, columns=columns
        )

    def _id_triples(self) -> None:
        file = self._file(TSV_SUFFIXES)
        queries = {query.id: query.text for query in read_queries(self._named("queries"))}
        documents = document_texts(self._named("corpus"), self.source.columns())

        def read(line: Line) -> Group:
            ids = split_columns(file.text(line), file.source, line.number, 3)
            texts = [queries.get(ids[0]), documents(ids[1]), documents(ids[2])]
            for what, identifier, text in zip(
                ("query", "document", "document"), ids, texts, strict=True
            ):
                if not text:
                    where = self.source.queries if what == "query" else self.source.corpus
                    raise InputError.at(
                        file.source, line.number, f"{what} {identifier[:80]!r} is not in {where}"
                    )
            query, positive, negative = (str(text) for text in texts)
            place = f"{file.source}:{line.number}"
            return Group(query, [ScoredText(positive)], [ScoredText(negative)], place)

        self.items = file.lines
        self.read = read

    def _qrels(self) -> None:
        qrels = read_qrels(self.source.path)
        queries = read_queries(self._named("queries"))
        judged = keep_judged(queries, qrels, self.source.path, self.source.path)
        self._judged(judged, qrels, document_texts(self._named("corpus"), self.source.columns()))

    def _beir(self) -> None:
        dataset = open_beir(self.source.path)
        qrels = dataset.qrels(self.source.split)
        queries = dataset.queries(self.source.split)
        judged = {doc for documents in qrels.values() for doc in documents}
        texts = {d.id: d.contents for d in dataset.corpus if d.id in judged}
        self.name = f"{dataset.source}, split {self.source.split}"
        self._judged(queries, qrels, texts.get)

    def _judged(self, queries: list[Query], qrels: Qrels, text: TextOfId) -> None:
        """A group for each positive judgement; documents judged 0 or less are its negatives.

        Documents that are not in the corpus are skipped, as in evaluation.
        """

        def judged_texts(query: Query, positive: bool) -> list[ScoredText]:
            grades = qrels[query.id].items()
            texts = (text(doc) for doc, grade in grades if (grade > 0) == positive)
            return [ScoredText(found) for found in texts if found]

        def items() -> Iterator[tuple[Query, str]]:
            for query in queries:
                for doc, grade in qrels[query.id].items():
                    if grade > 0 and text(doc):
                        yield query, doc

        def read(item: tuple[Query, str]) -> Group:
            query, doc = item
            first = ScoredText(text(doc) or "")
            return Group(
                query.text,
                [first],
                judged_texts(query, False),
                self.name,
                judged_texts(query, True),
            )

        self.items = items
        self.read = read

    def _named(self, key: str) -> str:
        path = getattr(self.source, key)
        if not path:
            raise InputError(
                f"{self.source.path}: data of kind {self.source.kind!r} needs the key {key!r}"
            )
        return path


class Opened:
    """Opens each source only once, since indexing the ids of a large corpus is slow."""

    def __init__(self) -> None:
        self._open: dict[tuple, GroupSource] = {}

    def __call__(self, source: DataSource) -> GroupSource:
        key = (
            (source.path, source.kind, source.split, source.queries, source.corpus),
            source.columns(),
        )
        if key not in self._open:
            self._open[key] = GroupSource(source)
        return self._open[key]


def document_texts(path: str, columns: Columns = ANY_COLUMNS) -> TextOfId:
    """A lookup from document ids to title and text, for any corpus.

    For a plain file of lines, memory holds only their offsets. Any other corpus is copied
    to a temporary file, and memory holds the offsets in that. Raises InputError for a corpus
    without documents, and for a duplicate id.
    """
    corpus = open_corpus(path, columns=columns)
    found = line_parser(corpus)
    if found is not None:
        file, parse = found

        def pair(text: str, number: int) -> tuple[str, str]:
            document = parse(text, number)
            return document.id, document.contents

        return TextStore(file, pair).get
    store = DocumentStore(corpus)
    if not len(store):
        raise InputError.at(path, None, "no documents in it")

    def find(identifier: str) -> str | None:
        document = store.documents([identifier]).get(identifier)
        return None if document is None else document.contents

    return find
