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
    """At most ``most`` different texts: of each document its title, a sentence of 5 to 40 words and
    2 to 7 words in a row, as far as it has them; and the texts of files of queries.

    If there are more, a random sample; the same one for the same files and ``seed``. Raises
    InputError for files that cannot be read, and if there is no text at all.
    """
    # Two, so that a sample is part of what there would be without ``most``.
    cutting, rng = random.Random(seed), random.Random(f"{seed} sample")
    kept: list[str] = []
    corpora, queries = list(corpora), list(queries)
    for seen, text in enumerate(_all(corpora, queries, cutting), start=1):
        if len(kept) < most:
            kept.append(text)
        elif (place := rng.randrange(seen)) < most:
            kept[place] = text
    if not kept:
        raise InputError(f"{', '.join(map(str, corpora + queries))}: no text that could be a query")
    return list(dict.fromkeys(kept))


def _all(corpora: list[str], queries: list[str], rng: random.Random) -> Iterator[str]:
    for path in corpora:
        for document in read_texts(path):
            yield from of_document(document, rng)
    for path in queries:
        for query in read_queries(path):
            if not is_blank(query.text):
                yield query.text


def of_document(document: Document, rng: random.Random) -> Iterator[str]:
    """What could be queries for a document, one of each kind."""
    for make in (title_pair, sentence_pair, phrase_pair):
        if (pair := make(document, rng)) is not None:
            yield pair.query
