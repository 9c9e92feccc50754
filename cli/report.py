"""`dupmae report`: one page of HTML about a folder of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    DropSelfOption,
    JsonOption,
    MeasuresOption,
    measure_names,
    qrels_option,
    split_option,
)
from dupmae_toolkit.errors import counted

#: The page's file in the folder of runs, unless another is named.
_PAGE = "report.html"


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="DIR",
            help="A folder with TREC runs (.trec or .run, plain or compressed), such as "
            "`dupmae beir` writes; or a folder of such folders.",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="The page to write.", show_default=f"DIR/{_PAGE}"),
    ] = None,
    qrels: Annotated[
        str | None,
        qrels_option("what `dupmae beir` wrote into DIR, or the only .qrels file there"),
    ] = None,
    split: Annotated[str | None, split_option("none: --qrels is a file")] = None,
    measures: MeasuresOption = None,
    baseline: Annotated[
        str | None,
        typer.Option(
            help="The run to compare the others with, by its name on the page.",
            show_default="lucene-bm25 or bm25, else the first run by name",
        ),
    ] = None,
    drop_self: DropSelfOption = None,
    queries: Annotated[
        str | None,
        typer.Option(
            help="The topics' texts, in any format of `dupmae search --queries`.",
            show_default="what `dupmae beir` encoded in DIR, or what the runs name, if that lies "
            "in DIR or below the current folder",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option(
            "--index",
            "-i",
            help="The index that explains scores.",
            show_default="DIR/index, or the run's, if that lies in DIR or below the current folder",
        ),
    ] = None,
    topics: Annotated[
        int,
        typer.Option(
            min=0,
            help="Show up to this many topics with the largest gains, and as many with the largest "
            "losses.",
        ),
    ] = 3,
    title: Annotated[
        str | None, typer.Option(help="The title of the page.", show_default="named after DIR")
    ] = None,
    json: JsonOption = False,
) -> None:
    """Write a page about a folder of runs: tables, plots, significance, examples.

    The page is one file of HTML without scripts or outside addresses; it follows the light
    or dark setting of the reader's system. The measures are by default those that
    `dupmae beir` computed in DIR; the plots and the examples use the first.
    If runs of the single parts lie beside a hybrid run, the page shows the topics that each
    part wins. If the index of the runs still exists, the page explains the scores of the
    examples. The same runs give the same page.

    [bold]Examples:[/bold]

      dupmae report runs/scifact

      dupmae report runs --qrels qrels.txt --output paper.html --baseline bm25

      dupmae report runs --qrels scifact.zip --split test --measures "nDCG@10 P@5"
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.measures import parse_measures
    from dupmae_toolkit.evaluation.report.beir_runs import own_measures
    from dupmae_toolkit.evaluation.report.examples import examples_of
    from dupmae_toolkit.evaluation.report.explained import explain
    from dupmae_toolkit.evaluation.report.folder import folders_of_runs, read_sections, runs_in
    from dupmae_toolkit.evaluation.report.named import Named
    from dupmae_toolkit.evaluation.report.page import is_page, page
    from dupmae_toolkit.evaluation.sweep.running import RUNS
    from dupmae_toolkit.files import atomic_file, check_file_output

    if split is not None and qrels is None:
        raise InputError("--split goes with --qrels, which names the data set")
    given: list[str] = []
    if measures is None and qrels is None and folder.is_dir():
        places = [folder] if runs_in(folder) else folders_of_runs(folder)
        given = next(filter(None, map(own_measures, places)), [])
    names = [str(measure) for measure in parse_measures(given or measure_names(measures))]
    place = folder / _PAGE if output is None else output
    if place.suffix.lower() not in (".html", ".htm"):
        raise InputError(f"--output {place}: a page is HTML; name a file that ends in .html")
    if index is not None and not index.is_dir():
        raise InputError.at(index, None, "no such folder; --index names an index")
    named = Named(folder, queries, index)
    sections = read_sections(folder, qrels, split, names, baseline, drop_self, named)
    check_file_output(place, "the page")
    if output is None and place.exists() and not is_page(place):
        raise InputError.at(place, None, "is no report; name another place with --output")
    chosen = []
    for section in sections:
        examples = examples_of(section, topics)
        explain(section, examples, named)
        chosen.append((section, examples))
    whole = folder.resolve()
    held = whole.parent.name if whole.name == RUNS and whole.parent.name else whole.name
    written = page(chosen, title or f"Runs of {held}")
    with atomic_file(place) as temporary:
        temporary.write_text(written, "utf-8")
    if json:
        sets: list[dict[str, Any]] = [
            {
                "name": section.name,
                "baseline": section.measured.baseline,
                "topics": len(section.qrels),
                "runs": {label: s.means for label, s in section.measured.scores.items()},
                "notes": section.notes,
                "read": section.read,
            }
            for section in sections
        ]
        console.print_json({"output": str(place), "sets": sets})
        return
    for section in sections:
        for note in section.notes:
            console.say(f"{section.name}: {note}")
        if section.read:
            console.say(f"{section.name}: read {', '.join(section.read)}")
    runs = sum(len(section.runs) for section in sections)
    topics_read = sum(len(section.qrels) for section in sections)
    console.say(f"wrote {place}: {counted(runs, 'run')}, {counted(topics_read, 'topic')}")
