"""Documents, an encoder, and what an index must answer, computed plainly over all documents."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix, load_npz, save_npz

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index import segment
from dupmae_toolkit.index.impacts import round_weights
from dupmae_toolkit.index.manifest import Manifest
from tests.support import HashingEncoder

ENCODER = HashingEncoder(size=128, dim=8)
MODES = ("dense", "lexical", "hybrid")
WORDS = [f"word{number}" for number in range(150)]
QUESTIONS = [" ".join(random.Random(number).choices(WORDS, k=5)) for number in range(4)]
QUESTIONS += ["the very same words", "nothing-known-at-all"]

#: The title and the text of each document, by its id.
Contents = dict[str, tuple[str, str]]


def document(number: int, version: int = 0, words: int = 9) -> Document:
    """The document with this number; every tenth one has the same text, so that scores tie."""
    dice = random.Random(f"{number} {version}")
    if number % 10 == 0:
        return Document(f"d{number}", f"T{version}", "the very same words in each")
    return Document(f"d{number}", f"T{version}", " ".join(dice.choices(WORDS, k=words)))


def some(start: int, stop: int, version: int = 0, words: int = 9) -> list[Document]:
    return [document(number, version, words) for number in range(start, stop)]


def contents(documents: Iterable[Document]) -> Contents:
    return {each.id: (each.title, each.text) for each in documents}


def living(index: Path) -> Contents | None:
    """The documents that are not deleted, read without the toolkit's readers; None: no index."""
    try:
        manifest = Manifest.load(index)
    except InputError:
        return None
    found: Contents = {}
    for entry in manifest.segments:
        table = pq.read_table(index / "segments" / entry.name / "documents.parquet").to_pydict()
        rows = dict(enumerate(zip(table["id"], table["title"], table["text"], strict=True)))
        if entry.deletions:
            for row in np.load(index / entry.deletions).tolist():
                del rows[row]
        for name, title, text in rows.values():
            assert name not in found, f"{name} lives twice"
            found[name] = (title, text)
    return found


class Oracle:
    """What a search must return: every score of every document, sorted by score, then by id."""

    def __init__(self, documents: Mapping[str, tuple[str, str]], scale: float) -> None:
        self.ids = sorted(documents)
        self.scale = scale
        whole = [Document(name, *documents[name]) for name in self.ids]
        vectors = ENCODER.encode_documents([each.contents for each in whole] or ["nothing"])
        impacts = vectors.lexical.tocsr()
        impacts.data = np.clip(np.rint(impacts.data.astype(np.float64) * scale), 1, 255)
        self.impacts = impacts[: len(self.ids)]
        self.dense = vectors.dense[: len(self.ids)].astype(np.float64)

    def top(self, question: str, mode: str, k: int) -> list[tuple[str, float]]:
        vectors = ENCODER.encode_queries([question])
        dense = (self.dense * vectors.dense[0].astype(np.float64)).sum(axis=1)
        weights = round_weights(vectors.lexical.toarray()[0]).astype(np.float64)
        lexical = self.impacts @ weights / self.scale
        info = ENCODER.info
        scores = {
            "dense": dense,
            "lexical": lexical,
            "hybrid": info.dense_weight * dense + info.lexical_weight * lexical,
        }[mode].astype(np.float32)
        ranked = sorted(zip((-scores).tolist(), self.ids, strict=True))
        found = [(name, -score) for score, name in ranked]
        return [pair for pair in found if mode != "lexical" or pair[1] > 0][:k]


def wrong_answers(index: HybridIndex, documents: Contents, k: int = 10) -> list[str]:
    """Where searches of an open index differ from what they must return, texts included."""
    if len(index) != len(documents):
        return [f"{len(index)} documents instead of {len(documents)}"]
    oracle = Oracle(documents, index.manifest.scale)
    wrong = []
    for mode in MODES:
        for question in QUESTIONS:
            hits = index.search(question, k, mode, exact=True, plain=True)
            expected = oracle.top(question, mode, k)
            ids = [name for name, _ in expected]
            if [hit.id for hit in hits] != ids:
                wrong.append(f"{mode} {question!r}: {[hit.id for hit in hits]} instead of {ids}")
            elif not np.allclose([h.score for h in hits], [s for _, s in expected], 1e-6, 1e-6):
                wrong.append(f"{mode} {question!r}: other scores")
            elif any((hit.title, hit.text) != documents[hit.id] for hit in hits):
                wrong.append(f"{mode} {question!r}: other texts")
    return wrong


def answers(index: HybridIndex, mode: str, k: int = 10) -> list[list[tuple]]:
    """Everything that the searches in one mode return."""
    found = index.search(QUESTIONS, k, mode, plain=True)
    return [[(hit.id, hit.score, hit.title, hit.text) for hit in hits] for hits in found]


class PlainLucene:
    """A stand-in for Lucene, since Java takes seconds to start: the matrix itself, in a file."""

    segments = 1

    def __init__(self, folder: Path, terms: object = None) -> None:
        try:
            self._ids = (Path(folder) / "ids").read_text("utf-8").split("\n")[:-1]
            self._impacts = load_npz(Path(folder) / "impacts.npz").astype(np.float64)
        except (OSError, ValueError) as error:
            raise InputError(f"{folder}: not readable ({error})") from error

    @staticmethod
    def write(folder: Path, ids: list[str], impacts: csr_matrix, *_: object) -> None:
        folder.mkdir()
        (folder / "ids").write_text("".join(f"{name}\n" for name in ids), "utf-8")
        with (folder / "impacts.npz").open("wb") as file:
            save_npz(file, impacts)

    def __len__(self) -> int:
        return len(self._ids)

    def ids(self) -> list[str]:
        return self._ids

    def search(self, queries: csr_matrix, k: int) -> list[tuple[np.ndarray, np.ndarray]]:
        found = []
        for row in range(queries.shape[0]):
            scores = self._impacts @ queries[row].toarray()[0].astype(np.float64)
            order = np.lexsort((np.arange(len(scores)), -scores))
            order = order[scores[order] > 0][:k]
            found.append((order.astype(np.int32), scores[order].astype(np.float32)))
        return found

    def close(self) -> None: ...


def without_java() -> None:
    """Let this process, and those that it forks, use ``PlainLucene`` in place of Lucene."""
    segment.write_lucene = PlainLucene.write  # type: ignore[assignment]
    segment.LuceneImpacts = PlainLucene  # type: ignore[assignment,misc]
