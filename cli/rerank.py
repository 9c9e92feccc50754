"""`dupmae rerank`: the first documents of a run in the order of a cross-encoder's scores."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.formats import Format, RunFormatOption, check_run_form, gets_card, write_found
from dupmae_cli.options import (
    CORPORA,
    CrossEncoderLengthOption,
    DeviceOption,
    HeaderOption,
    IdFieldOption,
    JsonOption,
    LabelOption,
    Precision,
    PrecisionOption,
    TagOption,
    TextFieldOption,
    TitleFieldOption,
    split_option,
)
from dupmae_cli.recording import draft
from dupmae_cli.runs import check_run, report_run
from dupmae_toolkit.errors import counted


def rerank(
    run: Annotated[
        Path,
        typer.Argument(
            metavar="RUN", help="A TREC run, plain or compressed; - for standard input."
        ),
    ],
    corpus: Annotated[
        str, typer.Option(metavar="CORPUS", help=f"The texts of the documents: {CORPORA}.")
    ],
    queries: Annotated[
        str, typer.Option(help="The queries of the run, in any form that `search --queries` takes.")
    ],
    cross_encoder: Annotated[
        str,
        typer.Option(help="A sequence classifier of transformers, as a folder or a hub id."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The run to write; - for standard output.")
    ],
    split: Annotated[str | None, split_option("all queries")] = None,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    depth: Annotated[
        int,
        typer.Option(min=1, help="Documents of each topic to rank again; the others come below."),
    ] = 100,
    label: LabelOption = None,
    max_length: CrossEncoderLengthOption = None,
    tag: TagOption = None,
    format: RunFormatOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Rank the first documents of a run again with a cross-encoder.

    It reads query and text together, which is slow: only the first --depth documents of each topic
    are scored. The others keep their order below these. OUTPUT gets the run, OUTPUT.json the
    settings that made it, and OUTPUT.card.json what `dupmae reproduce` needs to repeat it. `dupmae
    eval` measures the run.

    [bold]Examples:[/bold]

      dupmae rerank a.trec --corpus x.zip --queries x.zip --cross-encoder my-model --output b.trec
    """
    from dupmae_toolkit.collection.fields import Columns
    from dupmae_toolkit.collection.opening import open_corpus, read_topics
    from dupmae_toolkit.collection.trec import read_run
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.search.reranking import rerank as work

    form = format or Format.TREC
    check_run_form(output, form, json)
    check_run(output, tag, form)
    if output.exists() and run.exists() and run.samefile(output):
        raise InputError(f"{output}: is the run to be ranked again; name another output")
    card = draft() if gets_card(output, form) else None
    first = read_run(run)
    columns = Columns(id_field, title, text, header)
    topics, texts = read_topics(queries, split), open_corpus(corpus, columns=columns)
    # Imported late, because it takes seconds: errors in the files are reported first.
    from dupmae_toolkit.mining.teachers.cross_encoder import CrossEncoder

    scorer = CrossEncoder(
        cross_encoder,
        label=label,
        max_length=max_length,
        device=device,
        precision=precision.value,
    )
    made = work(
        first, topics.queries, texts, scorer, depth, tag=tag, source=run, progress=console.bar
    )
    made.metadata["reranked"] |= {"cut": scorer.cut}
    made.metadata |= {"run": str(run), "corpus": corpus, "queries": queries, "split": split}
    write_found(made, output, form, card)
    for note in topics.reading.notes():
        console.say(note)
    console.say_notes(texts)
    report_run(made, output, {"mode": f"the first {depth:,} ranked again"}, json)
    if scorer.cut and not json:
        console.say(
            f"{counted(scorer.cut, 'pair')} cut at {scorer.max_length} tokens, query and text "
            "together"
        )
