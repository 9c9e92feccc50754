"""Hybrid sparse-dense retrieval with DupMAE: one encoder, two vectors per text, one index of both.

HybridIndex      dupmae_toolkit.search.hybrid_index   build, open, search and change an index
load_encoder     dupmae_toolkit.model.loading         an encoder for inference, by name or folder
DupMAEEncoder    dupmae_toolkit.model.encoder         an encoder as a torch module, to train
Document         dupmae_toolkit.records               an id, a title and a text
Query            dupmae_toolkit.records               an id and a text
Columns          dupmae_toolkit.collection.fields     which fields of records to read
Feedback         dupmae_toolkit.search.feedback       how the first documents change a query
Hit              dupmae_toolkit.records               one search result: rank, id, scores, text
Representations  dupmae_toolkit.records               the dense and lexical vectors of texts
Run              dupmae_toolkit.runs                  the ranked documents of many queries
Qrels            dupmae_toolkit.collection.qrels      graded judgements, by topic and document
Fusion           dupmae_toolkit.fusing.fusion         how lists are fused: method, norm, weights
fuse             dupmae_toolkit.fusing.fuse           makes one run from several
evaluate         dupmae_toolkit.evaluation.measures   measures a run, with trec_eval's values
compare          dupmae_toolkit.evaluation.comparing  tests whether runs differ from a baseline
tune             dupmae_toolkit.evaluation.tuned      finds the best weights of several runs
read_run         dupmae_toolkit.collection.trec       reads a run in TREC's six columns
write_run        dupmae_toolkit.collection.trec       writes a run and its metadata
read_qrels       dupmae_toolkit.collection.opening    reads judgements in any supported format

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
    "Feedback",
    "Fusion",
    "Hit",
    "HybridIndex",
    "Qrels",
    "Query",
    "Representations",
    "Run",
    "__version__",
    "compare",
    "evaluate",
    "fuse",
    "load_encoder",
    "read_qrels",
    "read_run",
    "tune",
    "write_run",
]

_HOMES = {
    "Columns": "dupmae_toolkit.collection.fields",
    "Document": "dupmae_toolkit.records",
    "DupMAEEncoder": "dupmae_toolkit.model.encoder",
    "Feedback": "dupmae_toolkit.search.feedback",
    "Fusion": "dupmae_toolkit.fusing.fusion",
    "Hit": "dupmae_toolkit.records",
    "HybridIndex": "dupmae_toolkit.search.hybrid_index",
    "Qrels": "dupmae_toolkit.collection.qrels",
    "Query": "dupmae_toolkit.records",
    "Representations": "dupmae_toolkit.records",
    "Run": "dupmae_toolkit.runs",
    "compare": "dupmae_toolkit.evaluation.comparing",
    "evaluate": "dupmae_toolkit.evaluation.measures",
    "fuse": "dupmae_toolkit.fusing.fuse",
    "load_encoder": "dupmae_toolkit.model.loading",
    "read_qrels": "dupmae_toolkit.collection.opening",
    "read_run": "dupmae_toolkit.collection.trec",
    "tune": "dupmae_toolkit.evaluation.tuned",
    "write_run": "dupmae_toolkit.collection.trec",
}

if TYPE_CHECKING:
    from dupmae_toolkit.collection.fields import Columns
    from dupmae_toolkit.collection.opening import read_qrels
    from dupmae_toolkit.collection.qrels import Qrels
    from dupmae_toolkit.collection.trec import read_run, write_run
    from dupmae_toolkit.evaluation.comparing import compare
    from dupmae_toolkit.evaluation.measures import evaluate
    from dupmae_toolkit.evaluation.tuned import tune
    from dupmae_toolkit.fusing.fuse import fuse
    from dupmae_toolkit.fusing.fusion import Fusion
    from dupmae_toolkit.model.encoder import DupMAEEncoder
    from dupmae_toolkit.model.loading import load_encoder
    from dupmae_toolkit.records import Document, Hit, Query, Representations
    from dupmae_toolkit.runs import Run
    from dupmae_toolkit.search.feedback import Feedback
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
