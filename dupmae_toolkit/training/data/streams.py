"""Endless, shuffled, resumable streams of training texts and pairs.

Batch n of a stream depends only on the seed and n, so a resumed training sees the same batches as
an uninterrupted one.
"""

from __future__ import annotations

import itertools
import random
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from torch.utils.data import IterableDataset

from dupmae_toolkit.collection.opening import read_texts
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, is_blank
from dupmae_toolkit.training.data.group_sources import Opened
from dupmae_toolkit.training.data.groups import Draw, Pair
from dupmae_toolkit.training.sources import GROUP_KINDS, PAIR_KINDS, DataSource

BUFFER = 8192  # documents held for shuffling
PACKED_BUFFER = 512  # the same for groups of a compressed file, whose texts are held
MOST_MISSES = 1_000_000  # most documents in a row that give no pair
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z0-9(\"'])")


class Batches(IterableDataset):
    """Batches drawn from weighted sources; each batch comes from one source.

    Texts of one source are more similar to each other, so in-batch negatives are harder.
    ``deal`` makes them harder still: ``pool`` batches of a source are drawn at a time, and
    ``deal(items, batch_size, rng)`` returns the positions of the items of each batch (see
    neighbours.py). The first ``skip`` batches are drawn and dropped without being collated.
    """

    def __init__(
        self,
        sources: list[DataSource],
        batch_size: int,
        seed: int,
        make: Callable[[DataSource, random.Random], Iterator[Any]],
        collate: Callable[[list[Any]], Any],
        *,
        pool: int = 0,
        deal: Callable[[list[Any], int, random.Random], list[list[int]]] | None = None,
    ) -> None:
        super().__init__()
        self.pool = pool
        self.deal = deal
        self.sources = sources
        self.batch_size = batch_size
        self.seed = seed
        self.make = make
        self.collate = collate
        self.skip = 0

    def __iter__(self) -> Iterator[Any]:
        chooser = random.Random(f"{self.seed} sources")
        streams = [
            self._batches(source, random.Random(f"{self.seed} {number}"))
            for number, source in enumerate(self.sources)
        ]
        weights = [source.weight for source in self.sources]
        number = 0
        while True:
            (stream,) = chooser.choices(streams, weights)
            batch = next(stream)
            number += 1
            if number > self.skip:
                yield self.collate(batch)

    def _batches(self, source: DataSource, rng: random.Random) -> Iterator[list[Any]]:
        """Endless batches of one source, before collation."""
        stream = self.make(source, rng)
        if self.pool < 1 or self.deal is None:
            while True:
                yield list(itertools.islice(stream, self.batch_size))
        dealer = random.Random(rng.random())
        while True:
            items = list(itertools.islice(stream, self.pool * self.batch_size))
            for positions in self.deal(items, self.batch_size, dealer):
                yield [items[i] for i in positions]


def check_sources(
    sources: list[DataSource], *, need_pairs: bool = False, opened: Opened | None = None
) -> None:
    """Raise InputError for the first source that cannot be read or is empty.

    Each is read up to its first text, pair or group; later errors show when they are reached.
    opened: caches the sources that are opened here.
    """
    opened = opened or Opened()
    for source in sources:
        found = pairs_once(source, opened) if need_pairs else training_texts(source)
        first = next(iter(found), None)
        if isinstance(first, Draw):
            first.read()
        if first is None:
            what = f"pair of kind {source.kind!r}" if need_pairs else "text"
            raise InputError(f"{source.path}: not one {what} in it")


def shuffled(
    open_once: Callable[[], Iterable[Any]],
    rng: random.Random,
    name: str = "a source",
    size: int | None = None,
) -> Iterator[Any]:
    """The items of an iterable, endlessly repeated, each pass shuffled through a buffer.

    size: of the buffer, BUFFER by default. Raises InputError if the iterable is empty; ``name``
    names it in the message.
    """
    size = size or BUFFER
    while True:
        buffer: list[Any] = []
        for item in open_once():
            if len(buffer) < size:
                buffer.append(item)
                continue
            position = rng.randrange(size)
            buffer[position], item = item, buffer[position]
            yield item
        if not buffer:
            raise InputError(f"{name}: no training data in it")
        rng.shuffle(buffer)
        yield from buffer


def open_texts(source: str | DataSource) -> Iterator[Document]:
    """The titles and texts of a source, once, in its order; see ``read_texts``."""
    if isinstance(source, str):
        return read_texts(source)
    return read_texts(source.path, source.columns())


def training_texts(
    path: str | DataSource, share: float = 0.0, *, held_out: bool = False
) -> Iterator[str]:
    """Title and text of each document, once; empty ones are skipped.

    path: anything that is a corpus, see ``read_texts``, or a source, whose columns are obeyed.
    share: of the texts that are held out of training. The choice depends only on the content, so
    equal texts are on the same side. held_out: yield the held-out texts instead of the others.
    """
    for document in open_texts(path):
        contents = document.contents
        held = is_held_out(contents, share) if share else False
        if held == held_out and not is_blank(contents):
            yield contents


def is_held_out(contents: str, share: float) -> bool:
    """Whether a text belongs to the held-out share."""
    return zlib.crc32(contents.encode("utf-8", "surrogatepass")) < share * (1 << 32)


def pairs_once(source: DataSource, opened: Opened) -> Iterator[Pair | Draw]:
    """One pass over a source in its own order, for checks: pairs, or draws from its groups."""
    rng = random.Random(0)
    if source.kind in GROUP_KINDS:
        yield from opened(source).draws(rng)
        return
    make = _pair_maker(source)
    for document in open_texts(source):
        pair = make(document, rng)
        if pair is not None:
            yield pair


def pairs(
    source: DataSource, rng: random.Random, opened: Opened | None = None
) -> Iterator[Pair | Draw]:
    """An endless stream of a source's pairs, or of draws from its groups, by its ``kind``."""
    found = _pairs(source, rng, opened)
    scales = tuple(source.teacher_scales)
    yield from (item._replace(scales=scales) for item in found) if scales else found


def _pairs(source: DataSource, rng: random.Random, opened: Opened | None) -> Iterator[Pair | Draw]:
    if source.kind in GROUP_KINDS:
        groups = (opened or Opened())(source)
        size = PACKED_BUFFER if groups.packed else BUFFER
        yield from shuffled(lambda: groups.draws(rng), rng, groups.name, size)
        return
    make = _pair_maker(source)
    misses = 0
    for document in shuffled(lambda: open_texts(source), rng, source.path):
        pair = make(document, rng)
        if pair is not None:
            misses = 0
            yield pair
        elif (misses := misses + 1) > MOST_MISSES:
            raise InputError(f"{source.path}: {misses:,} documents without a {source.kind!r} pair")


def _pair_maker(source: DataSource) -> Callable[[Document, random.Random], Pair | None]:
    makers = {"title": title_pair, "sentence": sentence_pair, "phrase": phrase_pair}
    if source.kind not in makers:
        raise InputError(f"{source.path}: kind {source.kind!r}: choose one of {list(PAIR_KINDS)}")
    make = makers[source.kind]
    return partial(_of_beginning, make, source.words) if source.words else make


def _of_beginning(
    make: Callable[[Document, random.Random], Pair | None],
    words: int,
    document: Document,
    rng: random.Random,
) -> Pair | None:
    """The pair of a document that has only the first ``words`` words of the text."""
    first = document.text.split(maxsplit=words)[:words]
    return make(Document(document.id, document.title, " ".join(first)), rng)


def title_pair(document: Document, rng: random.Random) -> Pair | None:
    """The title as the query, the text as the document."""
    if is_blank(document.title) or is_blank(document.text):
        return None
    return Pair(document.title.strip(), document.text.strip())


def sentence_pair(document: Document, rng: random.Random) -> Pair | None:
    """A sentence of 5 to 40 words as the query; title and the other sentences as the document.

    One time in five the sentence also stays in the document, since exact matches do occur.
    """
    sentences = _SENTENCE_END.split(document.text.strip())
    fitting = [i for i, s in enumerate(sentences) if 5 <= len(s.split()) <= 40]
    if len(sentences) < 3 or not fitting:
        return None
    chosen = rng.choice(fitting)
    rest = sentences if rng.random() < 0.2 else sentences[:chosen] + sentences[chosen + 1 :]
    # Three times in ten, begin later: the model would never see later parts of long texts.
    start = rng.randrange(max(1, len(rest) - 3)) if rng.random() < 0.3 else 0
    body = " ".join(rest[start:])
    return Pair(sentences[chosen], f"{document.title} {body}".strip())


def phrase_pair(document: Document, rng: random.Random) -> Pair | None:
    """Two to seven words in a row, from anywhere in the text, as the query; all of it the document.

    Users' queries are often not sentences. Such a query matches other texts as well; a teacher's
    scores tell how well.
    """
    words = document.text.split()
    if len(words) < 12:
        return None
    length = rng.randint(2, 7)
    start = rng.randrange(len(words) - length)
    query = " ".join(words[start : start + length]).strip(".,;:()[]\"' ")
    return Pair(query, document.contents) if len(query) > 3 else None
