"""`python -m tests.fuzz [--cases N] [--seed S] [--reader NAME] [--case N]`."""

from __future__ import annotations

import argparse
import sys
import time

from tests.fuzz.readers import GROUPS
from tests.fuzz.runner import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--cases", type=int, default=1000, help="damaged files for each reader")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reader", help="only the reader of this name")
    parser.add_argument("--group", choices=GROUPS, help="only the readers of this group")
    parser.add_argument("--case", type=int, help="only the case of this number")
    given = parser.parse_args()
    groups = GROUPS if given.group is None else (given.group,)
    began = time.monotonic()
    first, count = (0, given.cases) if given.case is None else (given.case, 1)
    tallies = run(count, given.seed, given.reader, groups, first)
    print(f"{'reader':28} {'cases':>7} {'accepted':>9} {'refused':>8} {'failed':>7}")
    for name, tally in tallies.items():
        shown = [tally.outcomes[key] for key in ("accepted", "refused", "failed")]
        print(f"{name:28} {tally.cases:7} {shown[0]:9} {shown[1]:8} {shown[2]:7}")
    failures = [failure for tally in tallies.values() for failure in tally.failures]
    total = sum(tally.cases for tally in tallies.values())
    seconds = time.monotonic() - began
    print(f"{total} cases with seed {given.seed}, {len(failures)} failures, {seconds:.0f} s")
    for failure in failures:
        print(f"\n--seed {given.seed} {failure}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
