"""A full disk must give one clear line and leave the old state whole.

The same call must work once there is room.
"""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.stream import encode_corpus
from dupmae_toolkit.index.info import index_info
from tests.reliability.children import Outcome, full, run_child, scratch
from tests.reliability.kills import judge
from tests.reliability.scenarios import Before, Scenario, scenarios
from tests.reliability.world import ENCODER, living, some, without_java

#: The share of each kind of full disk: an injected error at a step that writes, a file system with
#: no room left (if the user may mount one), a limit on the size of files. The last kind is the
#: second with Lucene.
WAYS = {"at a step": 45, "a small disk": 30, "files too large": 15, "a small disk, with Lucene": 10}
_DISK = 16 << 20
_TOLD = {"files too large": "File too large"}


def run(
    rounds: int, seed: int = 0, java: bool = True, report: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Fill the disk ``rounds`` times, over all scenarios and ways; figures, and what was wrong."""
    dice = random.Random(seed)
    os.fsync = lambda descriptor: None
    report = {} if report is None else report
    report |= {
        "full disks": 0, "by way": Counter(), "after": Counter(), "most bytes kept": 0, "wrong": [],
    }  # fmt: skip
    with scratch() as folder, _small_disk(folder / "disk") as disk:
        shares = {
            way: share
            for way, share in WAYS.items()
            if (java or "Lucene" not in way) and (disk or "small" not in way)
        }
        if disk is None:
            report["left out"] = "small disks: this user may not mount a file system"
        for way, share in sorted(shares.items(), key=lambda pair: "Lucene" not in pair[0]):
            if "Lucene" not in way:
                without_java()
            count = round(rounds * share / sum(shares.values()))
            place = folder / way.replace(" ", "-")
            place.mkdir()
            _rounds(place, disk if "small" in way else None, way, count, dice, report)
    return report


def _rounds(
    folder: Path, disk: Path | None, way: str, count: int, dice: random.Random, report: dict
) -> None:
    every = [*scenarios(), _encoding()]
    before = Before(folder)
    for number in range(30 * count):
        if count <= 0:
            return
        scenario = every[number % len(every)]
        index = (disk or folder) / "index"
        stood = before.of(scenario)
        if stood:
            shutil.copytree(stood, index)
        room = _bytes(index)
        outcome = _fill(scenario, index, way, disk, dice)
        if outcome.code != 0:
            count -= 1
            wrong = _told(outcome, index, way)
            if scenario.name != "encode":
                kept = _bytes(index) - room
                report["most bytes kept"] = max(report["most bytes kept"], kept)
                wrong += _kept(scenario, index)
                state, more = judge(scenario, index, outcome.acknowledged)
            else:
                state, more = "old", _encoded_again(scenario, index)
            report["full disks"] += 1
            report["by way"][way] += 1
            report["after"][state] += 1
            report["wrong"] += [f"{way}, {scenario.name}, {number}: {e}" for e in [*wrong, *more]]
        shutil.rmtree(index, ignore_errors=True)


def _fill(
    scenario: Scenario, index: Path, way: str, disk: Path | None, dice: random.Random
) -> Outcome:
    """Let the scenario run into a full disk; it may finish before that happens."""
    if way == "at a step":
        step = dice.randint(1, 60)

        def failing() -> None:
            full(step)
            scenario.call(index)

        return run_child(failing)
    if disk is None:
        size = dice.randint(1, 12_000)

        def limited() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
            scenario.call(index)

        return run_child(limited)
    left = dice.randrange(0, 150 << 10)
    status = os.statvfs(disk)
    filler = disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, status.f_bavail * status.f_frsize - left))
    outcome = run_child(lambda: scenario.call(index) and None)
    filler.unlink()
    return outcome


def _told(outcome: Outcome, index: Path, way: str) -> list[str]:
    """What is wrong with the way in which the failure was reported."""
    wrong = []
    if outcome.code != 1 or "DupMAEError" not in outcome.kind or "InputError" in outcome.kind:
        wrong.append(f"ended with {outcome.code}: {outcome.kind.split(' ')[0]}: {outcome.message}")
    elif "\n" in outcome.message or str(index) not in outcome.message:
        wrong.append(f"names no place, or takes several lines: {outcome.message}")
    elif _TOLD.get(way, "the disk is full") not in outcome.message:
        wrong.append(f"does not say why: {outcome.message}")
    return wrong


def _kept(scenario: Scenario, index: Path) -> list[str]:
    """The leftover files with which the same call does not continue."""
    if scenario.old is None or living(index) is None:
        return []
    left = index_info(index)["leftovers"]
    if ".building" in left:
        left = [name for name in left if not name.startswith("segments/0")]
    return [f"left: {name}" for name in left if name not in (".adding", ".building")]


def _encoding() -> Scenario:
    def call(folder: Path) -> None:
        encode_corpus(some(0, 60), ENCODER, folder, part_size=16)

    return Scenario("encode", call, {})


def _encoded_again(scenario: Scenario, folder: Path) -> list[str]:
    again = run_child(lambda: scenario.call(folder) and None)
    if again.code:
        return [f"the same call again: {again.message}"]
    corpus = EncodedCorpus.open(folder)
    ids = [name for part in corpus.parts() for name in part.ids]
    wrong = [] if ids == [each.id for each in some(0, 60)] else ["other documents"]
    return wrong + [f"left: {path.name}" for path in folder.glob(".tmp-*")]


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


@contextlib.contextmanager
def _small_disk(place: Path) -> Iterator[Path | None]:
    """A file system of a few megabytes in memory; None if this user may not mount one."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={_DISK}", "tmpfs", str(place)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield place if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", str(place)], check=True)
