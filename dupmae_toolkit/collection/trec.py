"""TREC runs: six columns, ranks from 1, and beside them their metadata as JSON."""

from __future__ import annotations

import contextlib
import json
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from dupmae_toolkit.collection import run_blocks
from dupmae_toolkit.collection.lines import check_id
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import atomic_file, open_packed, sha256_file, write_json
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
        with open_packed(temporary, path) as file:
            _write_topics(file, run, tag)
        metadata = {
            "tag": tag,
            "topics": len(run.topics),
            "hits": sum(len(ranking) for ranking in run.topics.values()),
            "topics_without_hits": [topic for topic, found in run.topics.items() if not len(found)],
            "written_scores": WRITTEN_SCORES,
            "sha256": sha256_file(temporary),
            **{key: value for key, value in run.metadata.items() if key not in _OWN_KEYS},
        }
        # It goes first: should the run not follow, its hash shows that they do not belong together.
        write_json(sidecar_path(path), metadata)


_OWN_KEYS = ("tag", "topics", "hits", "topics_without_hits", "written_scores", "sha256")


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """The metadata in ``PATH.json`` if it has the hash of the file ``PATH``; else None.

    The hash differs where the file was changed, or where a write was killed between the two files.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
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
    found, tag = run_blocks.read_columns(file) or _read_lines(file)
    beside = read_metadata(path) or {}
    own = {key: value for key, value in beside.items() if key not in _OWN_KEYS}
    run = Run(tag=tag, metadata=own)
    for topic, (ids, scores) in found.items():
        run.topics[topic] = _ordered(ids, scores, ties)
    empty = beside.get("topics_without_hits")
    for topic in empty if isinstance(empty, list) else ():
        run.topics.setdefault(str(topic), Ranking([], np.empty(0)))
    return run


def _read_lines(file: TextSource) -> tuple[dict[str, run_blocks.Listed], str]:
    """As ``read_columns``, for any file; raises InputError with the line of a fault."""
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
    return {
        topic: (list(scores), np.array(list(scores.values()), np.float64))
        for topic, scores in found.items()
    }, tag


def falling_scores(scores: np.ndarray) -> np.ndarray:
    """float32 [n] that falls strictly, equal to ``scores`` where they fall strictly as float32.

    ``scores`` [n] must not rise. A score that is not below the one before becomes the next smaller
    float32. Raises DupMAEError for rising scores and for what float32 cannot hold.
    """
    if not (scores[1:] <= scores[:-1]).all():
        raise DupMAEError("scores that rise or are no numbers; a ranking's scores fall")
    with np.errstate(over="ignore"):
        falling = scores.astype(np.float32)
    # Falling numbers are finite if the first and the last are.
    if not np.isfinite(falling[:1]).all() or not np.isfinite(falling[-1:]).all():
        raise DupMAEError("a score that is infinite or beyond float32")
    if not (falling[1:] < falling[:-1]).all():
        # As an integer, a float32 counts the float32s from zero to it. The one at place j must be
        # at least j − i steps below the one at each place i before it.
        bits = falling.view(np.int32).astype(np.int64)
        steps = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
        places = np.arange(len(steps))
        lowered = np.minimum.accumulate(steps + places) - places
        changed = lowered < steps
        bits = np.where(lowered < 0, -lowered | 0x80000000, lowered).astype(np.uint32)
        falling[changed] = bits.view(np.float32)[changed]
    if not np.all(np.isfinite(falling)):
        raise DupMAEError("a score that is infinite or beyond float32")
    return falling


def _write_topics(file: BinaryIO, run: Run, tag: str) -> None:
    topics, rankings = list(run.topics), list(run.topics.values())

    def write(names: list[str], ids: list[list[str]], scores: list[np.ndarray]) -> None:
        block = run_blocks.block_of(names, ids, scores, tag)
        if block is None:
            lines = map(_topic_lines, names, ids, scores, repeat(tag))
            block = "".join(lines).encode("utf-8")
        file.write(block)

    def checked(chunk: slice) -> tuple[list[str], list[list[str]], list[np.ndarray]]:
        names, own = topics[chunk], rankings[chunk]
        scores = [_written_scores(*each) for each in zip(names, own, strict=True)]
        return names, [ranking.ids for ranking in own], scores

    chunks = list(run_blocks.chunks([len(ranking) for ranking in rankings]))
    pool = _one_thread() if len(chunks) > 1 else None
    if pool is None:
        for chunk in chunks:
            write(*checked(chunk))
        return
    # Joining and writing a block releases the GIL; meanwhile the next one is checked.
    with pool:
        written = pool.submit(write, *checked(chunks[0]))
        for chunk in chunks[1:]:
            try:
                block = checked(chunk)
            finally:
                written.result()  # an error in the block before comes first
            written = pool.submit(write, *block)
        written.result()


def _one_thread() -> ThreadPoolExecutor | None:
    """A pool with one running thread; None where the system refuses another."""
    pool = ThreadPoolExecutor(1, "dupmae-write")
    try:
        pool.submit(int)
    except RuntimeError:
        pool.shutdown(wait=False, cancel_futures=True)
        return None
    return pool


def _written_scores(topic: str, ranking: Ranking) -> np.ndarray:
    """The scores of a topic as float32 that fall; DupMAEError for what cannot be written."""
    place = f"topic {topic}"
    check_id(topic, "run", None, "topic")
    if len(set(ranking.ids)) != len(ranking.ids):
        raise DupMAEError(f"{place}: a document comes twice in its ranking")
    if len(ranking.ids) != len(ranking.scores):
        raise DupMAEError(f"{place}: {len(ranking.ids)} ids but {len(ranking.scores)} scores")
    try:
        return falling_scores(np.asarray(ranking.scores))
    except DupMAEError as error:
        raise DupMAEError(f"{place}: {error}") from error


def _topic_lines(topic: str, ids: list[str], scores: np.ndarray, tag: str) -> str:
    """The lines of one topic, ids checked one by one."""
    import pyarrow as pa

    texts = pa.array(scores).cast(pa.string()).to_pylist()
    return "".join(
        f"{topic} Q0 {check_id(document, 'run', None)} {rank} {score} {tag}\n"
        for rank, (document, score) in enumerate(zip(ids, texts, strict=True), 1)
    )


def _ordered(ids: list[str], values: np.ndarray, ties: str) -> Ranking:
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
