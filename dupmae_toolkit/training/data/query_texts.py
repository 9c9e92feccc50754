"""Texts that look like queries, cut out of documents: titles, sentences, phrases."""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator

from dupmae_toolkit.collection.opening import read_queries, read_texts
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document, is_blank
from dupmae_toolkit.training.data.streams import phrase_pair, sentence_pair, title_pair


def query_texts(
    corpora: Iterable[str], queries: Iterable[str] = (), most: int = 100_000, seed: int = 1
) -> list[str]:
    """At most ``most`` different texts, to fit a table of queries to.

    First the texts of the files of queries, then, of each document of the corpora, its title, a
    sentence of 5 to 40 words and 2 to 7 words in a row, as far as it has them. If there are more
    than there is room for, a random sample of the latter (and of queries, if these alone are too
    many); the same one for the same files and ``seed``. Raises InputError for files that cannot be
    read, and if there is no text at all.
    """
    # Two generators, so that a sample is part of what there would be without ``most``.
    cutting, drawing = random.Random(seed), random.Random(f"{seed} sample")
    corpora, queries = list(corpora), list(queries)
    asked = _sample(_queries(queries), most, drawing, frozenset())
    cut = _sample(_cut(corpora, cutting), most - len(asked), drawing, frozenset(asked))
    if not asked and not cut:
        raise InputError(f"{', '.join(map(str, corpora + queries))}: no text that could be a query")
    return asked + cut


def _sample(
    texts: Iterable[str], most: int, rng: random.Random, known: frozenset[str]
) -> list[str]:
    """At most ``most`` of the different texts that are not ``known``; a random sample if more."""
    kept: list[str] = []
    seen: set[int] = set()
    for text in texts:
        # Hashes take less memory than the texts; that two of them are equal does not matter.
        if text in known or hash(text) in seen:
            continue
        seen.add(hash(text))
        if len(kept) < most:
            kept.append(text)
        elif (place := rng.randrange(len(seen))) < most:
            kept[place] = text
    return kept


def _queries(paths: list[str]) -> Iterator[str]:
    for path in paths:
        for query in read_queries(path):
            if not is_blank(query.text):
                yield query.text


def _cut(paths: list[str], rng: random.Random) -> Iterator[str]:
    for path in paths:
        for document in read_texts(path):
            yield from of_document(document, rng)


def of_document(document: Document, rng: random.Random) -> Iterator[str]:
    """What could be queries for a document, one of each kind."""
    for make in (title_pair, sentence_pair, phrase_pair):
        if (pair := make(document, rng)) is not None:
            yield pair.query
