"""The folders of vectors that `dupmae export` writes, and `dupmae import` reads.

    FOLDER/
      _export.json              what the vectors are, and the checksums of the other files
      _vocabulary.json          the terms of the encoder's vocabulary in the order of their ids
    of the format jsonl:
      documents.jsonl           id, title, text and metadata of each document
      dense/vectors.jsonl       Pyserini's JSON: {"id", "contents", "vector": [numbers]}
      lexical/vectors.jsonl     Pyserini's JSON: {"id", "contents", "vector": {term: impact}}
    of the format npy:
      documents.jsonl           as above
      ids.txt                   the id of each row, one per line
      dense.npy                 float32 [n, d]
      lexical-indptr.npy, lexical-indices.npy, lexical-data.npy, lexical-shape.npy
                                a CSR matrix [n, |V|] of impacts
    of the format parquet:
      part-00000.parquet …      id, title, text, dense, terms, weights and perhaps metadata

Programs that read a folder of Parquet skip files whose names begin with an underscore; files with
any other names beside the parts make pandas and pyarrow fail.

Impacts are integers. Weights, in Parquet, are floats: impacts divided by the scale. An encoded
corpus has weights that were never rounded; all formats then hold these in place of impacts.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from dupmae_toolkit.encoding.parquet import Part
from dupmae_toolkit.index.mistaken import EXPORT_FILE
from dupmae_toolkit.index.rows import Rows

FORMATS = ("jsonl", "npy", "parquet")
RECORD_FILE = EXPORT_FILE
VOCABULARY_FILE = "_vocabulary.json"
RECORD_VERSION = 1
DOCUMENTS = "documents.jsonl"
DENSE_LINES = "dense/vectors.jsonl"
LEXICAL_LINES = "lexical/vectors.jsonl"
IDS = "ids.txt"
DENSE_ARRAY = "dense.npy"
ARRAYS = ("indptr", "indices", "data", "shape")
PART = "part-{:05d}.parquet"
PARTS = re.compile(r"part-[0-9]{5,}\.parquet")
#: How many documents are read or written together.
BATCH = 2048

#: Some documents. ``lexical`` has impacts or weights; when read, float32 weights.
Batch = Part | Rows


def array_file(name: str) -> str:
    """The file of one of ``ARRAYS``."""
    return f"lexical-{name}.npy"


@dataclass(slots=True)
class Vectors:
    """Documents with their vectors, to be written into a folder or an index.

    record: what they are, as in ``RECORD_FILE``. tokens: the vocabulary. batches: reads the
    documents from the beginning. count: how many rows there are.
    """

    record: dict[str, Any]
    tokens: list[str]
    count: int
    batches: Callable[[], Iterator[Batch]]
    notes: list[str] = field(default_factory=list)
