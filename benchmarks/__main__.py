"""Runs the benchmarks, each subject in its own process, and prints a table.

For each row, ours and a peer do the same work in one process, in turns where that is fair. The
extra `bench` installs the peers; a missing one gives a row that says so.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from benchmarks.rows import Row, Sizes, table

#: Subject -> its default sizes. Its module has ``measure(folder, sizes)``.
SUBJECTS = {
    "collator": Sizes(32, 0),
    "encoding": Sizes(1_000, 150),
    "lexical": Sizes(20_000, 1_000),
    "hybrid": Sizes(20_000, 1_000),
    "one_query": Sizes(20_000, 200),
    "parts": Sizes(20_000, 1_000),
    "lookup": Sizes(6_000, 159),
    "engines": Sizes(100_000, 1_000),
    "fusing": Sizes(100_000, 10_000),
    "tuning": Sizes(100_000, 1_000),
    "memory": Sizes(10_000, 0),
    "growth": Sizes(10_000, 500),
    "updates": Sizes(10_000, 100),
    "filtered": Sizes(20_000, 200),
    "by_passage": Sizes(20_000, 200),
}


def main(words: Sequence[str] | None = None) -> int:
    """Parse, run, print; returns 1 if a subject's process ended without a result."""
    given = _parser().parse_args(words)
    names = given.subjects or list(SUBJECTS)
    rows = run_here(names[0], given) if len(names) == 1 else []
    if len(names) > 1:
        for name in names:
            print(f"{name} …", file=sys.stderr, flush=True)
            rows += run_apart(name, given)
    print(table(rows))
    if given.json:
        text = json.dumps({"rows": [row.to_dict() for row in rows]}, indent=2, ensure_ascii=False)
        given.json.write_text(text + "\n", "utf-8")
    if given.plot:
        from benchmarks.growth import plot

        print(plot(rows, given.plot), file=sys.stderr)
    return int(any(row.same.startswith("ended ") for row in rows))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    names = ", ".join(SUBJECTS)
    parser.add_argument(
        "subjects",
        nargs="*",
        metavar="NAME",
        type=_subject,
        help=f"which to run, all by default: {names}",
    )
    parser.add_argument("--documents", type=_count, metavar="N", help="for every subject")
    parser.add_argument("--queries", type=_count, metavar="N", help="for every subject")
    parser.add_argument("--large", action="store_true", help="memory and growth: ten times more")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows there")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw growth; needs matplotlib")
    return parser


def _subject(text: str) -> str:
    if text not in SUBJECTS:
        raise argparse.ArgumentTypeError(f"{text!r}: choose from {', '.join(SUBJECTS)}")
    return text


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def run_here(name: str, given: argparse.Namespace) -> list[Row]:
    """The rows of one subject, in this process."""
    default = SUBJECTS[name]
    documents, queries = given.documents or default.documents, given.queries or default.queries
    sizes = Sizes(documents, queries, given.large)
    module = importlib.import_module(f"benchmarks.{name}")
    with tempfile.TemporaryDirectory(prefix="dupmae-bench-") as folder:
        return module.measure(Path(folder), sizes)


def run_apart(name: str, given: argparse.Namespace) -> list[Row]:
    """The rows of one subject, in a new process with its own threads, Java and memory."""
    with tempfile.TemporaryDirectory(prefix="dupmae-bench-") as folder:
        answer = Path(folder) / "rows.json"
        words = [name, "--json", str(answer)]
        for key in ("documents", "queries"):
            if getattr(given, key):
                words += [f"--{key}", str(getattr(given, key))]
        words += ["--large"] if given.large else []
        command = [sys.executable, "-m", "benchmarks", *words]
        done = subprocess.run(command, stdout=subprocess.DEVNULL, env=os.environ, check=False)
        if answer.exists():
            rows = json.loads(answer.read_text("utf-8"))["rows"]
            return [Row.from_dict(row) for row in rows]
    return [Row(name, "–", None, None, f"ended with {done.returncode} and no answer")]


if __name__ == "__main__":
    sys.exit(main())
