"""Damaged files: ``verify`` must find them, and a search or compaction report them or be right.

A repair must mend the damage, or say what is lost. Every case is examined in another process; if
that process crashes or hangs, this is counted.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
from collections import Counter
from pathlib import Path
from typing import Any

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.index.health.repair import repair_index
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from tests.reliability.children import scratch
from tests.reliability.world import ENCODER, SEARCHES, answers, some

KINDS = ("flip", "flip", "flip", "truncate", "extend", "empty", "remove", "folder")
SPECS = ("Flat", "HNSW8")
_PATIENCE = 180.0
#: Engines of the lexical leg: in memory, and Lucene.
_ENGINES = {"in memory": 1 << 30, "Lucene": 0}


def run(rounds: int, seed: int = 0, report: dict[str, Any] | None = None) -> dict[str, Any]:
    """Damage one file in each round; returns what became of the damages, and what was wrong."""
    dice = random.Random(seed)
    looks = ("verify", "search", "search, sizes only", "compact", "repair")
    report = {} if report is None else report
    report |= {"damages": 0, "by file": Counter()}
    report |= {look: Counter() for look in looks}
    report |= {"unseen by sizes only": Counter(), "wrong": []}
    with scratch() as folder:
        judge = _Judge(folder)
        expected = {}
        for spec in SPECS:
            expected[spec] = judge.ask("make", str(folder / spec), spec)
            assert isinstance(expected[spec], dict), expected[spec]
        for number in range(rounds):
            spec = SPECS[number % len(SPECS)]
            index = folder / "damaged"
            shutil.copytree(folder / spec, index)
            what, kind, place = _damage(index, dice)
            report["damages"] += 1
            report["by file"][what] += 1
            for look in looks:
                copy = folder / "copy"
                shutil.copytree(index, copy, symlinks=True)
                found = judge.ask(look, str(copy), expected[spec])
                outcome, details = found if isinstance(found, list) else (found, "")
                report[look][outcome] += 1
                if look == "search, sizes only" and outcome not in _FINE["search"]:
                    report["unseen by sizes only"][f"{what}: {outcome}"] += 1
                if outcome not in _FINE[look]:
                    case = f"{look}: {outcome}: {kind} of {place} ({spec}, {number})"
                    report["wrong"].append(f"{case} {details}")
                shutil.rmtree(copy)
            shutil.rmtree(index)
        judge.close()
    return report


_FINE = {
    "verify": {"detected"},
    "search": {"told", "the same results"},
    # What no checksum is compared for may go unseen, but an error is one line all the same.
    "search, sizes only": {"told", "the same results", "other results", "crashes", "hangs"},
    "compact": {"told", "the same results"},
    "repair": {"whole and the same", "says what is lost"},
}


def _damage(index: Path, dice: random.Random) -> tuple[str, str, str]:
    """Damage one file; returns its sort, how it was damaged, and its path."""
    files: dict[str, list[Path]] = {}
    for path in sorted(index.rglob("*")):
        if path.is_file():
            files.setdefault(_sort(path.relative_to(index)), []).append(path)
    sort = dice.choice(sorted(files))
    path, kind = dice.choice(files[sort]), dice.choice(KINDS)
    data = path.read_bytes()
    if kind == "flip" and data:
        changed = bytearray(data)
        for _ in range(dice.choice([1, 1, 1, 8])):
            changed[dice.randrange(len(changed))] ^= 1 << dice.randrange(8)
        if bytes(changed) == data:
            changed[0] ^= 1
        path.write_bytes(changed)
    elif kind == "truncate" and data:
        path.write_bytes(data[: dice.randrange(len(data))])
    elif kind == "extend" or not data:
        path.write_bytes(data + dice.randbytes(dice.choice([1, 8, 4096])))
    elif kind == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
        if kind == "folder":
            path.mkdir()
    return sort, kind, path.relative_to(index).as_posix()


def _sort(path: Path) -> str:
    """The sort of a file, whichever segment it is in and whatever name Lucene gave it."""
    *folders, name = path.parts
    if folders == ["deletions"]:
        return "deletions"
    if "lucene" in folders:
        return "lucene/" + (path.suffix or "segments_1")
    return "/".join([*folders[2:], name])


def _make(index: str, spec: str) -> dict[str, Any]:
    built = HybridIndex.build(index, some(0, 45), ENCODER, faiss=spec, segment_size=30)
    built.close()
    add_corpus(index, some(45, 50), ENCODER)
    delete_documents(index, ["d3", "d4", "d30", "d46"])
    assert verify_index(index) == []
    compacted = f"{index}-compacted"
    shutil.copytree(index, compacted)
    compact_index(compacted)
    # Compacting renews BM25's mean length, and so changes its scores.
    made = {"whole": _answers(index, "full"), "compacted": _answers(compacted, "full")}
    shutil.rmtree(compacted)
    return made


def _answers(index: str, check: str) -> dict[str, Any]:
    found = {}
    for engine, most in _ENGINES.items():
        opened = HybridIndex.open(index, ENCODER, max_postings=most, check=check)
        try:
            for mode, plain in SEARCHES:
                found[f"{'plain ' * plain}{mode}, {engine}"] = answers(opened, mode, plain=plain)
        finally:
            opened.close()
    return found


def _look(look: str, index: str, expected: dict[str, Any]) -> tuple[str, str]:
    """The outcome in a few words, and details."""
    try:
        if look == "verify":
            return ("detected" if verify_index(index) else "not detected", "")
        if look == "repair":
            return _repaired(index, expected)
        if look == "compact":
            compact_index(index)
        found = _answers(index, "sizes" if "sizes" in look else "quick")
        same = found == expected["compacted" if look == "compact" else "whole"]
        return ("the same results" if same else "other results", "")
    except DupMAEError as error:
        return ("told" if "\n" not in str(error) else "told in several lines", str(error))
    except Exception as error:
        return ("unclear", repr(error)[:300])


def _repaired(index: str, expected: dict[str, Any]) -> tuple[str, str]:
    done = repair_index(index, ENCODER)
    left = verify_index(index)
    if not done.whole:
        if left:
            return ("says what is lost", "")
        return ("lost, and verify does not say so", str(done.remaining))
    if left:
        return ("claims to be whole", str(left[0]))
    if _answers(index, "full") != expected["whole"]:
        return ("other results", "")
    return ("whole and the same", "")


class _Judge:
    """A process that examines indexes; if it dies or hangs, another one takes its place."""

    def __init__(self, folder: Path) -> None:
        self._folder = str(folder)
        self._context = multiprocessing.get_context("spawn")
        self._start()

    def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=_serve, args=(theirs, self._folder), daemon=True
        )
        self._process.start()
        theirs.close()

    def ask(self, *task: Any) -> Any:
        try:
            self._pipe.send(task)
            if self._pipe.poll(_PATIENCE):
                return self._pipe.recv()
            self._process.kill()
            outcome = "hangs"
        except (EOFError, OSError):
            outcome = "crashes"
        self._process.join()
        self._start()
        return outcome

    def close(self) -> None:
        self._process.kill()
        self._process.join()


def _serve(pipe: Any, folder: str) -> None:
    os.chdir(folder)  # Java leaves a report there when the process crashes
    os.dup2(2, 1)  # what Java prints about the crash goes to stderr
    os.fsync = lambda descriptor: None
    while True:
        task = pipe.recv()
        pipe.send(_make(*task[1:]) if task[0] == "make" else list(_look(*task)))
