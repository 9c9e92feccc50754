"""Writers, a compactor, readers and a killer on one index, and what the readers must find."""

from __future__ import annotations

import gc
import json
import multiprocessing
import os
import random
import time
from pathlib import Path
from typing import Any

from dupmae_toolkit import Document, HybridIndex
from dupmae_toolkit.encoding.source import Memory
from dupmae_toolkit.errors import BusyError
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from tests.reliability.children import scratch
from tests.reliability.journal import History, Journal
from tests.reliability.world import (
    ENCODER,
    QUESTIONS,
    SEARCHES,
    answers,
    contents,
    document,
    some,
    wrong_answers,
)

_START, _SEGMENT, _NUMBERS = 60, 64, 300
#: Each writer has document numbers of its own, so that no other replaces or deletes its documents.
_WRITERS = 2


def run(minutes: float, seed: int = 0, report: dict[str, Any] | None = None) -> dict[str, Any]:
    """Disturb an index for so many minutes; at the end, compare it with one built at once."""
    context = multiprocessing.get_context("spawn")
    with scratch() as folder:
        _call(context, _build, folder)
        until = time.time() + 60 * minutes
        writers = {
            name: _start(context, _write, folder, name, number, seed, until)
            for number, name in enumerate([*(f"w{n}" for n in range(_WRITERS)), "compactor"])
        }
        readers = [
            _start(context, _read, folder, name, most, seed, until)
            for name, most in (("in memory", 1 << 30), ("Lucene", 0))
        ]
        dice, kills = random.Random(seed), 0
        wrong = []
        while time.time() < until:
            # Kill seldom enough that writers get to write: each has to start Java first.
            pause = dice.uniform(0.5, 1.5) * max(3.0, min(15.0, 6 * minutes))
            time.sleep(min(pause, max(0.0, until - time.time())))
            name = dice.choice(sorted(writers))
            if time.time() < until and writers[name].exitcode is None:
                writers[name].kill()
                writers[name].join()
                kills += 1
            for number, (name, process) in enumerate(list(writers.items())):
                if process.exitcode not in (None, 0, -9):
                    wrong.append(f"{name} ended with {process.exitcode}")
                if process.exitcode is not None and time.time() < until:
                    again = seed + 1000 * kills
                    writers[name] = _start(context, _write, folder, name, number, again, until)
        for process in [*writers.values(), *readers]:
            process.join(300)
            if process.exitcode is None:
                process.kill()
                wrong.append(f"{process.name} hangs")
            elif process.exitcode not in (0, -9):
                wrong.append(f"{process.name} ended with {process.exitcode}")
        figures = _call(context, _conclude, folder)
        reports = [json.loads(path.read_text()) for path in sorted(folder.glob("reader-*.json"))]
        wrong += figures.pop("wrong") + [each for one in reports for each in one.pop("wrong")]
        if len(reports) != len(readers):
            wrong.append("a reader left no report")
        adds = figures["documents added"]
        figures["additions a second"] = round(adds / (60 * minutes), 2)
        report = {} if report is None else report
        report |= {"kills": kills} | figures | {r.pop("reader"): r for r in reports}
        report["wrong"] = wrong
        return report


def _start(context: Any, target: Any, *arguments: Any) -> Any:
    process = context.Process(target=target, args=arguments, name=f"{target.__name__} {arguments}")
    process.start()
    return process


def _call(context: Any, target: Any, folder: Path) -> dict[str, Any]:
    """What a function returns in a process of its own; the Java that it starts ends with it."""
    _start(context, _answer, target, folder).join()
    return json.loads((folder / "answer.json").read_text())


def _answer(target: Any, folder: Path) -> None:
    (folder / "answer.json").write_text(json.dumps(target(folder)))


def _build(folder: Path) -> dict[str, Any]:
    (folder / "journal").touch()
    start = some(0, _START)
    HybridIndex.build(folder / "index", start, ENCODER, segment_size=_SEGMENT).close()
    return {}


def _write(folder: Path, name: str, number: int, seed: int, until: float) -> None:
    """Change the index again and again; a call that finds it busy may fail."""
    dice, journal = random.Random(f"{seed} {name}"), Journal(folder / "journal")
    index = folder / "index"
    while time.time() < until:
        change = f"{name} {os.getpid()} {time.time_ns()}"
        try:
            if name == "compactor":
                time.sleep(dice.uniform(1, 6))
                journal.follow({"change": change})
                compact_index(index)
                continue
            numbers = dice.sample(range(number, _NUMBERS, _WRITERS), dice.randint(1, 12))
            if dice.random() < 0.3:
                names = [f"d{each}" for each in numbers]
                journal.follow({"change": change, "delete": names})
                done = delete_documents(index, names, ignore_missing=True)
                if not done.deleted:
                    continue
            else:
                replace = dice.random() < 0.7
                numbers = numbers if replace else [_NUMBERS + time.time_ns() % 10**9]
                put = [[each, dice.randrange(1, 1000)] for each in numbers]
                journal.follow({"change": change, "put": put})
                made = Memory([document(*each) for each in put], f"what {name} has")
                add_corpus(index, made, ENCODER, replace=replace)
            journal.note(acknowledged=change)
        except BusyError:
            continue


def _read(folder: Path, name: str, most: int, seed: int, until: float) -> None:
    """Search, compare with what the state must answer, and refresh, again and again.

    Counts searches and states, and watches how many files are open and how much memory is used.
    """
    dice = random.Random(f"{seed} {name}")
    _look_once(folder, most)  # so that Java and the caches have already opened what they need
    before = _files()
    index = HybridIndex.open(folder / "index", ENCODER, max_postings=most)
    history = History(folder / "journal", contents(some(0, _START)), 0)
    report: dict[str, Any] = {"reader": f"reader, {name}", "searches": 0, "states": 0, "wrong": []}
    held: list[tuple[int, float]] = []
    while not held or time.time() < until:  # a busy machine has one turn too
        report["states"] += index.refresh()
        expected = history.at(index.manifest.generation)
        for _ in range(dice.randint(1, 2)):  # the same state, while others change the index
            found = wrong_answers(index, expected)
            report["searches"] += len(SEARCHES) * len(QUESTIONS)
            report["wrong"] += [f"{name}, {index.manifest.generation}: {each}" for each in found]
        gc.collect()
        held.append((_files(), _mebibytes()))
    index.close()
    del index  # this releases the mapped files
    gc.collect()
    left = _files() - before
    report["files open after closing"] = left
    if left > 0:
        report["wrong"].append(f"{name}: {left} files are open after closing")
    settled = held[len(held) // 3 :]  # by then the caches have what they need
    half = max(1, len(settled) // 2)
    for what, column in (("files open", 0), ("MiB", 1)):
        first = [row[column] for row in settled[:half]]
        last = [row[column] for row in settled[half:]] or first
        report[f"{what}, middle third"] = round(sum(first) / len(first), 1)
        report[f"{what}, last third"] = round(sum(last) / len(last), 1)
    (folder / f"reader-{name}.json").write_text(json.dumps(report))


def _look_once(folder: Path, most: int) -> None:
    index = HybridIndex.open(folder / "index", ENCODER, max_postings=most)
    index.search(QUESTIONS[0])
    index.close()
    gc.collect()


def _files() -> int:
    return len(os.listdir("/proc/self/fd"))


def _mebibytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGESIZE") / 2**20


def _conclude(folder: Path) -> dict[str, Any]:
    """Figures of the index at the end, and what is wrong with it."""
    index = folder / "index"
    history = History(folder / "journal", contents(some(0, _START)), 0)
    # One more change removes what killed writers left behind.
    journal = Journal(folder / "journal")
    journal.follow({"change": "last", "put": [[0, 9]]})
    add_corpus(index, [document(0, 9)], ENCODER, replace=True)
    journal.note(acknowledged="last")
    journal.follow({})
    compact_index(index)
    manifest = Manifest.load(index)
    documents = history.at(manifest.generation)
    wrong = [f"lost: {each}" for each in history.lost()]
    wrong += [str(problem) for problem in verify_index(index)]
    wrong += [f"left: {name}" for name in index_info(index)["leftovers"]]
    made = [Document(name, *what) for name, what in documents.items()]
    fresh = HybridIndex.build(folder / "fresh", made, ENCODER)
    soaked = HybridIndex.open(index, ENCODER, check="full")
    wrong += wrong_answers(soaked, documents)
    for mode, plain in SEARCHES:
        if answers(soaked, mode, 50, plain) != answers(fresh, mode, 50, plain):
            wrong.append(
                f"{'plain ' * plain}{mode}: other results than those of an index built at once"
            )
    soaked.close()
    fresh.close()
    return {
        "changes acknowledged": len(history.acknowledged),
        "documents added": history.added,
        "states": manifest.generation,
        "documents": len(documents),
        "wrong": wrong,
    }
