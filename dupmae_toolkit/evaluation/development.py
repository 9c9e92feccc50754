"""Development sets: judged topics that decisions may be made on, because no test uses them.

A split that is named as a test is refused, and topics that such a split has too are left out.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from dupmae_toolkit.collection.beir import BeirDataset, drops_self_matches, open_beir
from dupmae_toolkit.collection.corpora import Corpus
from dupmae_toolkit.collection.lines import JsonLine
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.evaluation.part_rankings import drawn
from dupmae_toolkit.records import Document, Query

#: The only split of a data set in memory.
SPLIT = "development"


class MemoryCorpus(Corpus):
    """Documents in memory."""

    def __init__(self, documents: Sequence[Document], name: str, source: str) -> None:
        self._documents = documents
        self.name, self.source = name, source

    def numbered(self) -> Iterator[tuple[int, Document]]:
        yield from enumerate(self._documents, 1)

    def count(self) -> int:
        return len(self._documents)


class MemoryDataset:
    """A data set with one split, ``SPLIT``; see ``BeirDataset``.

    left_out: how many topics were left out because a test has them.
    """

    left_out = 0

    def __init__(
        self,
        name: str,
        source: str,
        documents: Sequence[Document],
        queries: Sequence[Query],
        qrels: Qrels,
        drops_self_matches: bool = False,
    ) -> None:
        self.name, self.source = name, source
        self.corpus: Corpus = MemoryCorpus(documents, name, source)
        self.drops_self_matches = drops_self_matches
        self._queries, self._qrels = list(queries), qrels

    def splits(self) -> list[str]:
        return [SPLIT]

    def qrels(self, split: str = SPLIT) -> Qrels:
        return self._qrels

    def queries(self, split: str = SPLIT) -> list[Query]:
        return self._queries

    def digest(self) -> str:
        """SHA-256 of topics and judgements, hexadecimal."""
        topics = sorted((query.id, query.text) for query in self._queries)
        judged = {topic: sorted(grades.items()) for topic, grades in sorted(self._qrels.items())}
        return hashlib.sha256(json.dumps([topics, judged]).encode()).hexdigest()


def beir_topics(
    path: str | Path, name: str, split: str, *, only_split: bool = False, skip_invalid: bool = False
) -> MemoryDataset:
    """The topics of one split of a BEIR data set, for development; its corpus stays on disk.

    only_split: the set's only split may be named as a test; whoever says so has decided that its
    topics are for development. Topics that a split for testing has too, by id or by text, are left
    out. Raises InputError for a split that is named as a test, and if no topic is left.
    """
    dataset = open_beir(path, skip_invalid=skip_invalid)
    splits = dataset.splits()
    if is_test(Path(str(path)).name) and not Path(path).exists():
        raise InputError(f"{path}: is a test; choose on other topics")
    if is_test(split):
        if splits != [split]:
            others = ", ".join(each for each in splits if not is_test(each))
            hint = f"; choose on {others}" if others else ""
            raise InputError.at(path, None, f"split {split!r} is a test{hint}")
        if not only_split:
            raise InputError.at(
                path,
                None,
                f"has no split but {split!r}",
                "if its topics are for development and never for a test, say `development: true`",
            )
    queries, qrels = _apart(dataset, split), dataset.qrels(split)
    made = MemoryDataset(
        name,
        dataset.source,
        (),
        queries,
        Qrels({query.id: qrels[query.id] for query in queries}),
        drops_self_matches(dataset.name),
    )
    made.corpus, made.left_out = dataset.corpus, len(qrels) - len(queries)
    return made


def is_test(split: str) -> bool:
    """Whether a split's name says that it is a test: ``test``, ``Test-2``, ``trec-test``."""
    return any(word.startswith("test") for word in re.split(r"[^a-z]+", split.lower()))


def _apart(dataset: BeirDataset, split: str) -> list[Query]:
    """The topics of a split that are in no split for testing, by id and by text."""
    tested = [
        query
        for other in dataset.splits()
        if other != split and is_test(other)
        for query in dataset.queries(other)
    ]
    ids, texts = {query.id for query in tested}, {_plain(query.text) for query in tested}
    queries = dataset.queries(split)
    apart = [q for q in queries if q.id not in ids and _plain(q.text) not in texts]
    if not apart:
        raise InputError.at(
            dataset.source,
            None,
            f"all {len(queries):,} topics of split {split!r} are topics of a test",
            "choose on others",
        )
    return apart


def _plain(text: str) -> str:
    return " ".join(text.lower().split())


def pair_topics(path: str | Path, name: str) -> MemoryDataset:
    """Pairs of title and text, in JSON lines: each title is a topic, its texts are the answers.

    Equal texts are one document, and equal titles one topic; both are named by the line in which
    they first occur. Lines without a title or a text are left out. Raises InputError with file and
    line for what is no JSON object.
    """
    file = TextSource(Path(path))
    documents: dict[str, Document] = {}
    topics: dict[str, Query] = {}
    qrels = Qrels()
    for number, line in file.lines():
        values = JsonLine(line, file, number)
        title = values.get_text(("title",), required=False).strip()
        text = values.get_text(("text",), required=False).strip()
        if not title or not text:
            continue
        document = documents.setdefault(text, Document(f"d{number}", "", text))
        topic = topics.setdefault(title, Query(f"q{number}", title))
        qrels.setdefault(topic.id, {})[document.id] = 1
    if not topics:
        raise InputError.at(file, None, "no line in it has both a title and a text")
    return MemoryDataset(name, str(path), list(documents.values()), list(topics.values()), qrels)


def sampled(dataset: MemoryDataset, count: int, seed: int) -> MemoryDataset:
    """The data set with ``count`` of its topics, or all; see ``part_rankings.drawn``."""
    queries = dataset.queries()
    names = [query.id for query in queries]
    rows = drawn(range(len(names)), names, count, seed)
    kept = [queries[row] for row in rows]
    qrels = dataset.qrels()
    few = MemoryDataset(
        dataset.name,
        dataset.source,
        (),
        kept,
        Qrels({query.id: qrels[query.id] for query in kept}),
        dataset.drops_self_matches,
    )
    few.corpus, few.left_out = dataset.corpus, dataset.left_out
    return few
