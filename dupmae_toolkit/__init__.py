"""Hybrid sparse-dense retrieval with DupMAE: one encoder, two vectors per text, one index of both.

HybridIndex      dupmae_toolkit.search.hybrid_index  build, open, search and change an index
load_encoder     dupmae_toolkit.model.loading        an encoder for inference, by name or folder
DupMAEEncoder    dupmae_toolkit.model.encoder        an encoder as a torch module, to train
Document         dupmae_toolkit.records              an id, a title and a text
Query            dupmae_toolkit.records              an id and a text
Columns          dupmae_toolkit.collection.fields    which fields of records to read
Hit              dupmae_toolkit.records              one search result: rank, id, scores, text
Run              dupmae_toolkit.records              the ranked documents of many queries
Representations  dupmae_toolkit.records              the dense and lexical vectors of texts

Each name is imported when it is first used, so importing the package takes a few milliseconds and
loads neither torch nor FAISS nor Java. Invalid input raises dupmae_toolkit.errors.InputError.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

__version__ = "0.1.0"

__all__ = [
    "Columns",
    "Document",
    "DupMAEEncoder",
    "Hit",
    "HybridIndex",
    "Query",
    "Representations",
    "Run",
    "__version__",
    "load_encoder",
]

_HOMES = {
    "Columns": "dupmae_toolkit.collection.fields",
    "Document": "dupmae_toolkit.records",
    "DupMAEEncoder": "dupmae_toolkit.model.encoder",
    "Hit": "dupmae_toolkit.records",
    "HybridIndex": "dupmae_toolkit.search.hybrid_index",
    "Query": "dupmae_toolkit.records",
    "Representations": "dupmae_toolkit.records",
    "Run": "dupmae_toolkit.records",
    "load_encoder": "dupmae_toolkit.model.loading",
}

if TYPE_CHECKING:
    from dupmae_toolkit.collection.fields import Columns
    from dupmae_toolkit.model.encoder import DupMAEEncoder
    from dupmae_toolkit.model.loading import load_encoder
    from dupmae_toolkit.records import Document, Hit, Query, Representations, Run
    from dupmae_toolkit.search.hybrid_index import HybridIndex
else:
    # Hidden from type checkers: with it they would accept any misspelt name.
    def __getattr__(name):
        """Import an exported name from its home."""
        import importlib

        if name in _HOMES:
            return getattr(importlib.import_module(_HOMES[name]), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Include the exported names that are not imported yet."""
    return sorted({*globals(), *__all__})
