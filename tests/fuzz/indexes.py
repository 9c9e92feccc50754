"""Readers of indexes: ours, whose checksums are forged to fit the damage, and Pyserini's."""

from __future__ import annotations

import functools
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest, _own_digest, checksum
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from dupmae_toolkit.interop.pyserini_index import PyseriniIndex
from dupmae_toolkit.records import Document, Query
from tests.fuzz.encoded import DOCUMENTS, ENCODER
from tests.fuzz.readers import Reader

QUERIES = ENCODER.encode_queries(["word1 word3", "word", "word20"], ["a", "b", "c"])
OUTSIDE = {"secret.txt": "nobody's business", "000001/secret.txt": "nor this"}


@functools.cache
def _built(spec: str) -> dict[str, bytes]:
    """The files of an index with a deleted document, made once."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "ix")
        HybridIndex.build(path, DOCUMENTS, ENCODER, faiss=spec).close()
        delete_documents(path, ["d03"])
        return {
            file.relative_to(path).as_posix(): file.read_bytes()
            for file in path.rglob("*")
            if file.is_file()
        }


def make(folder: Path, spec: str = "Flat") -> None:
    files = {f"ix/{name}": data for name, data in _built(spec).items()}
    files |= {f"outside/{name}": text.encode() for name, text in OUTSIDE.items()}
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)


def make_graph(folder: Path) -> None:
    make(folder, "HNSW4")


def make_cells(folder: Path) -> None:
    make(folder, "IVF4,SQ8")


def forge(path: Path, folder: Path) -> None:
    """Write the damaged file's checksum into the manifest, and the manifest's own checksum too."""
    manifest = folder / "ix" / "manifest.json"
    values = json.loads(manifest.read_text("utf-8"))
    name = path.relative_to(folder / "ix").as_posix()
    if name in values["checksums"]:
        values["checksums"][name] = checksum(path)
    values.pop("sha256", None)
    manifest.write_text(json.dumps(values | {"sha256": _own_digest(values)}), "utf-8")


def search(folder: Path, most: int | None = None) -> list[Any]:
    settings = {} if most is None else {"max_postings": most}
    index = HybridIndex.open(folder / "ix", **settings)
    try:
        found: list[Any] = [len(index)]
        for mode in ("dense", "lexical", "hybrid"):
            for k in (3, 100):
                run = index.search_batch(QUERIES, k=k, mode=mode)
                found += [(topic, r.ids, r.scores.tolist()) for topic, r in run.topics.items()]
                for ranking in run.topics.values():
                    assert len(ranking.ids) == len(set(ranking.ids)) <= min(k, len(index))
                    assert np.isfinite(ranking.scores).all()
                    assert (np.diff(ranking.scores) <= 0).all()
        for answer in index.answers(QUERIES, index.request(30)).answers:
            found.append(index.hits(answer))
            assert all(type(hit.text) is type(hit.id) is str for hit in found[-1])
        return found
    finally:
        index.close()


def with_lucene(folder: Path) -> list[Any]:
    return search(folder, most=0)


def change(folder: Path) -> list[Any]:
    """Add, delete and compact; whatever happens, nothing outside the index may be touched."""
    index = folder / "ix"
    try:
        add_corpus(index, [Document("new", "", "word3 word7")], ENCODER, wait=0.1)
        delete_documents(index, ["d05"])
        compact_index(index)
        verify_index(index)
        return [Manifest.load(index).count]
    finally:
        outside = {
            path.relative_to(folder / "outside").as_posix(): path.read_text()
            for path in (folder / "outside").rglob("*")
            if path.is_file()
        }
        assert outside == OUTSIDE, "what lies outside of the index was touched"
        assert sorted(path.name for path in folder.iterdir()) == ["ix", "outside"]


def verified(folder: Path) -> list[Any]:
    """Damage without forged checksums must be found."""
    problems = verify_index(folder / "ix")
    index = {
        path.relative_to(folder / "ix").as_posix(): path.read_bytes()
        for path in (folder / "ix").rglob("*")
        if path.is_file()
    }
    assert bool(problems) == (index != _built("Flat"))
    return [str(problem) for problem in problems]


def make_pyserini(folder: Path) -> None:
    make(folder, "Flat")
    shutil.move(folder / "ix" / "segments" / "000001" / "faiss", folder / "faiss")
    shutil.move(folder / "ix" / "segments" / "000001" / "lucene", folder / "lucene")
    shutil.rmtree(folder / "ix")


def pyserini(folder: Path) -> list[Any]:
    found = []
    for part in ("faiss", "lucene"):
        index = PyseriniIndex.open(folder / part, ENCODER)
        run = index.search_batch([Query("a", "word1 word3"), Query("b", "word")], k=10)
        for topic, ranking in run.topics.items():
            assert np.isfinite(ranking.scores).all()
            found.append((topic, ranking.ids, ranking.scores.tolist()))
    return found


SEGMENT = "ix/segments/*"
READERS = [
    Reader("index manifest", make, ["ix/manifest.json"], search, forge),
    Reader(
        "index to change", make, ["ix/manifest.json", "ix/deletions/*"], change, forge, once=True
    ),
    Reader("index vocabulary", make, ["ix/vocabulary.json"], search, forge),
    Reader("index deletions", make, ["ix/deletions/*"], search, forge, text=False),
    Reader("index ids", make, [f"{SEGMENT}/faiss/docid"], search, forge, text=False),
    Reader("index vectors, Flat", make, [f"{SEGMENT}/faiss/index"], search, forge, text=False),
    Reader(
        "index vectors, HNSW", make_graph, [f"{SEGMENT}/faiss/index"], search, forge, text=False
    ),
    Reader("index vectors, IVF", make_cells, [f"{SEGMENT}/faiss/index"], search, forge, text=False),
    Reader("index forward store", make, [f"{SEGMENT}/forward/*"], search, forge, text=False),
    Reader("index documents", make, [f"{SEGMENT}/documents.parquet"], search, forge, text=False),
    Reader("index postings", make, [f"{SEGMENT}/lucene/*"], with_lucene, forge, text=False),
    Reader("index to verify", make, ["ix/*", "ix/**/*"], verified),
    Reader("Pyserini's folders", make_pyserini, ["faiss/*", "lucene/*"], pyserini, text=False),
]
