"""`dupmae diagnose`: what each part of a hybrid score finds that the others miss."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.hits import clean
from dupmae_cli.options import (
    TOPICS,
    DeviceOption,
    HybridWeightsOption,
    IdfPowerOption,
    IndexModelOption,
    IndexOption,
    JsonOption,
    Precision,
    PrecisionOption,
    QueryLengthOption,
    split_option,
)
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.bootstrap import Interval
    from dupmae_toolkit.evaluation.diagnosis import Diagnosis, Example

_LONGEST = 100  # characters shown of a query or title


def diagnose(
    index: IndexOption,
    queries: Annotated[
        str,
        typer.Option(help=TOPICS),
    ],
    qrels: Annotated[
        str | None,
        typer.Option(
            help="Their judgements: a file, or a BEIR folder or zip with --split.",
            show_default="those of --queries",
        ),
    ] = None,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    sample: Annotated[
        int | None,
        typer.Option(
            help="Use only this many of the judged topics, drawn at random.", show_default="all"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="The seed of the random sample.")] = 1,
    weights: HybridWeightsOption = None,
    idf_power: IdfPowerOption = None,
    refit: Annotated[
        bool,
        typer.Option(
            "--refit",
            help="When a part is left out, also fit the weights of the others to these topics.",
        ),
    ] = False,
    examples: Annotated[
        int, typer.Option(help="Topics to show that each part wins, and as many that it loses.")
    ] = 3,
    model: IndexModelOption = None,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Show what each part of a hybrid score finds that the others miss.

    Use it on development topics, not on those of a test: what you see decides
    what to train. Leaves out each part in turn and shows what that costs in
    nDCG@10, with a 95 % interval by the paired bootstrap, and the topics that the
    part wins and loses. Then groups the topics by the query's terms, by length,
    and by how the answer matches: the document of the highest grade.

    [bold]Examples:[/bold]

      dupmae diagnose --index indexes/scifact --queries scifact.zip --split train

      dupmae diagnose --index indexes/notes --queries q.tsv --qrels q.qrels --refit --json
    """
    from dupmae_toolkit.collection.beir import open_beir
    from dupmae_toolkit.collection.opening import read_qrels, read_queries
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.diagnosis import diagnose
    from dupmae_toolkit.search.fusion import parse_weights
    from dupmae_toolkit.search.hybrid_index import HybridIndex
    from dupmae_toolkit.search.queries import cut_line

    if qrels is None and split is None:
        raise InputError("name the judgements: --qrels, or --split of a BEIR data set")
    if examples < 0:
        raise InputError(f"--examples {examples}; give 0 or more")
    encoded = EncodedCorpus.is_one(queries)
    if encoded and qrels is None:
        raise InputError(f"{queries}: holds encoded queries; name their judgements with --qrels")
    if encoded and query_length is not None:
        raise InputError(
            f"{queries}: holds encoded queries; leave out --query-length, or encode them again "
            "with another --max-length"
        )
    source = qrels or queries
    judged = read_qrels(source, split)
    own_split = split if qrels is None else None
    topics: Any = EncodedCorpus.open(queries) if encoded else read_queries(queries, own_split)
    if split is not None and "test" in split.lower():
        console.say(f"split {split}: what is trained after this cannot be tested on these topics")
    with HybridIndex.open(
        index,
        model,
        device=device,
        precision=precision.value,
        query_max_length=query_length,
    ) as opened:
        found = diagnose(
            opened,
            topics,
            judged,
            weights=parse_weights(weights),
            idf_power=idf_power,
            refit=refit,
            examples=examples,
            drop_self=split is not None and open_beir(source).drops_self_matches,
            sample=sample,
            seed=seed,
            progress=console.bar,
        )
    for reason, count in found.left_out.items():
        console.say(f"{reason}: {count:,}")
    longer = "`dupmae encode --max-length`" if encoded else "--query-length"
    kept, room = found.query_max_length, found.room
    if line := cut_line(found.truncated, found.topics, kept, room, longer):
        console.say(line)
    if json:
        console.print_json(found.to_dict())
    else:
        _print(found)


def _print(found: Diagnosis) -> None:
    from rich.console import Console

    # Wide enough for every table: a terminal breaks lines, and a file keeps them whole.
    screen = Console(soft_wrap=True, highlight=False, markup=False, width=1000)
    weights = " + ".join(f"{weight:g} × {part}" for part, weight in found.weights.items())
    screen.print(
        f"{counted(found.topics, 'topic')}, {counted(found.documents, 'document')}; "
        f"hybrid = {weights}, "
        f"idf power {found.idf_power:g}; nDCG@10 with 95 % intervals"
    )
    for table in (_removals(found), _found(found), _groups(found)):
        screen.print()
        screen.print(table)
    for part, shown in found.examples.items():
        for how in ("won", "lost"):
            if shown[how]:
                screen.print(f"\n{how} by {part}")
            for example in shown[how]:
                screen.print(_example(example))


def _removals(found: Diagnosis) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    refit = any(removal.refitted for removal in found.removals.values())
    table.add_column("ranking")
    headings = ["alone", "interval", "without it", "cost", "interval", "won", "lost"]
    for heading in headings + ["refitted cost", "interval"] * refit:
        table.add_column(heading, justify="right", no_wrap=True)
    for name, alone in found.means.items():
        cells = [f"{alone.mean:.4f}", _between(alone)]
        removal = found.removals.get(name)
        if removal:
            cells += [f"{removal.without:.4f}", f"{removal.cost.mean:+.4f}"]
            cells += [_between(removal.cost), f"{removal.won:,}", f"{removal.lost:,}"]
            if removal.refitted:
                cells += [f"{removal.refitted.mean:+.4f}", _between(removal.refitted)]
        table.add_row(name, *cells)
    return table


def _found(found: Diagnosis) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("answers in the top 10 of")
    for heading in ("answers", "in the hybrid's"):
        table.add_column(heading, justify="right")
    every = len(found.removals)
    for row in found.found:
        only = "only " if len(row.parts) == 1 else ""
        name = "all parts" if len(row.parts) == every else only + " and ".join(row.parts)
        table.add_row(name if row.parts else "no part", f"{row.answers:,}", f"{row.kept:,}")
    return table


def _groups(found: Diagnosis) -> Any:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("topics whose")
    for heading in ("topics", *found.means):
        table.add_column(heading, justify="right")
    for part in found.removals:
        table.add_column(f"cost of {part}", justify="right", no_wrap=True)
    before = ""
    for group in found.groups:
        if group.by != before:
            table.add_row(f"{group.by}:")
            before = group.by
        costs = [
            f"{cost.mean:+.3f} {_between(cost, 3)}{'*' * (_is_sure(cost))}"
            for cost in group.costs.values()
        ]
        means = [f"{mean:.3f}" for mean in group.means.values()]
        table.add_row(f"  {group.name}", f"{group.topics:,}", *means, *costs)
    return table


def _is_sure(cost: Interval) -> bool:
    return cost.is_above_zero or cost.is_below_zero


def _between(values: Interval, digits: int = 4) -> str:
    if values.low is None or values.high is None:
        return "–"
    sign = "+" if values.low < 0 else ""
    return f"{values.low:{sign}.{digits}f} … {values.high:{sign}.{digits}f}"


def _example(example: Example) -> str:
    ranks = ", ".join(
        f"{name} {rank if rank is not None else 'beyond 100'}"
        for name, rank in example.ranks.items()
    )
    answer = clean(f"{example.answer} {example.title}").strip()[:_LONGEST]
    return (
        f"  {clean(example.topic)}: {clean(example.query)[:_LONGEST]} → {answer}\n"
        f"    {example.value:.3f}, without it {example.without:.3f}; rank of the answer: {ranks}"
    )
