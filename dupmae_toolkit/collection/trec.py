"""TREC runs: six columns, ranks from 1, and beside them a JSON file on how they came about."""

from __future__ import annotations

import contextlib
import gzip
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

import numpy as np

from dupmae_toolkit.collection.lines import check_id
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import atomic_file, sha256_file, write_json
from dupmae_toolkit.records import Ranking, Run

#: Written beside every run.
WRITTEN_SCORES = (
    "float32; one that did not fall strictly was lowered to the next smaller float32, because "
    "trec_eval breaks ties by descending id"
)


def sidecar_path(path: str | Path) -> Path:
    """Where a run's metadata lies: ``PATH`` with ``.json`` added."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def write_run(run: Run, path: str | Path) -> None:
    """Write a run as TREC's six columns, and its metadata into ``PATH.json``; each atomically.

    Scores are written with the shortest decimal text that gives back their float32. trec_eval
    reads scores as float32, ignores ranks, and breaks ties by *descending* document id; so where a
    score does not fall strictly as a float32, it is written as the next smaller float32, and
    trec_eval sees our order. Topics without hits have no lines, and are listed in the metadata.
    ``PATH`` that ends in ``.gz`` is compressed. Raises InputError for a place that cannot be
    written, and DupMAEError for rankings that cannot be: rising or infinite scores, an id with
    white space, a document twice in a topic.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError.at(path, None, "a folder; name a file for the run")
    tag = check_id(run.tag, path, None, "tag")
    with atomic_file(path) as temporary:
        with _open_to_write(temporary, path) as file:
            for topic, ranking in run.topics.items():
                file.write(_topic_lines(topic, ranking, tag).encode("utf-8"))
        metadata = {
            "tag": tag,
            "topics": len(run.topics),
            "hits": sum(len(ranking) for ranking in run.topics.values()),
            "topics_without_hits": [topic for topic, found in run.topics.items() if not len(found)],
            "written_scores": WRITTEN_SCORES,
            "sha256": sha256_file(temporary),
            **{key: value for key, value in run.metadata.items() if key not in _OWN_KEYS},
        }
        # The metadata goes first: a run beside metadata with another hash is told from a whole one.
        write_json(sidecar_path(path), metadata)


_OWN_KEYS = ("tag", "topics", "hits", "topics_without_hits", "written_scores", "sha256")


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """What stands beside a run in ``PATH.json``, if it is about this very file; else None.

    A run that was changed, or half of a write that was killed, does not match its hash.
    """
    with contextlib.suppress(OSError, ValueError):
        metadata = json.loads(sidecar_path(path).read_text("utf-8"))
        if isinstance(metadata, dict) and metadata.get("sha256") == sha256_file(Path(path)):
            return metadata
    return None


def read_run(path: str | Path, ties: Literal["id", "trec_eval"] = "id") -> Run:
    """Read a TREC run, plain, ``.gz`` or ``.xz``; topics in the order of their first lines.

    Topics, documents and the tag are strings and stay strings. Ranks are ignored, as trec_eval
    ignores them: documents are ordered by score, falling. ``ties`` says how equal scores are
    ordered: by ``"id"`` ascending, as everywhere here; or as ``"trec_eval"`` does, which compares
    scores as float32 and orders equal ones by id descending. Metadata comes from ``PATH.json``.

    Raises InputError with file and line for other than six columns, for a score that is no finite
    number, and for a document that comes twice in a topic.
    """
    file = TextSource(Path(path))
    found: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in file.lines():
        columns = line.split()
        if len(columns) != 6:
            count = f"{len(columns)} column{'s' if len(columns) != 1 else ''}"
            raise InputError.at(
                file, number, f"{count}; a run has six (topic, Q0, document, rank, score, tag)"
            )
        topic, _, document, _, score, tag = columns
        scores = found.setdefault(topic, {})
        if document in scores:
            raise InputError.at(file, number, f"topic {topic} ranks {document} a second time")
        scores[document] = _score(score, file, number)
    if not found:
        raise InputError.at(file, None, "no lines in it: an empty run")
    beside = read_metadata(path) or {}
    own = {key: value for key, value in beside.items() if key not in _OWN_KEYS}
    run = Run(tag=tag, metadata=own)
    for topic, scores in found.items():
        run.topics[topic] = _ordered(scores, ties)
    empty = beside.get("topics_without_hits")
    for topic in empty if isinstance(empty, list) else ():
        run.topics.setdefault(str(topic), Ranking([], np.empty(0)))
    return run


def falling_scores(scores: np.ndarray) -> np.ndarray:
    """float32 [n] that falls strictly, equal to ``scores`` where they fall strictly as float32.

    ``scores`` [n] must not rise. A score that is not below the one before becomes the next smaller
    float32. Raises DupMAEError for rising scores and for what float32 cannot hold.
    """
    if not np.all(np.diff(scores) <= 0):
        raise DupMAEError("scores that rise or are no numbers; a ranking's scores fall")
    with np.errstate(over="ignore"):
        falling = scores.astype(np.float32)
    if not np.all(np.isfinite(falling)):
        raise DupMAEError("a score that is infinite or beyond float32")
    for i in np.flatnonzero(np.diff(falling) >= 0) + 1:
        j = int(i)
        while j < len(falling) and falling[j] >= falling[j - 1]:
            falling[j] = np.nextafter(falling[j - 1], np.float32(-np.inf))
            j += 1
    if not np.all(np.isfinite(falling)):
        raise DupMAEError("a score that is infinite or beyond float32")
    return falling


def _topic_lines(topic: str, ranking: Ranking, tag: str) -> str:
    place = f"topic {topic}"
    check_id(topic, "run", None, "topic")
    if len(set(ranking.ids)) != len(ranking.ids):
        raise DupMAEError(f"{place}: a document comes twice in its ranking")
    if len(ranking.ids) != len(ranking.scores):
        raise DupMAEError(f"{place}: {len(ranking.ids)} ids but {len(ranking.scores)} scores")
    try:
        scores = falling_scores(np.asarray(ranking.scores)).astype(str)
    except DupMAEError as error:
        raise DupMAEError(f"{place}: {error}") from error
    return "".join(
        f"{topic} Q0 {check_id(document, 'run', None)} {rank} {score} {tag}\n"
        for rank, (document, score) in enumerate(zip(ranking.ids, scores, strict=True), 1)
    )


def _ordered(scores: dict[str, float], ties: str) -> Ranking:
    ids = list(scores)
    values = np.array(list(scores.values()), dtype=np.float64)
    if ties == "id":
        return Ranking.sorted(ids, values)
    with np.errstate(over="ignore"):
        compared = values.astype(np.float32)
    order = sorted(range(len(ids)), key=lambda i: (compared[i], ids[i]), reverse=True)
    return Ranking([ids[i] for i in order], compared[order])


def _score(text: str, file: TextSource, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and "_" not in text:
        return value
    raise InputError.at(file, number, f"score {text[:40]!r} is no finite number")


@contextlib.contextmanager
def _open_to_write(temporary: Path, path: Path) -> Iterator[BinaryIO]:
    with temporary.open("wb") as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        # No name and no time in the header: the same run gives the same bytes.
        with gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed:
            yield cast(BinaryIO, packed)
