"""Indexes of one scale and their rankings by brute force, for tests of the fitted score."""

from __future__ import annotations

from pathlib import Path

from dupmae_toolkit import Document, HybridIndex, Query
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.index.manifest import Manifest
from tests.brute import BruteForce
from tests.index_support import documents_of
from tests.support import HashingEncoder

#: Of one scale, whatever it is built of.
ENCODER = HashingEncoder(largest_weight=4.0)
DOCUMENTS = documents_of(60, seed=4)
TOPICS = [Query(f"q{n}", DOCUMENTS[n].text[:14]) for n in range(5)]
TOPICS += [Query("copies", "the same"), Query("none", "nothing-known")]


def encoded(folder: Path, documents: list[Document]) -> Path:
    """What `dupmae encode` would write."""
    encode_corpus(documents, ENCODER, folder)
    return folder


def pairs(opened: HybridIndex, mode: str, **settings) -> dict[str, list[tuple[str, float]]]:
    found = opened.search_batch(TOPICS, 25, mode, exact=True, **settings)
    return {t: list(zip(found[t].ids, found[t].scores.tolist(), strict=True)) for t in found}


def expected(documents, manifest: Manifest, mode: str, **settings) -> dict:
    brute = BruteForce(documents, ENCODER, manifest)
    return {topic.id: brute.ranked(topic.text, mode, 25, **settings) for topic in TOPICS}
