"""Short runs of the harness of tests/reliability; docs/reliability.md has the figures of long ones.

Each runs in a process of its own: it forks, and puts stand-ins into the modules.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import QUICK_JAVA

pytestmark = [pytest.mark.slow, pytest.mark.java]
REPOSITORY = Path(__file__).parent.parent


def run(*arguments: str) -> dict:
    command = [sys.executable, *arguments]
    result = subprocess.run(
        command,
        cwd=REPOSITORY,
        env=os.environ | QUICK_JAVA | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
    )
    assert result.stdout, result.stderr
    return json.loads(result.stdout)


def harness(what: str, *options: str) -> dict:
    return run("-m", "tests.reliability", what, *options, "--json")


def test_whatever_is_killed_leaves_the_old_state_or_the_new_one():
    report = harness("kills", "--rounds", "16", "--seed", "5")
    assert report["wrong"] == []
    assert report["kills"] == 16
    assert {"old", "new"} <= set(report["after"])
    assert len(report["by way"]) == 4


@pytest.mark.parametrize(
    ("broken", "told"),
    [
        (
            "from dupmae_toolkit import files; files.fsync_path = lambda path: None",
            "readable|neither",
        ),
        (
            "from dupmae_toolkit.index import manifest;"
            "manifest.write_json = lambda path, value: ("
            "path.unlink(missing_ok=True), path.write_text(json.dumps(value, indent=2) + '\\n'))",
            "neither",
        ),
        (
            "from dupmae_toolkit.index.state import State; State.tidy = lambda self: None",
            "left",
        ),
    ],
)
def test_the_harness_finds_what_is_broken_on_purpose(broken, told):
    script = (
        f"import json; {broken}\n"
        "from tests.reliability import kills\n"
        "ways = {'power cut at a step': 1}\n"
        "print(json.dumps(kills.run(24, 1, ways, until_wrong=True)))"
    )
    report = run("-c", script)
    assert report["wrong"]
    assert re.search(told, report["wrong"][0]), report["wrong"]


def test_damage_is_found_told_and_repaired():
    report = harness("damage", "--rounds", "8", "--seed", "5")
    assert report["wrong"] == []
    assert report["verify"] == {"detected": report["damages"]}
    assert sum(report["search"].values()) == 8


def test_a_full_disk_is_told_and_loses_nothing():
    report = harness("disk", "--rounds", "8", "--seed", "5")
    assert report["wrong"] == []
    assert report["full disks"] == 8


def test_readers_find_what_their_state_holds_while_others_write_and_die():
    report = harness("soak", "--minutes", "0.2", "--seed", "5")
    assert report["wrong"] == []
    assert report["changes acknowledged"] > 0
    assert all(report[f"reader, {name}"]["searches"] > 0 for name in ("in memory", "Lucene"))
