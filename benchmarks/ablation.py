"""The paper's ablation on a small scale: the worth of each pre-training loss and each vector.

    python -m benchmarks.ablation --data TEXTS --model START --collections ZIP ... --output DIR

Four pre-trainings (masked tokens only, RetroMAE, bag of words only, DupMAE) take equal numbers of
steps on the same texts from the same start. Each model then gets the same fine-tuning. Measured is
nDCG@10 of [CLS] alone, of the lexical vector alone, and of both at equal memory, on every
collection. What DIR already holds is not done again, so a run that was stopped continues. Processes
with different ``--arms`` may work in the same DIR at once; a last one without it prints the table.

Memory is counted in bytes per document, ``MEMORY`` for each way. [CLS] alone is float16. The
lexical vector alone has ``MEMORY / 3`` terms, two bytes for the term and one for its impact. Both
together get half each; dense numbers then take one byte, with a scale for each vector.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from scipy.sparse import csr_matrix

from dupmae_toolkit.collection.beir import open_beir
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.files import write_json
from dupmae_toolkit.records import Ranking, Run

#: Name in the table -> the preset's settings that are changed.
ARMS: dict[str, dict[str, float]] = {
    "MLM": {"decoder_weight": 0.0, "bow_weight": 0.0},
    "RetroMAE": {"bow_weight": 0.0},
    "bag of words": {"decoder_weight": 0.0},
    "DupMAE": {},
}
WAYS = ("[CLS]", "lexical", "both")
MEMORY = 768
TERM = 3
RESAMPLES = 10_000

#: Arm and collection -> way -> topic -> nDCG@10.
Results: TypeAlias = dict[tuple[str, str], dict[str, dict[str, float]]]


def main() -> None:
    """Parse, train what is missing, measure, print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ablation")
    parser.add_argument("--data", required=True, help="the folder of texts that the recipes name")
    parser.add_argument("--model", required=True, help="where every pre-training starts")
    parser.add_argument("--collections", required=True, nargs="+", help="BEIR zips or folders")
    parser.add_argument("--output", required=True, type=Path)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=list(ARMS), metavar="NAME")
    parser.add_argument("--plot", type=Path, help="draw it there (.svg, .png); takes matplotlib")
    parser.add_argument("--set-pretrain", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--set-finetune", action="append", default=[], metavar="KEY=VALUE")
    given = parser.parse_args()
    results: Results = {}
    for arm in given.arms:
        folder = given.output / arm.replace(" ", "-").lower()
        model = train(folder, ARMS[arm], given)
        for collection in given.collections:
            name = Path(collection).stem
            path = folder / f"{name}.json"
            if not path.exists():
                write_json(path, measure(model, collection))
            results[arm, name] = json.loads(path.read_text("utf-8"))
    if len(given.arms) < len(ARMS):
        return  # part of the work; only a run with all arms prints the table
    names = [Path(collection).stem for collection in given.collections]
    print(table(results, names))
    print()
    print(comparison(results, names))
    if given.plot:
        plot(results, names, given.plot)


def train(folder: Path, changes: dict[str, float], given: Any) -> Path:
    """The fine-tuned checkpoint of one arm; trainings that were stopped continue."""
    from dupmae_toolkit.training.finetune import finetune
    from dupmae_toolkit.training.pretrain import pretrain
    from dupmae_toolkit.training.recipe import FinetuneRecipe, PretrainRecipe
    from dupmae_toolkit.training.recipe_files import load_recipe

    stages: list[tuple[Any, Any, str, dict[str, str]]] = [
        (pretrain, PretrainRecipe, "pretrain", {"model": given.model}),
        (finetune, FinetuneRecipe, "finetune", {"model": str(folder / "pretrain" / "final")}),
    ]
    for work, kind, stage, own in stages:
        output = folder / stage
        if not (output / "final").is_dir():
            own = {**pairs(getattr(given, f"set_{stage}")), **own, "output": str(output)}
            recipe = load_recipe(f"ablation-{stage}", kind, own, given.data)
            if stage == "pretrain":
                recipe = replace(recipe, settings={**recipe.settings, **changes})
            work(recipe, resume=output.is_dir(), listen=lambda e: print(folder.name, e, flush=True))
    return folder / "finetune" / "final"


def pairs(given: list[str]) -> dict[str, str]:
    """KEY=VALUE texts as a mapping."""
    return dict(item.split("=", 1) for item in given)


def measure(model: Path, collection: str) -> dict[str, dict[str, float]]:
    """Way -> topic -> nDCG@10, over every judged topic of the collection's test split."""
    from dupmae_toolkit import DupMAEEncoder

    encoder = DupMAEEncoder.from_pretrained(model, top_k=MEMORY // TERM)
    dataset = open_beir(collection, skip_invalid=True)
    qrels = dataset.qrels("test")
    queries = [query for query in dataset.queries("test") if query.id in qrels]
    documents = list(dataset.corpus)
    q = encoder.encode_queries([query.text for query in queries])
    d = encoder.encode_documents([document.contents for document in documents])
    c = encoder.config
    half = MEMORY // 2
    dense = q.dense @ in_bytes(d.dense).T
    lexical = (q.lexical @ strongest(d.lexical, half // TERM).T).toarray()
    scores = {
        "[CLS]": q.dense @ d.dense.astype(np.float16).astype(np.float32).T,
        "lexical": (q.lexical @ d.lexical.T).toarray(),
        "both": c.dense_weight * dense + c.lexical_weight * lexical,
    }
    ids = [document.id for document in documents]
    found = {}
    for way, matrix in scores.items():
        run = Run({q.id: best(ids, row) for q, row in zip(queries, matrix, strict=True)})
        found[way] = evaluate(qrels, run, ["nDCG@10"]).per_topic["nDCG@10"]
    return found


def in_bytes(vectors: np.ndarray) -> np.ndarray:
    """float32 [n, d] as reconstructed from signed bytes with a scale for each row."""
    scale = np.abs(vectors).max(axis=1, keepdims=True) / 127
    scale[scale == 0] = 1
    return np.rint(vectors / scale) * scale


def strongest(weights: csr_matrix, count: int) -> csr_matrix:
    """The ``count`` largest weights of each row."""
    weights = weights.copy()
    for start, stop in zip(weights.indptr[:-1], weights.indptr[1:], strict=True):
        if stop - start > count:
            losers = np.argsort(-weights.data[start:stop], kind="stable")[count:]
            weights.data[start + losers] = 0
    weights.eliminate_zeros()
    return weights


def best(ids: list[str], scores: np.ndarray, depth: int = 100) -> Ranking:
    """The best documents by one row of scores."""
    order = np.argsort(-scores, kind="stable")[:depth]
    return Ranking.sorted([ids[i] for i in order], scores[order])


def interval(values: np.ndarray) -> tuple[float, float]:
    """The 95 % percentile bootstrap interval of a mean, with a fixed seed."""
    rng = np.random.default_rng(0)
    draws = rng.integers(len(values), size=(RESAMPLES, len(values)))
    low, high = np.quantile(values[draws].mean(axis=1), [0.025, 0.975])
    return float(low), float(high)


def table(results: Results, names: list[str]) -> str:
    """Markdown: nDCG@10 with its interval, one row for each pre-training and way."""
    lines = [
        "| pre-training | vectors | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for arm in ARMS:
        for way in WAYS:
            cells = []
            for name in names:
                values = np.asarray(list(results[arm, name][way].values()))
                low, high = interval(values)
                cells.append(f"{values.mean():.3f} ({low:.3f}–{high:.3f})")
            lines.append(f"| {arm} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def comparison(results: Results, names: list[str]) -> str:
    """Markdown: mean differences per topic, last arm minus each other one, with intervals."""
    *others, best = ARMS
    lines = [
        f"| {best} minus | vectors | " + " | ".join(names) + " |",
        "|---|---|" + "---|" * len(names),
    ]
    for arm in others:
        for way in WAYS:
            cells = []
            for name in names:
                mine, theirs = results[best, name][way], results[arm, name][way]
                values = np.array([mine[topic] - theirs[topic] for topic in mine])
                low, high = interval(values)
                cells.append(f"{values.mean():+.3f} ({low:+.3f} to {high:+.3f})")
            lines.append(f"| {arm} | {way} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def plot(results: Results, names: list[str], path: Path) -> None:
    """Draw the table: a panel for each collection, a group of bars for each pre-training."""
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "ablation"  # the same drawing is the same file
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, len(names), figsize=(5.5 * len(names), 3.6), squeeze=False)
    for axes, name in zip(panels[0], names, strict=True):
        for place, way in enumerate(WAYS):
            values = [np.asarray(list(results[arm, name][way].values())) for arm in ARMS]
            means = np.array([value.mean() for value in values])
            low, high = np.array([interval(value) for value in values]).T
            x = np.arange(len(ARMS)) + 0.27 * (place - 1)
            axes.bar(x, means, 0.25, yerr=(means - low, high - means), capsize=2, label=way)
        axes.set_xticks(np.arange(len(ARMS)), list(ARMS))
        axes.set(title=name, ylabel="nDCG@10")
        axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
    pyplot.close(figure)


if __name__ == "__main__":
    main()
