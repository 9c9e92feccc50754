"""`dupmae tune`: the best weights of a weighted sum of runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    JsonOption,
    Norm,
    QrelsOption,
    SeveralRunsArgument,
    split_option,
)
from dupmae_cli.runs import say_unjudged
from dupmae_toolkit.errors import counted


def tune(
    runs: SeveralRunsArgument,
    qrels: QrelsOption,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    measure: Annotated[str, typer.Option(help="nDCG@k, R@k or P@k.")] = "nDCG@10",
    norm: Annotated[
        Norm | None,
        typer.Option(
            help="How each list's scores are normalised.", show_default="the best is chosen"
        ),
    ] = None,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds in the cross-validation.")] = 5,
    seed: Annotated[int, typer.Option(min=0, help="Seed for dealing topics to the folds.")] = 1,
    training_figure: Annotated[
        bool,
        typer.Option(
            "--training-figure",
            help="Also print the value on the topics tuned on, which tends to be too high.",
        ),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Find the best weights of a weighted sum of runs.

    With two runs, no weights from 0 to 1 are better: every weight at which
    a relevant document changes its rank is computed; no grid is searched. If a range of
    weights is equally good, it is printed, and its middle is taken. With more runs, one
    weight after another is moved to its best value until no move gains anything; the
    result need not be the best of all.

    A document that a run lacks scores 0 in it, after --norm, as in `dupmae fuse --method
    linear`. Give the weights to that command, with the same --norm. Equal sums are ordered
    by document id, descending, as in `dupmae fuse` and in trec_eval.

    The value is measured on topics held out: each is ranked with the norm and weights
    tuned on the topics of the other folds. Its interval is a 95% bootstrap interval over
    topics.

    [bold]Examples:[/bold]

      dupmae tune dense.trec lexical.trec --qrels qrels.txt

      dupmae tune a.trec b.trec c.trec --qrels scifact.zip --split train --measure R@100 --json
    """
    from dupmae_toolkit.collection.opening import read_qrels
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.tuned import tune

    if len(runs) < 2:
        raise InputError("one run given; tuning takes two or more")
    labels = [str(path) for path in runs]
    if len(set(labels)) < len(labels):
        raise InputError("a run is given twice; name each once")
    judged = read_qrels(qrels, split)
    found = [read_run(path) for path in runs]
    if not any(topic in judged for run in found for topic in run.topics):
        raise InputError(f"{qrels}: judges no topic of these runs; they belong to different sets")
    tuned = tune(judged, found, measure, norm.value if norm else None, folds, seed)
    weights, held_out = tuned.weights, tuned.held_out
    for label, run in zip(labels, found, strict=True):
        if lacking := sum(topic not in run.topics for topic in judged):
            console.say(f"{label}: lacks {counted(lacking, 'judged topic')}, with scores of 0")
        say_unjudged(label, sum(topic not in judged for topic in run.topics))
    if json:
        document: dict[str, Any] = {
            "weights": dict(zip(labels, weights, strict=True)),
            "measure": measure,
            "value": held_out.mean,
            "interval": None if held_out.low is None else [held_out.low, held_out.high],
            "norm": tuned.norm,
            "plateau": tuned.plateau and list(tuned.plateau),
            "folds": folds,
            "topics": len(judged),
        }
        if training_figure:
            document["training_figure"] = tuned.training_figure
        console.print_json(document)
        return
    for label, weight in zip(labels, weights, strict=True):
        print(f"{weight:.6f}  {label}")
    print(f"norm {tuned.norm}")
    if tuned.plateau:
        low, high = tuned.plateau
        print(f"as good: weights of {labels[1]} from {low:.6f} to {high:.6f}")
    bounds = "" if held_out.low is None else f" ({held_out.low:.4f} to {held_out.high:.4f})"
    print(f"{measure} {held_out.mean:.4f}{bounds}, held out in {folds} folds")
    if training_figure:
        print(f"{measure} {tuned.training_figure:.4f}, training figure: on the topics tuned on")
