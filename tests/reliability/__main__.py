"""The command line: prints figures, and exits with 1 if a promise was broken.

If it is stopped by Ctrl-C or SIGTERM, it prints what it has counted so far.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before numpy and faiss are imported; children are forked

import argparse  # noqa: E402
import importlib  # noqa: E402
import json  # noqa: E402
import signal  # noqa: E402
import sys  # noqa: E402
import time  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.reliability", description=__doc__)
    parser.add_argument("what", choices=["kills", "damage", "disk", "soak"])
    parser.add_argument("--rounds", type=int, default=200, help="kills, damages or full disks")
    parser.add_argument("--minutes", type=float, default=10.0, help="of the soak")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of a table")
    chosen = parser.parse_args()
    part = importlib.import_module(f"tests.reliability.{chosen.what}")
    amount = chosen.minutes if chosen.what == "soak" else chosen.rounds
    began = time.perf_counter()
    report = {"what": chosen.what, "amount": amount, "seed": chosen.seed}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        part.run(amount, chosen.seed, report=report)
    except KeyboardInterrupt:
        report["stopped"] = "before the end"
    report["seconds"] = round(time.perf_counter() - began, 1)
    if chosen.json:
        print(json.dumps(report, indent=2, ensure_ascii=False))
    else:
        show(report)
    return 1 if report.get("wrong") or "stopped" in report else 0


def show(report: dict, indent: str = "") -> None:
    """Names and figures in two columns."""
    for name, value in report.items():
        if isinstance(value, dict):
            print(f"{indent}{name}")
            show(value, indent + "  ")
        elif isinstance(value, list):
            print(f"{indent}{name:<{40 - len(indent)}}{len(value)}")
            for each in value[:20]:
                print(f"{indent}  {each}")
        else:
            print(f"{indent}{name:<{40 - len(indent)}}{value}")


if __name__ == "__main__":
    sys.exit(main())
