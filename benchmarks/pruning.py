"""What pruning costs and saves: nDCG@10, work and time of a query, and size of the impacts.

    python -m benchmarks.pruning DATA --output DIR [--split test] [--plot FILE]

DATA is a BEIR folder or zip. Its index is built in DIR, and a pruned copy for each share of the
impacts; what DIR already holds is used again. Then queries are pruned, on the whole index. The work
is the mean number of postings that a lexical query reads. The time is the median of single lexical
queries whose vectors are ready, by postings in memory, in turns of all settings. The size is that
of the forward store's impacts and of Lucene's files.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.rows import each_in_turn
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.collection.qrels import Qrels
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.files import write_json
from dupmae_toolkit.index.forward import read_frequencies
from dupmae_toolkit.index.info import index_info
from dupmae_toolkit.index.prune import prune_index
from dupmae_toolkit.index.pruning import Pruning
from dupmae_toolkit.records import Representations

#: Shares of each document's impacts that are kept.
SHARES = (0.75, 0.5, 0.35, 0.25, 0.15, 0.1)
#: How many tokens, and how many words, of a query are searched.
QUERY_TERMS = (32, 16, 8, 4, 2)
MODES = ("lexical", "bm25", "hybrid")
_K = 100


@dataclass(frozen=True, slots=True)
class Setting:
    """One line of the table.

    mean: nDCG@10 by mode. postings, milliseconds: of a lexical query. size: of the impacts, bytes.
    """

    name: str
    mean: dict[str, float]
    postings: float
    milliseconds: float
    size: int


def main(words: Sequence[str] | None = None) -> None:
    """Parse, build what is missing, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pruning", description=__doc__)
    parser.add_argument("data", help="a BEIR folder or zip")
    parser.add_argument("--output", required=True, type=Path, help="a folder for the indexes")
    parser.add_argument("--split", default="test")
    parser.add_argument("--model", default="builtin")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures there")
    parser.add_argument("--plot", type=Path, help="draw it there (.svg, .png); takes matplotlib")
    given = parser.parse_args(words)
    settings = measure(given.data, given.split, given.output, given.model)
    print(table(settings))
    if given.json:
        write_json(given.json, {"settings": [_values(each) for each in settings]})
    if given.plot:
        plot(settings, given.plot)


def measure(data: str, split: str, folder: Path, encoder: Any) -> list[Setting]:
    """The whole index, pruned copies of it, and pruned queries."""
    dataset = open_beir(data)
    qrels = dataset.qrels(split)
    queries = [query for query in dataset.queries(split) if query.id in qrels]
    whole = folder / "whole"
    if not (whole / "manifest.json").exists():
        HybridIndex.build(whole, dataset.corpus, encoder).close()
    indexes: dict[str, Path] = {"all": whole}
    for words in (False, True):
        for share in SHARES:
            name = f"{share:.0%} of {'all' if words else 'tokens'}"
            indexes[name] = folder / name.replace(" ", "-").replace("%", "")
            if not indexes[name].exists():
                prune_index(whole, indexes[name], Pruning(keep=share, words=words))
    opened: dict[str, tuple[HybridIndex, int | None]] = {}
    given = encoder if not isinstance(encoder, str) else None
    for name, path in indexes.items():
        opened[name] = HybridIndex.open(path, given), None
        opened[name][0].warm()
    for most in QUERY_TERMS:
        opened[f"queries of {most}"] = opened["all"][0], most
    vectors = opened["all"][0].vectors(queries)
    found = [_setting(name, *each, vectors, qrels) for name, each in opened.items()]
    times = _times(list(opened.values()), vectors).tolist()
    for index, _ in opened.values():
        index.close()
    return [replace(each, milliseconds=ms) for each, ms in zip(found, times, strict=True)]


def _setting(
    name: str, index: HybridIndex, most: int | None, vectors: Representations, qrels: Qrels
) -> Setting:
    mean = {}
    for mode in MODES:
        run = index.search_batch(vectors, _K, mode, query_terms=most)  # type: ignore[call-overload]
        mean[mode] = float(evaluate(qrels, run, ["nDCG@10"]).means["nDCG@10"])
    asked = index.inputs(vectors, index.request(10, "lexical", query_terms=most))["lexical"]
    frequencies = np.zeros(asked.shape[1])
    for folder in index.path.glob("segments/*/forward"):
        counts = read_frequencies(folder)
        assert counts is not None  # no earlier version built it
        frequencies += counts[: asked.shape[1]]
    postings = float(frequencies[asked.indices].sum()) / len(vectors)
    sizes = index_info(index.path)["bytes"]
    dense = sum(path.stat().st_size for path in index.path.glob("segments/*/forward/dense.npy"))
    return Setting(name, mean, postings, 0.0, sizes["forward"] + sizes["lucene"] - dense)


def _times(
    opened: Sequence[tuple[HybridIndex, int | None]], vectors: Representations
) -> np.ndarray:
    """The median of single lexical queries, in milliseconds, for each setting."""
    alone = [_one(vectors, row) for row in range(len(vectors))]

    def searching(index: HybridIndex, most: int | None) -> Any:
        request = index.request(10, "lexical", query_terms=most)
        return lambda number: index.answers(alone[number], request)

    _, seconds = each_in_turn(len(alone), *[searching(*each) for each in opened])
    medians: np.ndarray = np.median(seconds, axis=1) * 1000
    return medians


def _one(vectors: Representations, row: int) -> Representations:
    assert vectors.texts is not None
    part = slice(row, row + 1)
    return Representations(
        vectors.ids[part], vectors.dense[part], vectors.lexical[part], texts=vectors.texts[part]
    )


def table(settings: Sequence[Setting]) -> str:
    """Markdown: a line for each setting."""
    lines = [
        "| kept | nDCG@10 lexical | bm25 | hybrid | postings a query | ms | size of the impacts |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    whole = settings[0].size
    for each in settings:
        quality = [f"{each.mean[mode]:.3f}" for mode in MODES]
        work = [f"{each.postings:,.0f}", f"{each.milliseconds:.2f}"]
        size = f"{each.size / 2**20:.1f} MiB ({each.size / whole:.0%})"
        lines.append(f"| {' | '.join([each.name, *quality, *work, size])} |")
    return "\n".join(lines)


def plot(settings: Sequence[Setting], path: Path) -> None:
    """Draw nDCG@10 of hybrid and lexical search against size and time."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4), layout="constrained")
    labels = ("impacts, MiB", "postings that a lexical query reads")
    for place, (axes, label) in enumerate(zip(figure.subplots(1, 2), labels, strict=True)):
        kinds = {
            "documents, tokens": " of tokens",
            "documents, all": " of all",
            "queries": "queries of",
        }
        for colour, (kind, part) in enumerate(kinds.items()):
            if kind == "queries" and not place:
                continue  # the index stays as large as it is
            own = [settings[0], *(each for each in settings[1:] if part in each.name)]
            for mode, line in (("hybrid", "-"), ("lexical", ":")):
                x = [each.postings if place else each.size / 2**20 for each in own]
                y = [each.mean[mode] for each in own]
                style = {"marker": "o", "color": f"C{colour}", "label": f"{kind}: {mode}"}
                axes.plot(x, y, line, **style)
        axes.set_xlabel(label)
        axes.set_ylabel("nDCG@10")
        axes.grid(alpha=0.3)
    axes.legend(fontsize=8)
    figure.savefig(path)


def _values(setting: Setting) -> dict[str, Any]:
    return {name: getattr(setting, name) for name in setting.__slots__}


if __name__ == "__main__":
    main()
