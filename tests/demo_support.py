"""The demonstration's documents, read once for all tests."""

from __future__ import annotations

from functools import lru_cache

from dupmae_toolkit.demo.docstrings import read_docstrings
from dupmae_toolkit.records import Document


@lru_cache(maxsize=1)
def demo_documents() -> list[Document]:
    return read_docstrings()
