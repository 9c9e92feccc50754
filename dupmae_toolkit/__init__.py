"""Hybrid sparse-dense retrieval with DupMAE.

The names below are imported when they are first used, so that importing the package is quick and
needs neither torch nor FAISS nor Java.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.model.encoder import DupMAEEncoder
    from dupmae_toolkit.model.loading import load_encoder
    from dupmae_toolkit.records import Document, Hit, Query, Representations, Run
    from dupmae_toolkit.search.hybrid_index import HybridIndex

__version__ = "0.1.0"

_HOMES = {
    "Document": "dupmae_toolkit.records",
    "DupMAEEncoder": "dupmae_toolkit.model.encoder",
    "Hit": "dupmae_toolkit.records",
    "HybridIndex": "dupmae_toolkit.search.hybrid_index",
    "Query": "dupmae_toolkit.records",
    "Representations": "dupmae_toolkit.records",
    "Run": "dupmae_toolkit.records",
    "load_encoder": "dupmae_toolkit.model.loading",
}

__all__ = [
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
