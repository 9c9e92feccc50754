"""`dupmae choose`: choose between candidates by a rule, on development topics only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    DeviceOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QueryLengthOption,
)

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.bootstrap import Interval
    from dupmae_toolkit.evaluation.choosing import Choice
    from dupmae_toolkit.evaluation.development import MemoryDataset
    from dupmae_toolkit.records import Encoder


def choose(
    rule: Annotated[
        Path,
        typer.Argument(metavar="RULE", help="The rule, a YAML file such as rules/builtin.yaml."),
    ],
    candidates: Annotated[
        list[str],
        typer.Argument(
            metavar="CANDIDATE",
            help="In order of preference, the cheaper first: a model; a model with the weights of "
            "its score, MODEL@70,1.5,1.5, with an idf power, MODEL@70,1.5,1.5^0.5, or MODEL@plain; "
            "or a folder with a TREC run for each set, SET.trec.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder for the record, encoded texts and indexes."
        ),
    ],
    data: Annotated[
        Path | None,
        typer.Option(
            help="The folder that holds the files of the rule's sets.",
            show_default="the current folder",
        ),
    ] = None,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Choose between candidates by a rule, on development topics only.

    The rule names development sets, a measure, and guards: figures that a
    candidate must not fall below. The best mean over the sets wins; if several
    are within the rule's tie of it, the one named first wins. A set that is a
    test is refused, so no figure of a test can appear. OUTPUT/choice.json records
    the figures and the rule's hash; for another rule, give another OUTPUT. If
    interrupted, run the same command to continue.

    [bold]Examples:[/bold]

      dupmae choose rules/builtin.yaml builtin trained/new/final --data beir --output choice

      dupmae choose rule.yaml builtin builtin@80,1,1.5 builtin@80,1,1.5^0.5 --output weights

      dupmae choose rule.yaml runs/first runs/second --data beir --output choice --json
    """
    from dupmae_toolkit.errors import DupMAEError
    from dupmae_toolkit.evaluation.candidates import parse_candidate
    from dupmae_toolkit.evaluation.choosing import choose
    from dupmae_toolkit.evaluation.rules import load_rule
    from dupmae_toolkit.model.loading import load_encoder

    def load(name: str) -> Encoder:
        return load_encoder(
            name, device=device, precision=precision.value, query_max_length=query_length
        )

    read = load_rule(rule)
    names = [each.name for each in read.sets]
    console.if_interrupted(lambda: console.kept(output))
    found = choose(
        read,
        [parse_candidate(text, names) for text in candidates],
        output,
        data=data or "",
        load=load,
        demonstration=demonstration,
        progress=console.bar,
    )
    if json:
        console.print_json(found.to_dict())
    else:
        _print(found)
    if found.chosen is None:
        raise DupMAEError("no candidate passes all guards; none is chosen")


def demonstration() -> MemoryDataset:
    """The demonstration's questions over the docstrings of the running Python."""
    from dupmae_toolkit.demo.docstrings import read_docstrings
    from dupmae_toolkit.demo.questions import load_questions
    from dupmae_toolkit.evaluation.development import MemoryDataset

    documents = read_docstrings(progress=console.bar)
    asked = load_questions({document.id for document in documents})
    return MemoryDataset("", "demonstration", documents, asked.queries, asked.qrels)


def _print(found: Choice) -> None:
    from rich.console import Console
    from rich.table import Table

    screen = Console(soft_wrap=True, highlight=False, markup=False, width=1000)
    sets, modes = list(found.sets), found.rule.modes
    topics = sum(about["topics"] for about in found.sets.values())
    screen.print(
        f"{found.rule.measure} on {topics:,} development topics, with 95 % intervals; rule "
        f"{found.rule.sha256[:12]}"
    )
    table = Table(box=None, pad_edge=False)
    table.add_column("candidate")
    if len(modes) > 1:
        table.add_column("mode")
    for name in ("mean", *sets):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("mean to the first", justify="right", no_wrap=True)
    table.add_column("")
    for candidate in found.candidates:
        for mode in modes:
            figures = candidate.figures[mode]
            cells = [_figure(figures[name]) for name in ("mean", *sets)]
            first, note = "", ""
            if mode == modes[0]:
                if candidate is not found.candidates[0]:
                    first = _figure(candidate.differences["mean"], "+")
                note = "chosen" if candidate.name == found.chosen else ""
                note = note or ("" if candidate.passed else "guarded")
            name = candidate.name if mode == modes[0] else ""
            table.add_row(name, *([mode] if len(modes) > 1 else []), *cells, first, note)
    screen.print(table)
    for name, about in found.sets.items():
        if about["left_out"]:
            screen.print(f"{name}: {about['left_out']:,} topics left out, which a test has too")
    for candidate in found.candidates:
        for guard in candidate.guards:
            if not guard.passed:
                screen.print(f"{candidate.name}: {guard.guard}; it has {guard.figure:.4f}")
    if len(found.tied) > 1:
        screen.print(f"within {found.rule.tie:g} of the best: {', '.join(found.tied)}")
    if found.chosen is not None:
        screen.print(f"chosen: {found.chosen}")


def _figure(value: Interval, sign: str = "") -> str:
    shown = f"{value.mean:{sign}.4f}"
    if value.low is None or value.high is None:
        return shown
    return f"{shown} ({value.low:{sign}.4f} … {value.high:{sign}.4f})"
