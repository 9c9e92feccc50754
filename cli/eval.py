"""`dupmae eval`: measure runs, with the values that trec_eval gives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.formats import Format, FormatOption, form_of, write_csv, write_line
from dupmae_cli.options import (
    DropSelfOption,
    JsonOption,
    MeasuresOption,
    QrelsOption,
    RunsArgument,
    measure_names,
    split_option,
)
from dupmae_cli.runs import say_missed, say_self_matches
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.judging import Measured
    from dupmae_toolkit.evaluation.measures import Scores
    from dupmae_toolkit.evaluation.missed import Unknown


def evaluate(
    runs: RunsArgument,
    qrels: QrelsOption,
    measures: MeasuresOption = None,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    per_topic: Annotated[
        bool, typer.Option("--per-topic", help="Also print the values of each topic.")
    ] = False,
    drop_self: DropSelfOption = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="The corpus that was searched, in any format of `dupmae index`, to count the "
            "judged documents that it lacks."
        ),
    ] = None,
    format: FormatOption = None,
    json: JsonOption = False,
) -> None:
    """Measure runs against judgements, with the values that trec_eval gives.

    Prints a table with a row for each run. Means are over all judged topics, as with
    `trec_eval -c`: a topic that a run lacks counts as 0. --json is --format json. csv
    and jsonl have a row for each value; trec has the columns of trec_eval, and takes
    only one run. Only nDCG, ERR, RBP and Compat take grades such as 0.5. Measures of
    diversity, such as alpha_nDCG@10, need qrels with subtopics in the second column.

    [bold]Examples:[/bold]

      dupmae eval --qrels scifact/qrels/test.tsv runs/scifact.hybrid.trec

      dupmae eval --qrels scifact.zip --split test runs/*.trec --measures "nDCG@10 P(rel=2)@5"

      dupmae fuse a.trec b.trec --output - | dupmae eval --qrels qrels.txt - --format csv

      dupmae eval --qrels qrels.txt run.trec.gz --per-topic --json

      dupmae eval --qrels diversity.txt run.trec --measures "alpha_nDCG@10 ERR_IA@10"
    """
    from dupmae_toolkit.collection.opening import open_corpus
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.judging import read_judging
    from dupmae_toolkit.evaluation.missed import unknown_among

    form = form_of(format, json, Format.TABLE)
    if form == Format.TREC and len(runs) > 1:
        raise InputError(
            f"--format trec has no column for the run; give one of the {len(runs)}, or choose "
            "--format csv"
        )
    judging = read_judging(qrels, split, measure_names(measures), drop_self)
    unknown: Unknown | None = None
    if corpus is not None:
        # Documents that cannot be indexed cannot be found either, so skip them.
        documents = open_corpus(corpus, skip_invalid=True)
        unknown = unknown_among(judging.qrels, (each.id for each in documents))
        console.say_notes(documents)
    measured: dict[str, Measured] = {}
    for path in runs:
        run = read_run(path)
        try:
            measured[str(path)] = judging.measured(run)
        except InputError as error:
            raise InputError.at(path, None, str(error)) from error
    found = {name: each.scores for name, each in measured.items()}
    if form == Format.JSON:
        console.print_json(_document(qrels, len(judging.qrels), measured, unknown, per_topic))
        return
    if form == Format.TABLE:
        _print_table(found, per_topic)
    else:
        _print_values(found, per_topic, form)
    if unknown and (line := unknown.said("corpus")):
        console.say(line)
    for name, each in measured.items():
        say_missed(name, each.scores, each.missed)
        missed = each.missed
        if missed.missed and missed.ids is None:
            relevant = counted(missed.relevant, "relevant document")
            console.say(f"{name}: lacks {missed.missed:,} of {relevant}")
        say_self_matches(name, each.self_matches)


def _document(
    qrels: str,
    judged: int,
    measured: dict[str, Measured],
    unknown: Unknown | None,
    per_topic: bool,
) -> Any:
    runs = []
    for path, (scores, missed, self_matches) in measured.items():
        entry: dict[str, Any] = {
            "run": path,
            "returned": scores.returned,
            "unjudged": scores.unjudged,
            "relevant": missed.relevant,
            "relevant_missed": missed.missed,
            **self_matches.about(),
            "measures": scores.means,
        }
        if per_topic:
            entry["per_topic"] = scores.per_topic
        runs.append(entry)
    about = unknown.about() if unknown else {}
    return {"qrels": qrels, "judged": judged, **about, "runs": runs}


def _print_values(found: dict[str, Scores], per_topic: bool, form: Format) -> None:
    """Print a row for each value; ``all`` stands for the mean, as in trec_eval."""
    names = ("run", "topic", "measure", "value")
    rows: list[tuple[str, str, str, float]] = []
    for path, scores in found.items():
        for topic in next(iter(scores.per_topic.values())) if per_topic else ():
            rows += [(path, topic, name, of[topic]) for name, of in scores.per_topic.items()]
        rows += [(path, "all", name, value) for name, value in scores.means.items()]
    out = console.results()
    if form == Format.CSV:
        write_csv(out, names, rows)
    for row in rows:
        if form == Format.JSONL:
            write_line(out, dict(zip(names, row, strict=True)))
        elif form == Format.TREC:
            print(f"{row[2]:<22}\t{row[1]}\t{row[3]:.4f}", file=out)


def _print_table(found: dict[str, Scores], per_topic: bool) -> None:
    from rich.table import Table

    for path, scores in found.items() if per_topic else ():
        for topic in next(iter(scores.per_topic.values())):
            for name, values in scores.per_topic.items():
                print(f"{path}\t{topic}\t{name}\t{values[topic]:.4f}")
    table = Table(box=None, pad_edge=False)
    table.add_column("run", overflow="fold")
    for name in next(iter(found.values())).means:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("topics", justify="right", no_wrap=True)
    for path, scores in found.items():
        cells = [f"{value:.4f}" for value in scores.means.values()]
        table.add_row(path, *cells, f"{scores.returned:,}/{scores.judged:,}")
    console.screen().print(table)
