"""TREC runs: six columns, with their metadata beside them as JSON.

Ranks count from 1, or, on a later page, from its offset + 1.
"""

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
from dupmae_toolkit.collection.identifiers import check_id, from_trec, to_trec
from dupmae_toolkit.collection.sources import TextSource
from dupmae_toolkit.collection.spooled import STANDARD_INPUT, standard_input
from dupmae_toolkit.errors import DupMAEError, InputError, type_of
from dupmae_toolkit.files import atomic_file, open_packed, sha256_file, write_json
from dupmae_toolkit.records import Ranking, Run

#: In the metadata of every run.
WRITTEN_SCORES = (
    "float32; one that did not fall strictly was lowered to the next smaller float32, because "
    "trec_eval breaks ties by descending id"
)


def sidecar_path(path: str | Path) -> Path:
    """The file of a run's metadata: ``PATH`` with ``.json`` added."""
    path = Path(path)
    return path.with_name(path.name + ".json")


def write_run(run: Run, path: str | Path) -> None:
    """Write a run as TREC's six columns, and its metadata into ``PATH.json``; each atomically.

    Each score is written as the shortest decimal that reads back as the same float32. trec_eval
    reads scores as float32, ignores ranks, and breaks ties by *descending* document id. So a score
    that is not below the one before it, as a float32, is written as the next smaller float32, and
    trec_eval sees our order. White space in an id is escaped, see ``identifiers``. Topics without
    hits have no lines; the metadata lists them. If ``PATH`` ends in ``.gz``, ``.bz2``, ``.xz`` or
    ``.zst``, the run is compressed.
    Raises InputError if ``PATH`` cannot be written, and DupMAEError if a ranking cannot: rising or
    infinite scores, an id that is none, a document twice in a topic.
    """
    if not isinstance(run, Run):
        raise InputError(f"the run given: {type_of(run)}; the run comes first, then its file")
    path = Path(path)
    if path.is_dir():
        raise InputError.at(path, None, "is a folder; name a file for the run")
    tag = check_tag(run.tag, path)
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
        # Metadata first: if the run is then not written, the hash shows that they do not match.
        write_json(sidecar_path(path), metadata)


def stream_run(run: Run, file: BinaryIO) -> None:
    """Write the columns that ``write_run`` writes to an open file, without the metadata."""
    _write_topics(file, run, check_tag(run.tag, "the run"))


def check_tag(tag: str, path: object) -> str:
    """Return ``tag`` if it can be a run's last column; InputError if not: it is not escaped."""
    check_id(tag, path, None, "tag")
    if any(character.isspace() for character in tag):
        raise InputError.at(path, None, f"white space in the tag {tag[:80]!r}; leave it out")
    return tag


_OWN_KEYS = ("tag", "topics", "hits", "topics_without_hits", "written_scores", "sha256")


def read_metadata(path: str | Path) -> dict[str, Any] | None:
    """The metadata in ``PATH.json`` if its hash is that of the file ``PATH``; else None.

    The hash differs if the run was changed, or if a write was killed between the two files.
    """
    with contextlib.suppress(OSError, ValueError, RecursionError):
        metadata = json.loads(sidecar_path(path).read_text("utf-8"))
        if isinstance(metadata, dict) and metadata.get("sha256") == sha256_file(Path(path)):
            return metadata
    return None


def read_run(path: str | Path, ties: Literal["id", "trec_eval"] = "trec_eval") -> Run:
    """Read a TREC run, plain or compressed; topics in the order of their first lines.

    Topics, documents and the tag are never parsed, but white space in ids is restored, see
    ``identifiers.from_trec``. Ranks are ignored: documents are ordered as trec_eval orders them,
    see ``Ranking.as_trec_eval``, so every command reads the same ranking. With ``ties="id"``, equal
    scores are ordered by id, ascending, as in a search. Metadata comes from ``PATH.json``.

    ``-`` is standard input, without metadata.

    Raises InputError with file and line for a line without six columns, for a score that is not a
    finite number, and for a document that occurs twice in a topic.
    """
    file = standard_input() if str(path) == STANDARD_INPUT else TextSource(Path(path))
    stored = {} if str(path) == STANDARD_INPUT else read_metadata(path) or {}
    found: dict[str, run_blocks.Listed] = {}
    tag = str(stored.get("tag") or "")
    if stored.get("hits") != 0:  # a run of ours in which no topic has a hit is an empty file
        found, tag = run_blocks.read_columns(file) or _read_lines(file)
    metadata = {key: value for key, value in stored.items() if key not in _OWN_KEYS}
    run = Run(tag=tag, metadata=metadata)
    order = Ranking.sorted if ties == "id" else Ranking.as_trec_eval
    for topic, (ids, scores) in found.items():
        run.topics[topic] = order(ids, scores)
    empty = stored.get("topics_without_hits")
    for topic in empty if isinstance(empty, list) else ():
        run.topics.setdefault(str(topic), Ranking([], np.empty(0)))
    return run


def _read_lines(file: TextSource) -> tuple[dict[str, run_blocks.Listed], str]:
    """Like ``read_columns``, for any file; raises InputError with the line of an error."""
    found: dict[str, dict[str, float]] = {}
    tag = ""
    for number, line in file.lines():
        columns = line.split()
        if len(columns) != 6:
            count = f"{len(columns)} column{'s' if len(columns) != 1 else ''}"
            raise InputError.at(
                file,
                number,
                f"{count}; a run has six (topic, Q0, document, rank, score, tag), and a blank in "
                "an id is written %%20"
                if len(columns) > 6
                else f"{count}; a run has six (topic, Q0, document, rank, score, tag)",
            )
        topic, _, document, _, score, tag = columns
        topic, document = from_trec(topic), from_trec(document)
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
    """``scores`` as strictly falling float32 [n].

    ``scores`` [n] must not rise. A score that is not below the one before it becomes the next
    smaller float32; the others keep their values. Raises DupMAEError for rising scores and for
    scores that float32 cannot hold.
    """
    if not (scores[1:] <= scores[:-1]).all():
        raise DupMAEError("scores that rise or are not numbers; a ranking's scores must fall")
    with np.errstate(over="ignore"):
        falling = scores.astype(np.float32)
    # Falling numbers are all finite if the first and the last are.
    if not np.isfinite(falling[:1]).all() or not np.isfinite(falling[-1:]).all():
        raise DupMAEError("a score that is infinite or beyond float32")
    if not (falling[1:] < falling[:-1]).all():
        # A float32's bits, read as an integer, number the float32s in order from zero. The score
        # at position j must be at least j − i steps below the one at each earlier position i.
        bits = falling.view(np.int32).astype(np.int64)
        steps = np.where(bits < 0, -(bits & 0x7FFFFFFF), bits)
        positions = np.arange(len(steps))
        lowered = np.minimum.accumulate(steps + positions) - positions
        changed = lowered < steps
        bits = np.where(lowered < 0, -lowered | 0x80000000, lowered).astype(np.uint32)
        falling[changed] = bits.view(np.float32)[changed]
    if not np.all(np.isfinite(falling)):
        raise DupMAEError("a score that is infinite or beyond float32")
    return falling


def _write_topics(file: BinaryIO, run: Run, tag: str) -> None:
    topics, rankings = list(run.topics), list(run.topics.values())

    def write(names: list[str], found: list[Ranking], scores: list[np.ndarray]) -> None:
        ids = [ranking.ids for ranking in found]
        offsets = [ranking.offset for ranking in found]
        block = None if any(offsets) else run_blocks.block_of(names, ids, scores, tag)
        if block is None:
            lines = map(_topic_lines, names, ids, scores, repeat(tag), offsets)
            block = "".join(lines).encode("utf-8")
        file.write(block)

    def checked(chunk: slice) -> tuple[list[str], list[Ranking], list[np.ndarray]]:
        names, found = topics[chunk], rankings[chunk]
        scores = [_written_scores(*each) for each in zip(names, found, strict=True)]
        return list(map(to_trec, names)), found, scores

    chunks = list(run_blocks.chunks([len(ranking) for ranking in rankings]))
    pool = _one_thread() if len(chunks) > 1 else None
    if pool is None:
        for chunk in chunks:
            write(*checked(chunk))
        return
    # Joining and writing a block releases the GIL, so check the next block meanwhile.
    with pool:
        written = pool.submit(write, *checked(chunks[0]))
        for chunk in chunks[1:]:
            try:
                block = checked(chunk)
            finally:
                written.result()  # raise an error of the previous block first
            written = pool.submit(write, *block)
        written.result()


def _one_thread() -> ThreadPoolExecutor | None:
    """A pool with one running thread; None if the system allows no more threads."""
    pool = ThreadPoolExecutor(1, "dupmae-write")
    try:
        pool.submit(int)
    except RuntimeError:
        pool.shutdown(wait=False, cancel_futures=True)
        return None
    return pool


def _written_scores(topic: str, ranking: Ranking) -> np.ndarray:
    """The scores of a topic as falling float32; DupMAEError if the ranking cannot be written."""
    place = f"topic {topic}"
    check_id(topic, "run", None, "topic")
    if len(set(ranking.ids)) != len(ranking.ids):
        raise DupMAEError(f"{place}: a document occurs twice in its ranking")
    if len(ranking.ids) != len(ranking.scores):
        raise DupMAEError(f"{place}: {len(ranking.ids)} ids but {len(ranking.scores)} scores")
    try:
        return falling_scores(np.asarray(ranking.scores))
    except DupMAEError as error:
        raise DupMAEError(f"{place}: {error}") from error


def _topic_lines(topic: str, ids: list[str], scores: np.ndarray, tag: str, offset: int) -> str:
    """The lines of one topic, whose name is escaped; checks each id."""
    import pyarrow as pa

    texts = pa.array(scores).cast(pa.string()).to_pylist()
    return "".join(
        f"{topic} Q0 {to_trec(check_id(document, 'run', None))} {rank} {score} {tag}\n"
        for rank, (document, score) in enumerate(zip(ids, texts, strict=True), offset + 1)
    )


def _score(text: str, file: TextSource, number: int) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if math.isfinite(value) and "_" not in text:
        return value
    raise InputError.at(file, number, f"score {text[:40]!r} is not a finite number")
