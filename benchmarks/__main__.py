"""Runs the benchmarks and prints the table."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from benchmarks import collator, lexical
from benchmarks.rows import table


def main() -> None:
    """Parse the sizes, run, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--documents", type=int, default=20_000)
    parser.add_argument("--queries", type=int, default=1_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rows = lexical.run(Path(folder), arguments.documents, arguments.queries)
        print(table([*collator.run(), *rows]))


if __name__ == "__main__":
    main()
