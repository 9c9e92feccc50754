"""`dupmae fuse`: one TREC run from several."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dupmae_cli.formats import Format, RunFormatOption, check_run_form, write_found
from dupmae_cli.options import (
    JsonOption,
    KOption,
    Method,
    Missing,
    NormOption,
    RrfOption,
    RunWeightsOption,
    SeveralRunsArgument,
    TagOption,
)
from dupmae_cli.runs import check_run, report_run


def fuse(
    runs: SeveralRunsArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The run to write; - for standard output."),
    ],
    method: Annotated[Method, typer.Option(help="How the runs are fused.")] = Method.RRF,
    weights: RunWeightsOption = None,
    norm: NormOption = None,
    missing: Annotated[
        Missing,
        typer.Option(
            help="The score, after --norm, that a run gives to a document it lacks: 0, or the "
            "run's smallest score for the query."
        ),
    ] = Missing.ZERO,
    k: KOption = 1000,
    rrf_k: RrfOption = 60.0,
    tag: TagOption = None,
    format: RunFormatOption = None,
    json: JsonOption = False,
) -> None:
    """Fuse TREC runs into one.

    OUTPUT gets the fused run, and OUTPUT.json the settings that made it. `dupmae
    eval` measures the run.

    A document's fused score, by --method. rrf: Σ weight / (60 + rank), where ranks
    start at 1. sum: Σ weight × score. linear: Σ weight × normalised score.
    combsum: Σ normalised score. combmnz: combsum times the number of runs that
    hold the document. linear, combsum and combmnz normalise by min-max unless
    --norm says otherwise. Ties are broken by document id.

    [bold]Examples:[/bold]

      dupmae fuse dense.trec lexical.trec --output fused.trec

      dupmae fuse a.trec b.trec c.trec --output fused.trec --method linear --weights 0.5,0.3,0.2

      dupmae fuse a.trec b.trec.gz --output fused.trec --method combmnz --missing min -k 100
    """
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.fusion import Fusion, fuse_runs, parse_weights

    numbers = parse_weights(weights, "0.3,0.7")
    how = Fusion(method.value, numbers, norm.value if norm else None, missing.value, rrf_k)
    form = format or Format.TREC
    check_run_form(output, form, json)
    check_run(output, tag)
    if output.exists() and any(path.exists() and path.samefile(output) for path in runs):
        raise InputError(f"{output}: is one of the runs to be fused; name another output")
    how.describe(len(runs), completed=False)  # refuses a wrong number of weights before reading
    fused = fuse_runs([read_run(path) for path in runs], how, k, tag)
    fused.metadata["runs"] = [str(path) for path in runs]
    write_found(fused, output, form)
    report_run(fused, output, {"method": method.value}, json)
