"""`dupmae beir`: from a data set to runs, a table and metrics.json."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.searching import Method, Precision

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.beir import BeirResult


def beir(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER|ZIP|ID", help="A BEIR folder or zip, or an id of ir_datasets."
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The folder for runs, metrics and what they took."),
    ],
    split: Annotated[str, typer.Option(help="The split whose topics are run.")] = "test",
    model: Annotated[
        str, typer.Option("--model", help="builtin, a folder, or a hub id.")
    ] = "builtin",
    k: Annotated[int, typer.Option("-k", "--k", help="Hits of a topic.")] = 1000,
    bm25: Annotated[
        bool, typer.Option("--bm25", help="Lucene's BM25 beside them (k1 0.9, b 0.4).")
    ] = False,
    fusion: Annotated[
        Method, typer.Option(help="How the two scores become one in the hybrid run.")
    ] = Method.SUM,
    weights: Annotated[
        str | None, typer.Option(help="Of dense and lexical, as in 0.3,0.7; default: the model's.")
    ] = None,
    exact: Annotated[
        bool, typer.Option("--exact", help="Prove every hybrid ranking; look deeper until it is.")
    ] = False,
    faiss: Annotated[str, typer.Option(help="A FAISS factory string.")] = "Flat",
    measures: Annotated[
        str, typer.Option(help="Names as ir_measures or trec_eval write them, in one string.")
    ] = "nDCG@10 R@100 RR@10 AP@1000",
    skip_invalid: Annotated[
        bool,
        typer.Option("--skip-invalid", help="Leave out documents without text, and count them."),
    ] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[
        Precision, typer.Option(help="auto: bf16 where the hardware has it, else fp32.")
    ] = Precision.AUTO,
    json: Annotated[bool, typer.Option("--json", help="Print metrics.json's content.")] = False,
) -> None:
    """Run BEIR: encode, index, search dense, lexical and hybrid, measure.

    OUTPUT gets a run for each mode, <dataset>.<mode>.trec, and metrics.json. It
    keeps the encoded texts and the index too: a second call uses what stands, and
    one that was killed continues. Of several data sets in one folder or zip
    (CQADupStack), the means of their means are shown.

    [bold]Examples:[/bold]

      dupmae beir scifact.zip --output runs/scifact

      dupmae beir scifact.zip --output runs/scifact --bm25 --model my-model --json

      dupmae beir beir/nfcorpus/test --output runs/nfcorpus -k 100
    """
    from dupmae_toolkit.evaluation.beir import (
        BeirOptions,
        mean_of_means,
        open_checked,
        run_beir,
    )
    from dupmae_toolkit.evaluation.measures import split_measures
    from dupmae_toolkit.files import make_folder
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    options = BeirOptions(
        split=split,
        k=k,
        bm25=bm25,
        fusion=Fusion(fusion.value, parse_weights(weights)),
        exact=exact,
        faiss=faiss,
        measures=tuple(split_measures(measures)),
    )
    open_checked(dataset, options)  # before the time that loading a model takes
    make_folder(output)
    console.if_interrupted(lambda: console.kept(output))
    try:
        from dupmae_toolkit.model.loading import load_encoder

        encoder = load_encoder(model, device=device, precision=precision.value)
        results = run_beir(
            dataset, encoder, output, options, skip_invalid=skip_invalid, progress=console.bar
        )
    finally:
        with contextlib.suppress(OSError):
            output.rmdir()  # only if nothing was put into it
    for result in results:
        console.say(_summary(result))
    if json:
        several = len(results) > 1
        console.print_json(mean_of_means(results) if several else results[0].metrics())
    else:
        _print_table(results)


def _summary(result: BeirResult) -> str:
    topics = next(iter(result.scores.values())).judged
    line = f"{result.dataset}, {result.split}: {result.documents:,} documents, {topics:,} topics"
    if result.skipped:
        line += f"; {result.left_out}"
    if result.reused:
        line += f"; used again: {', '.join(result.reused)}"
    return line


def _print_table(results: list[BeirResult]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dupmae_toolkit.evaluation.beir import mean_of_means

    several = len(results) > 1
    table = Table(box=None, pad_edge=False)
    columns = list(next(iter(results[0].scores.values())).means)
    for name in (["data set"] if several else []) + ["mode"]:
        table.add_column(name, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right")
    blocks = [({m: s.means for m, s in each.scores.items()}, each.dataset) for each in results]
    if several:
        means = mean_of_means(results)
        blocks.append(({mode: means[mode] for mode in results[0].scores}, "mean"))
    for modes, title in blocks:
        best = {name: max(values[name] for values in modes.values()) for name in columns}
        for mode, values in modes.items():
            cells = [
                Text(f"{values[name]:.4f}", style="bold" if values[name] == best[name] else "")
                for name in columns
            ]
            table.add_row(*([Text(title)] if several else []), mode, *cells)
    Console(soft_wrap=True, highlight=False).print(table)
    for result in results:
        for path in result.runs.values():
            console.say(f"wrote {path}")
