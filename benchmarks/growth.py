"""Growth: synthetic collections of n, ten times n, and with --large a hundred times n documents.

Building and searching each run in their own process, so that memory can be told apart. Terms follow
Zipf's law, dense vectors are near a subspace of low rank, and both are generated on demand.

    python -m benchmarks growth --large --json growth.json --plot growth.png
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import synthetic
from benchmarks.processes import resident_mib, run_python
from benchmarks.rows import NoPeerError, Row, Sizes, against, each_in_turn, percentiles, timed

K = 10
#: How many queries are searched again with exact=True.
_PROVEN = 20


def measure(folder: Path, sizes: Sizes) -> list[Row]:
    """For each size, a row for building and one for a query, compared with the first size.

    Building is compared with the first size's time per document, so a ratio of 1 is linear growth.
    """
    counts = [sizes.documents, sizes.documents * 10]
    counts += [sizes.documents * 100] if sizes.large else []
    rows: list[Row] = []
    points: list[dict[str, Any]] = []
    for count in counts:
        work = f"growth, {count:,} documents"

        def row(count: int = count) -> list[Row]:
            points.append(point(folder / f"{count}", count, sizes.queries))
            return _rows(points[0], points[-1])

        rows += against(work, "itself", row)
    return rows


def point(folder: Path, count: int, topics: int) -> dict[str, Any]:
    """Measure one size: building, then searching, each in a new process."""
    built = run_python(["-m", "benchmarks.growth", "build", str(folder), str(count)])
    found = run_python(["-m", "benchmarks.growth", "search", str(folder), str(topics)])
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {
        "documents": count,
        "build_s": json.loads(built.output)["seconds"],
        "build_peak_mib": built.peak_mib,
        "index_mib": size / 2**20,
        **json.loads(found.output),
        "search_peak_mib": found.peak_mib,
    }


def _rows(first: dict[str, Any], now: dict[str, Any]) -> list[Row]:
    count = now["documents"]
    base = f"itself with {first['documents']:,}"
    linear = first["build_s"] * count / first["documents"]
    memory = f"peak {now['build_peak_mib']:,.0f} MiB, on disk {now['index_mib']:,.0f} MiB"
    query = (
        f"p95 {now['p95_ms']:.3g}, p99 {now['p99_ms']:.3g} ms; resident {now['resident_mib']:,.0f} "
        f"MiB; the exact top {K} for {now['same_as_exact']} of {now['proven']}"
    )
    build = f"building an index of {count:,}"
    asked = f"one hybrid query, k = {K}, {count:,} documents, median"
    linear_peer = f"{base}, by the document"
    return [
        Row(build, linear_peer, now["build_s"], linear, memory, details=now),
        Row(asked, base, now["p50_ms"], first["p50_ms"], query, "ms"),
    ]


def build(folder: Path, count: int) -> dict[str, Any]:
    """Build an index of synthetic documents, in segments of the default size."""
    from dupmae_toolkit import HybridIndex

    _, seconds = timed(
        lambda: HybridIndex.build(folder, synthetic.documents(count), synthetic.Ready())
    )
    return {"seconds": seconds}


def search(folder: Path, topics: int) -> dict[str, Any]:
    """Search one query after the other, then some of them again with exact=True."""
    from dupmae_toolkit import HybridIndex

    index = HybridIndex.open(folder)
    index.warm()
    batch = synthetic.query_vectors(topics)
    queries = [synthetic.one(batch, number) for number in range(topics)]

    def ask(number: int, exact: bool = False) -> Any:
        return index.search_batch(queries[number], K, exact=exact, plain=True)

    (runs,), (seconds,) = each_in_turn(topics, ask)
    resident = resident_mib()
    proven = min(_PROVEN, topics)
    same = 0
    for number in range(proven):
        exact = ask(number, exact=True)
        if exact.metadata["certificate"]["certified"] != 1:
            raise RuntimeError(f"query {number} was not certified exact")
        same += exact[str(number)].ids == runs[number][str(number)].ids
    return {
        **percentiles(seconds),
        "resident_mib": resident,
        "same_as_exact": int(same),
        "proven": proven,
    }


def plot(rows: Sequence[Row], path: Path) -> str:
    """Draw the measurements in ``rows`` into a file; returns a line that says what was done.

    Draws nothing without matplotlib, or if there are fewer than two sizes.
    """
    points = [row.details for row in rows if "build_peak_mib" in row.details]
    if len(points) < 2:
        return "nothing drawn: run growth"
    try:
        import matplotlib
    except ImportError:
        return "nothing drawn: pip install matplotlib"
    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "growth"  # the same drawing is the same file
    from matplotlib import pyplot

    counts = [p["documents"] for p in points]
    figure, (left, middle, right) = pyplot.subplots(1, 3, figsize=(12, 3.6))
    left.plot(counts, [p["build_s"] for p in points], "o-", label="measured")
    first = points[0]["build_s"] / counts[0]
    left.plot(counts, [first * count for count in counts], ":", label="linear")
    left.set(title="building, s", yscale="log")
    for key in ("p50_ms", "p95_ms", "p99_ms"):
        middle.plot(counts, [p[key] for p in points], "o-", label=key.removesuffix("_ms"))
    middle.set(title=f"one hybrid query, k = {K}, ms", yscale="log")
    for key in ("resident_mib", "build_peak_mib", "index_mib"):
        name = key.removesuffix("_mib").replace("_", ", ")
        right.plot(counts, [p[key] for p in points], "o-", label=name)
    right.set(title="memory and disk, MiB", yscale="log")
    for axes in (left, middle, right):
        axes.set(xscale="log", xlabel="documents")
        axes.set_xticks(counts, [f"{count:,}" for count in counts])
        axes.minorticks_off()
        axes.legend()
    figure.tight_layout()
    metadata = {"Date": None} if path.suffix == ".svg" else None
    figure.savefig(path, dpi=120, metadata=metadata)
    pyplot.close(figure)
    return f"drew {path}"


def main(words: Sequence[str]) -> None:
    """``build FOLDER COUNT`` or ``search FOLDER QUERIES``: JSON on stdout."""
    work = {"build": build, "search": search}[words[0]]
    try:
        print(json.dumps(work(Path(words[1]), int(words[2]))))
    except NoPeerError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main(sys.argv[1:])
