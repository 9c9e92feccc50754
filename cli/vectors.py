"""Vectors that exist already, as the encoder of documents (``--vectors``)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from dupmae_cli import console
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.collection.corpora import Corpus
    from dupmae_toolkit.encoding.vectors import StoredVectors


def texts_of(corpus: Corpus, source: str, vectors: Path) -> Any:
    """The corpus that ``source`` names; without the vectors, if they are in the same file."""
    from dupmae_toolkit.encoding.vectors import TextsAlone

    return TextsAlone(corpus) if Path(source) == vectors else corpus


def say_unused(vectors: StoredVectors, documents: int) -> None:
    """Say how many vectors belong to no document, if any."""
    if len(vectors) > documents:
        console.say(f"{vectors.path}: {counted(len(vectors) - documents, 'vector')} of no document")
