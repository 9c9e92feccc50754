"""`dupmae sweep`: a grid of encoders, indexes, scores and collections as one study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.choose import demonstration
from dupmae_cli.options import (
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QueryLengthOption,
)
from dupmae_cli.recording import draft
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.sweep.results import Results
    from dupmae_toolkit.evaluation.sweep.study import StudyEncoder
    from dupmae_toolkit.records import Encoder


def sweep(
    study: Annotated[Path, typer.Argument(metavar="STUDY", help="The study, a YAML file.")],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder for runs, tables, page, encoded texts and indexes."
        ),
    ],
    data: Annotated[
        str, typer.Option(help="What stands for {data} in the study.", show_default="none")
    ] = "",
    fail_fast: Annotated[
        bool, typer.Option("--fail-fast", help="Stop at the first run that fails.")
    ] = False,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Run a grid of encoders, indexes, scores and collections as one study.

    Each text is encoded once for an encoder, each index built once, each run searched
    once. OUTPUT gets the runs with their cards, study.json, which --json also prints,
    tables as study.csv, study.md and study.tex, and the page of `dupmae report` over all
    runs. Each run is compared with the study's baseline, topic by topic; p-values are after
    Holm's correction over all runs and collections.

    If a run fails, the others are made, and the exit code is 1; the same command tries
    again. If interrupted, run the same command to continue. A study that was changed
    redoes only what changed. A study measures and never chooses: the best of its runs on
    a test is no test result; `dupmae choose` chooses, on development topics.

    [bold]Examples:[/bold]

      dupmae sweep study.yaml --data beir --output sweep

      dupmae sweep study.yaml --output sweep --fail-fast --json
    """
    from dupmae_toolkit.errors import DupMAEError
    from dupmae_toolkit.evaluation.sweep.study_file import load_study
    from dupmae_toolkit.evaluation.sweep.sweeping import run_sweep
    from dupmae_toolkit.model.loading import load_encoder

    def load(entry: StudyEncoder) -> Encoder:
        encoder = load_encoder(
            entry.model,
            device=device,
            precision=precision.value,
            pooling=entry.dense or None,
            max_length=entry.max_length or None,
            query_max_length=query_length,
        )
        console.say_remarks(encoder)
        console.say_no_room(query_length, encoder.info.query_max_length, entry.model)
        return encoder

    read = load_study(study, data)
    console.if_interrupted(lambda: console.kept(output))
    found = run_sweep(
        read,
        output,
        load=load,
        draft=draft(),
        demonstration=demonstration,
        fail_fast=fail_fast,
        say=console.say,
        progress=console.bar,
    )
    _say(found, output)
    if json:
        console.print_json(found.to_dict())
    else:
        _print(found)
    if failures := found.made.failures:
        size = len(found.grid.cells) * len(found.collections)
        raise DupMAEError(
            f"{len(failures):,} of {counted(size, 'run')} failed; the same command tries them again"
        )


def _say(found: Results, output: Path) -> None:
    from dupmae_toolkit.evaluation.sweep.sweeping import PAGE_FILE, unused

    for collection in found.collections:
        for line in collection.said():
            console.say(line)
    for line in unused(found, output):
        console.say(line)
    runs = sum(map(len, found.made.runs.values()))
    reused = f", {found.made.reused:,} of them reused" if found.made.reused else ""
    size = counted(runs, "run")
    if len(found.made.runs) > 1:
        size += f" on {counted(len(found.made.runs), 'collection')}"
    console.say(f"wrote {output / PAGE_FILE}: {size}{reused}")


def _print(found: Results) -> None:
    from rich.table import Table

    from dupmae_toolkit.evaluation.sweep.tables import caption_of, cells_of

    screen = console.screen()
    measure = found.study.measures[0]
    columns, rows = cells_of(found, measure)
    table = Table(box=None, pad_edge=False)
    for place, name in enumerate(columns):
        table.add_column(name, overflow="fold", justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    screen.print(f"{caption_of(found, measure)}.")
    screen.print(table)
    for note in found.notes():
        screen.print(note)
