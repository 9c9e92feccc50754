"""A hundred damaged files for every reader; `python -m tests.fuzz --cases 5000` for thousands."""

from __future__ import annotations

import random

import pytest

from dupmae_toolkit.errors import InputError
from tests.fuzz import runner
from tests.fuzz.mutate import mutate
from tests.fuzz.readers import GROUPS, Reader

CASES = {"texts": 100, "encoded": 100, "indexes": 40, "models": 40}


@pytest.mark.java
@pytest.mark.slow
@pytest.mark.parametrize("group", GROUPS)
def test_damaged_files_are_refused_in_one_line_or_read_the_same_twice(group):
    tallies = runner.run(CASES[group], seed=20, groups=(group,))
    assert not [failure for tally in tallies.values() for failure in tally.failures]
    assert all(tally.cases == CASES[group] for tally in tallies.values())
    # A reader that refused everything, or nothing, would not have been tried.
    assert sum(tally.outcomes["accepted"] for tally in tallies.values()) > CASES[group] // 10
    assert all(
        tally.outcomes["refused"] or name == "index to verify" for name, tally in tallies.items()
    )


def test_the_same_seed_makes_the_same_damage_and_another_makes_another():
    data = b'{"a": [1, 2, 3], "b": "text"}' * 10

    def damaged(seed: int) -> list[bytes]:
        dice = random.Random(seed)
        return [mutate(data, dice, [data, b"other"], text=True) for _ in range(50)]

    assert damaged(1) == damaged(1) != damaged(2)
    assert sum(one != data for one in damaged(1)) > 45


def bench(tmp_path, read) -> runner.Bench:
    def make(folder):
        (folder / "x").write_bytes(b"valid")

    def reading(folder):
        return None if (folder / "x").read_bytes() == b"valid" else read(folder)

    return runner.Bench(Reader("x", make, ["x"], reading), tmp_path, seed=1)


@pytest.mark.parametrize("error", [ValueError, MemoryError, AssertionError, BaseException])
def test_anything_but_a_refusal_is_a_failure(tmp_path, error):
    def read(folder):
        raise error("x")

    assert bench(tmp_path, read).try_case(0)[0] == "failed"


def test_a_refusal_is_one(tmp_path):
    def read(folder):
        raise InputError("one line")

    assert bench(tmp_path, read).try_case(0) == ("refused", "one line")


def test_what_differs_when_it_is_read_again_and_what_hangs_are_failures(tmp_path, monkeypatch):
    numbers = iter(range(100))
    (tmp_path / "a").mkdir()
    assert bench(tmp_path / "a", lambda folder: next(numbers)).try_case(0)[0] == "failed"
    monkeypatch.setattr(runner, "SECONDS", 1)
    monkeypatch.setattr(runner.signal, "alarm", lambda s: runner.signal.setitimer(0, s and 0.05))
    before = runner.signal.signal(runner.signal.SIGALRM, runner._hang)
    try:
        (tmp_path / "b").mkdir()

        def hang(folder):
            while True:
                pass

        outcome, detail = bench(tmp_path / "b", hang).try_case(0)
    finally:
        runner.signal.signal(runner.signal.SIGALRM, before)
    assert outcome == "failed"
    assert "took more than" in detail
