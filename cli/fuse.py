"""`dupmae fuse`: one TREC run from several."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.formats import Format, RunFormatOption, check_run_form, gets_card, write_found
from dupmae_cli.options import (
    NORM,
    JsonOption,
    KOption,
    Missing,
    RrfOption,
    RunWeightsOption,
    SeveralRunsArgument,
    TagOption,
)
from dupmae_cli.recording import draft
from dupmae_cli.runs import check_run, report_run


class RunMethod(StrEnum):
    """The methods of ``fusing.registry``, which is not imported just for the help."""

    RRF = "rrf"
    SUM = "sum"
    LINEAR = "linear"
    COMBSUM = "combsum"
    COMBMNZ = "combmnz"
    COMBANZ = "combanz"
    COMBMIN = "combmin"
    COMBMAX = "combmax"
    COMBMED = "combmed"
    ISR = "isr"
    LOG_ISR = "log-isr"
    LOGN_ISR = "logn-isr"
    RBC = "rbc"
    BORDA = "borda"
    CONDORCET = "condorcet"
    DBSF = "dbsf"


class RunNorm(StrEnum):
    NONE = "none"
    MIN_MAX = "min-max"
    THEORETICAL = "theoretical"
    Z_SCORE = "z-score"
    RANK = "rank"
    SUM = "sum"
    DBSF = "dbsf"


def fuse(
    runs: SeveralRunsArgument,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The run to write; - for standard output."),
    ],
    method: Annotated[RunMethod, typer.Option(help="How the runs are fused.")] = RunMethod.RRF,
    weights: RunWeightsOption = None,
    norm: Annotated[RunNorm | None, NORM] = None,
    low: Annotated[
        str | None,
        typer.Option(
            help="For --norm theoretical: the lowest score that each run can have, as in 0,-1, or "
            "one number for all runs."
        ),
    ] = None,
    missing: Annotated[
        Missing | None,
        typer.Option(
            help="What a run gives, after --norm, to a document that it lacks. zero: 0. min: its "
            "lowest score for the topic. leave-out: it does not count for this document.",
            show_default="zero; leave-out for combmin, combmax and combmed",
        ),
    ] = None,
    k: KOption = 1000,
    rrf_k: RrfOption = 60.0,
    persistence: Annotated[
        float, typer.Option(help="The p of rbc, between 0 and 1: how likely a reader is to go on.")
    ] = 0.8,
    tag: TagOption = None,
    format: RunFormatOption = None,
    json: JsonOption = False,
) -> None:
    """Fuse TREC runs into one.

    OUTPUT gets the fused run, OUTPUT.json the settings that made it, and OUTPUT.card.json
    what `dupmae reproduce` needs to repeat it. `dupmae eval` measures the run.

    A document's fused score, by --method; N is the number of runs that hold it, and
    ranks start at 1.

    By ranks. rrf: Σ weight / (k + rank). isr: N × Σ 1 / rank². log-isr: the same with
    log N in place of N. logn-isr: with log (N + 0.01). rbc: Σ weight × (1 − p) ×
    p^(rank − 1). borda: Σ weight × points; the first document gets as many points as there
    are documents, the next one point less, and so on. condorcet: the number of documents
    that it beats in most runs, minus the number that beat it.

    By scores. sum: Σ weight × score. linear: Σ weight × normalised score. dbsf: the
    same, with the run's mean − 3 standard deviations as 0 and mean + 3 as 1. combsum: Σ
    normalised score. combmnz: combsum × N. combanz: combsum / N. combmin, combmax,
    combmed: the lowest, the highest, the median normalised score. linear and the methods
    comb… normalise by min-max unless --norm says otherwise.

    Runs are read as trec_eval reads them: equal scores are ordered by document id,
    descending. Equal fused scores are ordered in the same way.

    [bold]Examples:[/bold]

      dupmae fuse dense.trec lexical.trec --output fused.trec

      dupmae fuse a.trec b.trec c.trec --output fused.trec --method linear --weights 0.5,0.3,0.2

      dupmae fuse a.trec b.trec.gz --output fused.trec --method combmnz --missing min -k 100

      dupmae fuse bm25.trec dense.trec -o fused.trec --method linear --norm theoretical --low 0,-1
    """
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.fusing.fuse import fuse as fuse_runs
    from dupmae_toolkit.fusing.fusion import Fusion
    from dupmae_toolkit.search.fusion import parse_weights

    how = Fusion(
        method.value,
        parse_weights(weights, "0.3,0.7"),
        norm.value if norm else None,
        missing.value if missing else None,
        rrf_k,
        persistence,
        parse_weights(low, "0,-1", "low"),
    )
    unread = {
        "--missing": missing is not None and not how.reads_scores,
        "--rrf-k": rrf_k != 60.0 and method != RunMethod.RRF,
        "--persistence": persistence != 0.8 and method != RunMethod.RBC,
    }
    for option in (name for name, given in unread.items() if given):
        console.say(f"{option}: method {method.value} does not use it")
    form = format or Format.TREC
    check_run_form(output, form, json)
    check_run(output, tag, form)
    if output.exists() and any(path.exists() and path.samefile(output) for path in runs):
        raise InputError(f"{output}: is one of the runs to be fused; name another output")
    # Refuse a wrong number of weights before reading.
    how.describe(len(runs), completed=False)
    how.lowest_for(len(runs))
    card = draft() if gets_card(output, form) else None
    fused = fuse_runs([read_run(path) for path in runs], how, k, tag)
    fused.metadata["runs"] = [str(path) for path in runs]
    write_found(fused, output, form, card)
    report_run(fused, output, {"method": method.value}, json)
