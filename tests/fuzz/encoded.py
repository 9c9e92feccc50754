"""Readers of encoded corpora and of tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dupmae_toolkit.collection.opening import read_texts
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.parquet import read_ids, read_metadata
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.records import Document
from tests.fuzz.readers import Reader
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=64, dim=8)
DOCUMENTS = [Document(f"d{n:02}", f"t{n}", f"word{n} word{n // 2} word") for n in range(24)]


def make(folder: Path) -> None:
    encode_corpus(DOCUMENTS, ENCODER, folder, part_size=12)


def read(folder: Path) -> list[Any]:
    corpus = EncodedCorpus.open(folder)
    found = []
    count = 0
    for part in corpus.parts():
        assert np.isfinite(part.dense).all()
        assert part.dense.shape == (len(part), corpus.info.dense_dim)
        assert part.lexical.shape == (len(part), corpus.info.vocabulary_size)
        assert (part.lexical.data > 0).all()
        part.lexical.check_format(full_check=True)
        count += len(part)
        found.append((part.ids, part.titles, part.texts, part.dense.tobytes()))
        found.append((part.lexical.indices.tobytes(), part.lexical.data.tobytes()))
    assert count == len(corpus) > 0
    found.append(corpus.vocabulary())
    return found


def continued(folder: Path) -> list[Any]:
    """Encode into a folder that is there already, as ``dupmae encode`` does: continue or refuse."""
    encode_corpus(DOCUMENTS, ENCODER, folder, part_size=12)
    return read(folder)


def own_columns(folder: Path) -> list[Any]:
    path = folder / "part-00000.parquet"
    return [read_ids(path), read_metadata(path), read(folder)]


def state_checksum(path: Path, folder: Path) -> None:
    """Write the checksum of the damaged part into the manifest."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["parts"]:
        entry["sha256"] = sha256_file(folder / entry["file"])
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make_plain(folder: Path) -> None:
    """As another engine may write it; uncompressed, so that damage reaches the values."""
    make(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    for entry in manifest["parts"]:
        rows = pq.read_table(folder / entry["file"]).replace_schema_metadata(None)
        pq.write_table(rows, folder / entry["file"], compression="none", use_dictionary=False)
    kept = {"format_version", "encoder", "kind", "source"}
    manifest = {key: value for key, value in manifest.items() if key in kept}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def make_table(folder: Path) -> None:
    table = pa.table({"title": ["a"] * 50, "text": [f"text {n}" for n in range(50)]})
    pq.write_table(table, folder / "t.parquet")


def table(folder: Path) -> list[Any]:
    return [(d.id, d.title, d.text) for d in read_texts(str(folder / "t.parquet"))]


READERS = [
    Reader("encoded manifest", make, ["manifest.json"], read),
    Reader("encoded vocabulary", make, ["vocabulary.json"], read),
    Reader("encoded part", make, ["part-*.parquet"], own_columns, state_checksum, text=False),
    Reader("part of another engine", make_plain, ["part-*.parquet"], own_columns, text=False),
    Reader("encoded corpus to continue", make, ["*"], continued),
    Reader("table", make_table, ["t.parquet"], table, text=False),
]
