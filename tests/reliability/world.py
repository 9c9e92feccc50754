"""Documents, an encoder, and what an index must answer, computed plainly over all documents."""

from __future__ import annotations

import random
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from scipy.sparse import csr_matrix, load_npz, save_npz

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index import segment
from dupmae_toolkit.index.manifest import Manifest
from tests.brute import MODES, BruteForce
from tests.support import HashingEncoder

#: It states its largest weight, so that all its indexes have one scale, whatever was added when.
ENCODER = HashingEncoder(size=128, dim=8, largest_weight=4.0)
#: What is searched: a mode, and whether by the plain score.
SEARCHES = [(mode, False) for mode in MODES] + [("lexical", True), ("hybrid", True)]
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


def wrong_answers(index: HybridIndex, documents: Contents, k: int = 10) -> list[str]:
    """Where searches of an open index differ from what they must return, texts included."""
    if len(index) != len(documents):
        return [f"{len(index)} documents instead of {len(documents)}"]
    whole = [Document(name, *documents[name]) for name in sorted(documents)]
    brute = BruteForce(whole, ENCODER, index.manifest)
    wrong = []
    for mode, plain in SEARCHES:
        for question in QUESTIONS:
            hits = index.search(question, k, mode, exact=True, plain=plain)
            expected = brute.ranked(question, mode, k, plain=plain)
            ids = [name for name, _ in expected]
            what = f"{'plain ' * plain}{mode} {question!r}"
            if [hit.id for hit in hits] != ids:
                wrong.append(f"{what}: {[hit.id for hit in hits]} instead of {ids}")
            elif not np.allclose([h.score for h in hits], [s for _, s in expected], 1e-6, 1e-6):
                wrong.append(f"{what}: other scores")
            elif any((hit.title, hit.text) != documents[hit.id] for hit in hits):
                wrong.append(f"{what}: other texts")
    return wrong


def answers(index: HybridIndex, mode: str, k: int = 10, plain: bool = False) -> list[list[tuple]]:
    """Everything that the searches in one mode return."""
    found = index.search(QUESTIONS, k, mode, plain=plain)
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
