"""Endless, shuffled, resumable streams of training texts and pairs.

Batch n of a stream depends on the seed and on n alone, so a resumed training sees what an
undisturbed one would have seen.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from torch.utils.data import IterableDataset

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.corpora import TEXT_KEYS, open_corpus
from dupmae_toolkit.collection.lines import JSON_SUFFIXES, JsonLine
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from dupmae_toolkit.training.recipe import Source

BUFFER = 8192  # documents held for shuffling
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\"'])")
PAIR_KINDS = ("title", "sentence", "beir")


class Pair(NamedTuple):
    """A query and a text that answers it."""

    query: str
    document: str


class Batches(IterableDataset):
    """Batches drawn from weighted sources; each batch comes from one source.

    Texts of one source are closer to each other, so in-batch negatives are harder.
    ``skip`` batches are drawn and thrown away before the first, without being collated.
    """

    def __init__(
        self,
        sources: list[Source],
        batch_size: int,
        seed: int,
        make: Callable[[Source, random.Random], Iterator[Any]],
        collate: Callable[[list[Any]], Any],
    ) -> None:
        super().__init__()
        if not sources or all(source.weight <= 0 for source in sources):
            raise InputError("the recipe's data has no source with a positive weight")
        self.sources = sources
        self.batch_size = batch_size
        self.seed = seed
        self.make = make
        self.collate = collate
        self.skip = 0

    def __iter__(self) -> Iterator[Any]:
        chooser = random.Random(f"{self.seed} sources")
        streams = [
            self.make(source, random.Random(f"{self.seed} {number}"))
            for number, source in enumerate(self.sources)
        ]
        weights = [source.weight for source in self.sources]
        number = 0
        while True:
            (stream,) = chooser.choices(streams, weights)
            batch = [next(stream) for _ in range(self.batch_size)]
            number += 1
            if number > self.skip:
                yield self.collate(batch)


def shuffled(open_once: Callable[[], Iterable[Any]], rng: random.Random) -> Iterator[Any]:
    """The items of an iterable, over and over, each time shuffled through a buffer."""
    while True:
        buffer: list[Any] = []
        for item in open_once():
            if len(buffer) < BUFFER:
                buffer.append(item)
                continue
            position = rng.randrange(BUFFER)
            buffer[position], item = item, buffer[position]
            yield item
        if not buffer:
            raise InputError("a source of training data is empty")
        rng.shuffle(buffer)
        yield from buffer


def open_texts(path: str) -> Iterator[Document]:
    """The documents of a corpus, or of a file of training texts, which need no ids.

    JSON lines with ``text`` and perhaps ``title``, or ``.txt`` with a text on each line; plain,
    ``.gz`` or ``.xz``.
    """
    file = TextSource(Path(path))
    if not file.path.is_file() or file.suffix not in (*JSON_SUFFIXES, ".txt"):
        yield from open_corpus(path)
        return
    for number, line in file.lines():
        if file.suffix == ".txt":
            yield Document(str(number), "", line)
            continue
        parsed = JsonLine(line, file, number)
        title = parsed.get_text(("title",), required=False)
        yield Document(str(number), title, parsed.get_text(TEXT_KEYS, required=True))


def texts(source: Source, rng: random.Random) -> Iterator[str]:
    """Title and text of each document, endlessly."""
    for document in shuffled(lambda: open_texts(source.path), rng):
        yield document.contents


def pairs(source: Source, rng: random.Random) -> Iterator[Pair]:
    """Pairs of a source, as its ``kind`` says, endlessly."""
    if source.kind not in PAIR_KINDS:
        raise InputError(f"{source.path}: kind {source.kind!r}: choose one of {list(PAIR_KINDS)}")
    if source.kind == "beir":
        yield from shuffled(lambda: judged_pairs(source), rng)
        return
    make = title_pair if source.kind == "title" else sentence_pair
    misses = 0
    for document in shuffled(lambda: open_texts(source.path), rng):
        pair = make(document, rng)
        if pair is not None:
            misses = 0
            yield pair
        elif (misses := misses + 1) > 100_000:
            raise InputError(f"{source.path}: no document gives a pair of kind {source.kind!r}")


def judged_pairs(source: Source) -> list[Pair]:
    """The positively judged pairs of a BEIR data set's split."""
    dataset = open_beir(source.path)
    qrels = dataset.qrels(source.split)
    wanted = {doc for judged in qrels.values() for doc, grade in judged.items() if grade > 0}
    contents = {d.id: d.contents for d in dataset.corpus if d.id in wanted}
    return [
        Pair(query.text, contents[doc])
        for query in dataset.queries(source.split)
        for doc, grade in qrels[query.id].items()
        if grade > 0 and doc in contents
    ]


def title_pair(document: Document, rng: random.Random) -> Pair | None:
    """The title as the query of the text."""
    if not document.title.strip() or not document.text.strip():
        return None
    return Pair(document.title.strip(), document.text.strip())


def sentence_pair(document: Document, rng: random.Random) -> Pair | None:
    """A sentence of 5 to 40 words as the query of the rest, which keeps the title.

    One time in five the sentence also stays in the document, as exact matches do occur.
    """
    sentences = _SENTENCE_END.split(document.text.strip())
    fitting = [i for i, s in enumerate(sentences) if 5 <= len(s.split()) <= 40]
    if len(sentences) < 3 or not fitting:
        return None
    chosen = rng.choice(fitting)
    rest = sentences if rng.random() < 0.2 else sentences[:chosen] + sentences[chosen + 1 :]
    # Later parts of a long text would never be seen if the document always began at its start.
    start = rng.randrange(max(1, len(rest) - 3)) if rng.random() < 0.3 else 0
    body = " ".join(rest[start:])
    return Pair(sentences[chosen], f"{document.title} {body}".strip())
