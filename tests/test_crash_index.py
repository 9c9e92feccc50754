"""`kill -9` at any moment, then the same call again: the index that an undisturbed call builds.

The work is done by a helper process (this file, run as a module), which forks a child for every
attempt; the children start Java themselves where it is needed.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

# What the children would otherwise import each.
import faiss
import pandas  # noqa: F401
import pytest

from dupmae_toolkit.encoding import parquet  # noqa: F401
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.index import segment
from dupmae_toolkit.index.build import BuildOptions, index_corpus
from dupmae_toolkit.index.health.verify import verify_index
from dupmae_toolkit.index.manifest import Manifest
from tests.index_support import contents, documents_of
from tests.support import QUICK_JAVA, HashingEncoder

REPOSITORY = Path(__file__).parent.parent
OPTIONS = BuildOptions(segment_size=20)


@pytest.mark.slow
@pytest.mark.parametrize("how", ["every step", "every step of overwriting"])
def test_a_build_killed_at_any_step_is_continued_to_the_same_index(tmp_path, how):
    report = in_a_helper(tmp_path, how)
    assert report["wrong"] == []
    assert report["kills"] > 20
    assert report["whole or old after a kill"] > 0
    assert report["nothing after a kill"] > 0 or "overwriting" in how


@pytest.mark.java
@pytest.mark.slow
def test_a_build_killed_at_random_moments_is_continued_to_the_same_index(tmp_path):
    report = in_a_helper(tmp_path, "random moments")
    assert report["wrong"] == []
    assert report["kills"] >= 6


def in_a_helper(folder: Path, how: str) -> dict:
    command = [sys.executable, "-m", "tests.test_crash_index", folder, how]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | QUICK_JAVA | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def work(index: Path, seed: int = 0, overwrite: bool = False) -> None:
    documents = documents_of(30, seed)
    index_corpus(index, documents, HashingEncoder(), OPTIONS, part_size=16, overwrite=overwrite)


def without_java() -> None:
    """Lucene's folder is a file here: what counts is what is there when, and Java takes seconds."""

    class Written:
        segments = 1

        def __init__(self, folder: Path) -> None:
            self.count = len((folder / "ids").read_text().split())

        def __len__(self) -> int:
            return self.count

        def close(self) -> None: ...

    def write(folder: Path, ids: list[str], *_: object) -> None:
        folder.mkdir()
        (folder / "ids").write_text(" ".join(ids))

    segment.write_lucene = write
    segment.LuceneImpacts = Written


def forked(task: Callable[[], None], kill_after: float | None = None) -> int:
    """Run ``task`` in a child; how it ended (0: done, -9: killed)."""
    child = os.fork()
    if child == 0:
        try:
            task()
        except BaseException as error:
            os.write(2, f"{error!r}\n".encode())
            os._exit(1)
        os._exit(0)
    if kill_after is not None:
        end = time.monotonic() + kill_after
        look = os.WEXITED | os.WNOHANG | os.WNOWAIT
        while time.monotonic() < end and os.waitid(os.P_PID, child, look) is None:
            time.sleep(0.002)
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def dies_at(step: int) -> None:
    """Kill this process just before its n-th call that touches the disk's state."""
    left = [step]

    def wrapped(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **options)

        return call

    for module, name in (
        (os, "replace"),
        (os, "rename"),
        (os, "unlink"),
        (tempfile, "mkdtemp"),
        (faiss, "write_index"),
        (shutil, "rmtree"),
    ):
        setattr(module, name, wrapped(getattr(module, name)))


def state(index: Path) -> dict | None:
    """The files of the index that stands there; None where there is none."""
    try:
        manifest = Manifest.load(index)
    except InputError:
        return None
    files = contents(index)
    return {name: files.get(name) for name in manifest.checksums if "/lucene/" not in name}


def every_step(folder: Path, report: dict, overwriting: bool) -> None:
    without_java()
    os.fsync = lambda _: None
    old, expected = folder / "old", folder / "expected"
    forked(lambda: work(old))
    shutil.copytree(old, expected)
    if overwriting:
        forked(lambda: work(expected, 1, overwrite=True))
    started = state(old) if overwriting else None
    wanted = state(expected)
    assert wanted
    for step in range(1, 1000, 1 + overwriting):
        index = folder / f"index-{step}"
        if overwriting:
            shutil.copytree(old, index)
        seed = int(overwriting)

        def doomed(index: Path = index, step: int = step, seed: int = seed) -> None:
            dies_at(step)
            work(index, seed, overwrite=overwriting)

        if forked(doomed) == 0:
            return
        report["kills"] += 1
        after = state(index)
        if after not in (started, wanted):
            report["wrong"].append([step, "neither what was there before nor the new index"])
        report["nothing after a kill" if after is None else "whole or old after a kill"] += 1
        over = after == wanted and not (index / ".building").exists()
        if not over and forked(lambda index=index, seed=seed: work(index, seed, overwriting)):
            report["wrong"].append([step, "not continued"])
        if state(index) != wanted:
            report["wrong"].append([step, "another index"])
        if over:
            forked(lambda index=index: work(index, 2, overwrite=True))  # removes what is left
        left = sorted(path.name for path in index.iterdir())
        if left != ["manifest.json", "segments", "vocabulary.json"]:
            report["wrong"].append([step, left])
        shutil.rmtree(index)


def random_moments(folder: Path, report: dict) -> None:
    expected, index = folder / "expected", folder / "index"
    began = time.perf_counter()
    forked(lambda: work(expected))
    seconds = time.perf_counter() - began
    wanted = state(expected)
    generator = random.Random(11)
    while report["kills"] < 6:
        began = time.perf_counter()
        if forked(lambda: work(index), generator.uniform(0.3, 1) * seconds):
            report["kills"] += 1
        else:  # where the first call was held up, it is no measure
            seconds = min(seconds, time.perf_counter() - began)
        if state(index) not in (None, wanted):
            report["wrong"].append(["half an index", report["kills"]])
        if state(index) is not None:
            shutil.rmtree(index)
    if state(index) is None and forked(lambda: work(index)):
        report["wrong"].append("not continued")
    if state(index) != wanted:
        report["wrong"].append("another index")
    report["wrong"] += [str(problem) for problem in verify_index(index)]


def main(folder: Path, how: str) -> None:
    report = {"kills": 0, "wrong": [], "nothing after a kill": 0, "whole or old after a kill": 0}
    if how == "random moments":
        random_moments(folder, report)
    else:
        every_step(folder, report, "overwriting" in how)
    print(json.dumps(report))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
