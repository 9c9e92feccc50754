"""Small encoded corpora and indexes for the tests of the index."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.files import write_json
from dupmae_toolkit.records import Document
from tests.support import HashingEncoder


def documents_of(count: int, seed: int = 0) -> list[Document]:
    """Documents in a shuffled order of ids, some of them the same but for the id."""
    generator = np.random.default_rng(seed)
    words = [f"w{number}" for number in range(400)]
    documents = [
        Document(f"d{number}", f"title {number % 7}", " ".join(generator.choice(words, 12)))
        for number in range(count - 2)
    ]
    documents += [Document("é", "", "the same"), Document("日本", "", "the same")]
    return [documents[number] for number in generator.permutation(len(documents))]


def encode(folder: Path, count: int = 50, part_size: int = 16, seed: int = 0) -> EncodedCorpus:
    return encode_corpus(documents_of(count, seed), HashingEncoder(), folder, part_size=part_size)


def contents(index: Path, lucene: bool = False) -> dict[str, bytes]:
    """The bytes of the files that are the same from build to build, by path."""
    return {
        path.relative_to(index).as_posix(): path.read_bytes()
        for path in sorted(index.rglob("*"))
        if path.is_file() and (lucene or path.parent.name != "lucene")
        if path.name != "manifest.json"
    }


def age(index: Path, version: int) -> None:
    """Turn an index without words into one of format 1 or 2, as earlier versions wrote it.

    The scale stays, which they computed otherwise.
    """
    for path in index.rglob("impacts-frequencies.npy"):
        path.unlink()
    values = json.loads((index / "manifest.json").read_text("utf-8"))
    for key in ("sha256", "scoring", "precision"):
        del values[key]
    del values["impacts"]["scale_source"]
    for key in ("fitted_weights", "largest_weight"):
        del values["encoder"][key]
    later = ["words", "length", "word_error"]
    if version == 1:
        later += ["dead", "deletions", "faiss_spec"]
        del values["generation"]
        values["deleted"] = []
    for entry in values["segments"]:
        for key in later:
            del entry[key]
    values["checksums"] = {
        name: stated
        for name, stated in values["checksums"].items()
        if not name.endswith("impacts-frequencies.npy")
    }
    values["encoder"]["query_max_length"] = 64
    values["format_version"] = version
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
    write_json(index / "manifest.json", values | {"sha256": digest})
