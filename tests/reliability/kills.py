"""Changes of an index are killed; the old state or the new one must remain, and be whole."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from dupmae_toolkit import HybridIndex
from dupmae_toolkit.errors import BusyError
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.updates import add_corpus
from dupmae_toolkit.locks import exclusive
from tests.reliability.children import Doom, Outcome, cut_power, marks, run_child, scratch
from tests.reliability.scenarios import Before, Scenario, scenarios
from tests.reliability.world import (
    ENCODER,
    Contents,
    contents,
    document,
    living,
    without_java,
    wrong_answers,
)

#: The share of each way to be killed. A step is a call that touches the disk. After a power cut,
#: what was not flushed is lost too. The last way uses Lucene, the others a stand-in for it.
WAYS = {"a step": 45, "power cut at a step": 30, "a moment": 15, "a moment, with Lucene": 10}
_LAST = 900  # the number of the document that is added at the end


def run(
    rounds: int,
    seed: int = 0,
    ways: Mapping[str, int] = WAYS,
    report: dict[str, Any] | None = None,
    until_wrong: bool = False,
) -> dict[str, Any]:
    """Kill ``rounds`` times, over all scenarios and ways; figures, and what was wrong.

    ways: the share of each way, as in ``WAYS``. until_wrong: stop at the first kill that left
    something wrong.
    """
    dice = random.Random(seed)
    report = {} if report is None else report
    report |= {"kills": 0, "by way": Counter(), "after": Counter(), "wrong": []}
    os.fsync = lambda descriptor: None  # flushes are only noted, see Doom; waiting shows nothing
    with scratch() as folder:
        for way, share in sorted(ways.items(), key=lambda pair: "Lucene" not in pair[0]):
            if "Lucene" not in way:
                without_java()
            count = round(rounds * share / sum(ways.values()))
            place = folder / way.replace(" ", "-")
            place.mkdir()
            for _ in _rounds(place, way, count, dice, report):
                if until_wrong and report["wrong"]:
                    return report
    return report


def _rounds(
    folder: Path, way: str, count: int, dice: random.Random, report: dict
) -> Iterator[None]:
    """Kill ``count`` times, and count in the report what became of it; yields after each kill."""
    every = scenarios()
    before = Before(folder)
    sizes: dict[str, float] = {}
    killed = 0
    for number in range(20 * count):
        if killed == count:
            return
        scenario = every[number % len(every)]
        place = Path(folder, f"round-{number}")
        place.mkdir()
        stood = before.of(scenario)
        if stood:
            shutil.copytree(stood, place / "index")
        if scenario.name not in sizes:
            sizes[scenario.name] = _size(scenario, place, way, stood)
        outcome = _kill(scenario, place, way, sizes[scenario.name], dice)
        if outcome.code == 0:
            shutil.rmtree(place)
            continue  # it had finished before the kill
        killed += 1
        report["kills"] += 1
        report["by way"][way] += 1
        state, wrong = judge(scenario, place / "index", outcome.acknowledged)
        if outcome.code != -9:
            wrong.append(f"ended with {outcome.code}: {outcome.message}")
        report["after"][state] += 1
        report["wrong"] += [f"{way}, {scenario.name}, round {number}: {each}" for each in wrong]
        shutil.rmtree(place)
        yield


def _size(scenario: Scenario, place: Path, way: str, before: Path | None) -> float:
    """How many steps, or seconds, the scenario takes when nothing disturbs it."""
    copy = place / "undisturbed"
    if before:
        shutil.copytree(before, copy)
    if "step" in way:
        return run_child(lambda: _counted(scenario, copy)).value
    began = time.perf_counter()
    run_child(lambda: scenario.call(copy) and None)
    return time.perf_counter() - began


def _counted(scenario: Scenario, index: Path) -> int:
    doom = Doom(0)
    scenario.call(index)
    return doom.count


def _kill(scenario: Scenario, place: Path, way: str, size: float, dice: random.Random) -> Outcome:
    index, synced = place / "index", place / "synced"
    if "step" not in way:
        least = 0.5 if "Lucene" in way else 0.05  # Java has to start
        return run_child(
            lambda: scenario.call(index) and None, kill_after=size * dice.uniform(least, 1.05)
        )
    step = dice.randint(1, int(size))
    stood = marks(index)

    def doomed() -> None:
        Doom(step, synced=synced)
        scenario.call(index)

    outcome = run_child(doomed)
    if "power" in way and outcome.code:
        cut_power(index, synced, stood, dice)
    return outcome


def judge(scenario: Scenario, index: Path, acknowledged: bool) -> tuple[str, list[str]]:
    """The state in which a disturbed change has left the index, and what is wrong with it."""
    wrong: list[str] = []
    try:
        stands = living(index)
    except Exception as error:  # whatever the readers say of a half-written file
        return "neither", [f"not readable: {error}"]
    state = "old" if stands == scenario.old else "new" if stands == scenario.new else "neither"
    if scenario.old == scenario.new and state != "neither":
        state = "the same"
    if state == "neither":
        return state, ["neither the old state nor the new one"]
    if acknowledged and state == "old":
        wrong.append("lost what was acknowledged")
    if index.exists():
        try:
            with exclusive(index):
                pass
        except BusyError as error:
            wrong.append(str(error))
    outcome = run_child(lambda: _aftermath(scenario, index, stands, state))
    return state, wrong + (outcome.value or [f"looking: {outcome.code} {outcome.message}"])[1:]


def _aftermath(scenario: Scenario, index: Path, stands: Contents | None, state: str) -> list[str]:
    """Check the index, make the same call again, then another change, and check once more.

    Returns an empty string, and after it what is wrong.
    """
    wrong = [""]
    if stands is not None:
        wrong += look(index, stands)
    try:
        scenario.call(index)
    except Exception as error:
        if state == "old" or not scenario.refused or scenario.refused not in str(error):
            wrong.append(f"the same call again: {error!r}")
    if living(index) != scenario.new:
        wrong.append("the same call again did not lead to the new state")
    add_corpus(index, [document(_LAST)], ENCODER)
    # This change has removed what was left over.
    return wrong + look(index, scenario.new | contents([document(_LAST)]), tidy=True)


def look(index: Path, expected: Contents, tidy: bool = False) -> list[str]:
    """What is wrong with an index that should be whole and have the ``expected`` documents.

    tidy: there may be no leftover files either.
    """
    wrong = [str(problem) for problem in verify_index(index)]
    if wrong:
        return wrong
    if living(index) != expected:
        return ["other documents"]
    opened = HybridIndex.open(index, ENCODER)
    wrong = wrong_answers(opened, expected)
    opened.close()
    if tidy:
        names = {path.name for path in index.iterdir()}
        strange = names - {"manifest.json", "segments", "deletions"}
        if {name for name in strange if not name.startswith("vocabulary")} or len(strange) > 1:
            wrong.append(f"left: {sorted(strange)}")
        wrong += [f"left: {name}" for name in index_info(index)["leftovers"]]
        named = {entry.deletions for entry in opened.manifest.segments}
        there = {f"deletions/{path.name}" for path in index.glob("deletions/*")}
        wrong += [f"left: {name}" for name in sorted(there - named)]
    return wrong
