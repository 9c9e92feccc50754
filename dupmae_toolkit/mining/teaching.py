"""Put a teacher's scores into training examples, block by block, so that killed work can resume.

The scores of each block of examples are saved in the folder ``OUTPUT.part``, beside the output, as
soon as they are known. When all are there, the output is written in one step and the folder is
removed. A block's scores depend only on its own examples, so resumed work gives the same bytes.
"""

from __future__ import annotations

import itertools
import shutil
from array import array
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from dupmae_toolkit.collection.trec import read_metadata
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import (
    atomic_file,
    make_folder,
    read_json,
    remove_leftovers,
    sha256_file,
    write_json,
)
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.mining.examples import (
    Example,
    Passage,
    read_examples,
    short,
    write_examples,
)
from dupmae_toolkit.mining.negative_filters import check_margins, highest_score
from dupmae_toolkit.mining.report import quantiles
from dupmae_toolkit.progress import Progress, silent

#: Examples that are scored, and whose scores are saved, together.
BLOCK = 64
_HEADER = "teaching.json"
_VERSION = 1


class Teacher(Protocol):
    """A source of scores: a model, runs, BM25."""

    def describe(self) -> dict[str, Any]:
        """Everything that determines its scores, as JSON values; written to ``OUTPUT.json``."""
        ...

    def score(self, examples: Sequence[Example]) -> np.ndarray:
        """float64 [passages], example by example, positives first; NaN where it has no score."""
        ...


@dataclass(frozen=True, slots=True)
class TeachingOptions:
    """Which examples and negatives are left out once the teacher's scores are known.

    margin, margin_ratio: as in mining, by the teacher's scores: a negative that scores more than
    the best positive minus the margin counts as a false negative. keep_bare: keep examples whose
    negatives are all left out.
    """

    margin: float | None = None
    margin_ratio: float | None = None
    keep_bare: bool = False

    def __post_init__(self) -> None:
        check_margins(self.margin, self.margin_ratio)


def teach(
    source: str | Path,
    output: str | Path,
    teacher: Teacher,
    options: TeachingOptions | None = None,
    *,
    restart: bool = False,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Write the examples of ``source`` with the teacher's scores; returns their metadata.

    ``output`` may be ``source``. A passage without a score is left out. So is an example that has
    no positive left, or that loses all its negatives (unless ``keep_bare``). Interrupted work of
    the same teacher on the same file is resumed; other unfinished work is refused unless
    ``restart``. Raises InputError with file and line for a line that is not an example, before
    anything is scored.
    """
    source, output = Path(source), Path(output)
    options = options or TeachingOptions()
    with progress(f"reading {source}", None) as advance:
        total = 0
        for _ in read_examples(source):
            total += 1
            advance(1)
    header = {
        "version": _VERSION,
        "examples_sha256": sha256_file(source),
        "examples": total,
        "block": BLOCK,
        "teacher": teacher.describe(),
    }
    make_folder(output.parent)
    part = output.with_name(f"{output.name}.part")
    _open_part(part, header, restart)
    with exclusive(part):
        remove_leftovers(part)
        _score_blocks(source, part, teacher, total, progress)
        report = _Report()
        examples = _taught(source, part, options, report)
        beside = read_metadata(source)

        def about() -> dict[str, Any]:
            if not report.written:
                raise InputError.at(
                    source,
                    None,
                    f"nothing is left of {total:,} examples; the teacher has scores for too "
                    "few of their texts, or the margin is too wide",
                )
            return {
                "kind": "taught examples",
                "source": str(source),
                "teacher": header["teacher"],
                "options": asdict(options),
                "report": report.to_dict(),
                "mined": beside,
            }

        metadata = write_examples(output, examples, about)
    shutil.rmtree(part, ignore_errors=True)
    return metadata


def _open_part(part: Path, header: dict[str, Any], restart: bool) -> None:
    """Create or reopen the folder of the scores; ``restart`` removes an existing one first."""
    path = part / _HEADER
    if restart and path.exists():
        shutil.rmtree(part, ignore_errors=True)
    if part.exists() and not path.exists() and any(part.iterdir()):
        raise InputError.at(part, None, "holds something else; remove it, or name another output")
    if path.exists():
        if read_json(path) != header:
            raise InputError.at(
                part,
                None,
                "unfinished scores of another teacher, or for other examples, are there; finish "
                "that work, or pass --restart (restart=True) to discard them",
            )
        return
    make_folder(part)
    write_json(path, header)


def _blocks(source: Path) -> Iterator[list[Example]]:
    examples = (example for _, example in read_examples(source))
    while block := list(itertools.islice(examples, BLOCK)):
        yield block


def _block_path(part: Path, number: int) -> Path:
    return part / f"scores-{number:06}.npy"


def _score_blocks(
    source: Path, part: Path, teacher: Teacher, total: int, progress: Progress
) -> None:
    with progress("scoring", total) as advance:
        for number, block in enumerate(_blocks(source)):
            path = _block_path(part, number)
            size = sum(len(example.passages) for example in block)
            if _read_block(path, size) is None:
                scores = np.asarray(teacher.score(block), dtype=np.float64)
                if scores.shape != (size,) or np.isinf(scores).any():
                    raise DupMAEError(
                        f"the teacher must give a finite score, or NaN, for each of {size} texts"
                    )
                with atomic_file(path) as temporary, temporary.open("wb") as file:
                    np.save(file, scores, allow_pickle=False)
            advance(len(block))


def _read_block(path: Path, size: int) -> np.ndarray | None:
    try:
        scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return scores if scores.shape == (size,) and scores.dtype == np.float64 else None


def _taught(
    source: Path, part: Path, options: TeachingOptions, report: _Report
) -> Iterator[Example]:
    for number, block in enumerate(_blocks(source)):
        size = sum(len(example.passages) for example in block)
        scores = _read_block(_block_path(part, number), size)
        if scores is None:
            raise DupMAEError(f"{_block_path(part, number)}: was changed; run the command again")
        place = 0
        for example in block:
            end = place + len(example.passages)
            scored = _with_scores(example, scores[place:end], options, report)
            place = end
            if scored is not None:
                yield scored


def _with_scores(
    example: Example, scores: np.ndarray, options: TeachingOptions, report: _Report
) -> Example | None:
    """The example with these scores; None if it is to be left out, see ``teach``."""
    report.examples += 1
    cut = len(example.positives)
    positives = _known(example.positives, scores[:cut], report)
    negatives = _known(example.negatives, scores[cut:], report)
    best = max((p.score for p in positives if p.score is not None), default=None)
    if best is not None:
        limit = highest_score(best, options.margin, options.margin_ratio)
        kept = [n for n in negatives if n.score is not None and n.score <= limit]
        report.too_near += len(negatives) - len(kept)
        negatives = kept
    emptied = bool(example.negatives) and not negatives and not options.keep_bare
    if best is None or emptied:
        report.left_out += 1
        return None
    report.written += 1
    report.positives.extend(p.score for p in positives if p.score is not None)
    for negative in negatives:
        assert negative.score is not None
        report.negatives.append(negative.score)
        report.margins.append(best - negative.score)
    return Example(example.query_id, example.query, positives, negatives, example.extra)


def _known(passages: Sequence[Passage], scores: np.ndarray, report: _Report) -> list[Passage]:
    kept = []
    for passage, score in zip(passages, scores.tolist(), strict=True):
        if np.isnan(score):
            report.unknown += 1
            continue
        passage.score = short(score)
        kept.append(passage)
    return kept


@dataclass(slots=True)
class _Report:
    examples: int = 0
    written: int = 0
    left_out: int = 0
    unknown: int = 0
    too_near: int = 0
    positives: array[float] = field(default_factory=lambda: array("d"))
    negatives: array[float] = field(default_factory=lambda: array("d"))
    margins: array[float] = field(default_factory=lambda: array("d"))

    def to_dict(self) -> dict[str, Any]:
        return {
            "examples": self.examples,
            "written": self.written,
            "left_out": self.left_out,
            "texts_unknown_to_teacher": self.unknown,
            "negatives_too_near": self.too_near,
            "positives": len(self.positives),
            "negatives": len(self.negatives),
            "positive_scores": quantiles(self.positives),
            "negative_scores": quantiles(self.negatives),
            "margins": quantiles(self.margins),
            "negatives_above_positive": sum(margin < 0 for margin in self.margins),
        }
