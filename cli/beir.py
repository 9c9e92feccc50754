"""`dupmae beir`: from a data set to runs, a table and metrics.json."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    AggregateOption,
    DeviceOption,
    DropSelfOption,
    ExactOption,
    FaissOption,
    FusionOption,
    HeaderOption,
    HybridWeightsOption,
    IdFieldOption,
    JsonOption,
    KOption,
    MeasuresOption,
    Method,
    ModelOption,
    NoBm25Option,
    OverlapOption,
    PassagesOption,
    PlainOption,
    Precision,
    PrecisionOption,
    QueryLengthOption,
    SkipInvalidOption,
    SplitsOption,
    TextFieldOption,
    TitleFieldOption,
    measure_names,
)
from dupmae_cli.recording import draft
from dupmae_cli.runs import self_matches_line
from dupmae_toolkit.errors import counted

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.beir import BeirResult
    from dupmae_toolkit.evaluation.cards import Draft


def _list(wanted: bool) -> None:
    """Print BEIR's data sets, a line each, and end the command."""
    from dupmae_toolkit.collection.beir import drops_self_matches
    from dupmae_toolkit.collection.beir_sets import BEIR_SETS

    if not wanted:
        return
    width = max(len(each.id) for each in BEIR_SETS)
    for each in BEIR_SETS:
        line = f"{each.name:<14}{each.id or 'not public':<{width + 2}}{', '.join(each.splits)}"
        print(line + ("; --drop-self" if drops_self_matches(each.id) else ""))
    raise typer.Exit


def beir(
    dataset: Annotated[
        str,
        typer.Argument(
            metavar="DATASET",
            help="A BEIR folder or zip, or an id of ir_datasets; with --queries and --qrels, a "
            "corpus in any format of `dupmae index`.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="The folder for the runs, metrics, encoded texts and index."
        ),
    ],
    queries: Annotated[
        str | None,
        typer.Option(
            help="The topics of a corpus of your own, in any format of `dupmae search --queries`."
        ),
    ] = None,
    qrels: Annotated[
        str | None,
        typer.Option(
            help="The judgements of a corpus of your own, in any format of `dupmae eval --qrels`."
        ),
    ] = None,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    split: SplitsOption = None,
    model: ModelOption = "builtin",
    k: KOption = 1000,
    bm25: Annotated[
        bool,
        typer.Option("--bm25", help="Also run Lucene's own BM25 (k1 0.9, b 0.4), as lucene-bm25."),
    ] = False,
    no_bm25: NoBm25Option = False,
    plain: PlainOption = False,
    fusion: FusionOption = Method.SUM,
    weights: HybridWeightsOption = None,
    exact: ExactOption = False,
    faiss: FaissOption = "Flat",
    passages: PassagesOption = None,
    overlap: OverlapOption = None,
    aggregate: AggregateOption = None,
    measures: MeasuresOption = None,
    drop_self: DropSelfOption = None,
    skip_invalid: SkipInvalidOption = False,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
    list_sets: Annotated[
        bool,
        typer.Option(
            "--list",
            is_eager=True,
            callback=_list,
            help="List BEIR's data sets with their ids and splits, and exit.",
        ),
    ] = False,
) -> None:
    """Run a BEIR data set: encode, index, search in every mode, and measure.

    OUTPUT gets a run for each mode, <dataset>.<mode>.trec; the judgements; metrics.json,
    which --json also prints; and card.json, from which `dupmae reproduce` repeats the
    command. `dupmae report OUTPUT` makes a page about the runs. OUTPUT also keeps the
    encoded texts and the index, and a second call reuses them; if interrupted, run the same
    command to continue. --fusion, --weights and --exact apply to the hybrid run, --plain to
    the hybrid and the lexical run.

    If a folder or zip holds several data sets (CQADupStack), each gets a folder in
    OUTPUT, and the mean of their means is shown, too. Repeat --split for several
    splits: the documents are encoded and indexed once.

    A corpus of your own needs no special layout: name its topics with --queries and its
    judgements with --qrels. They count as one split, called test or as --split says. --id,
    --title, --text and --header are for this corpus.

    [bold]Examples:[/bold]

      dupmae beir scifact.zip --output runs/scifact

      dupmae beir scifact.zip --output runs/scifact --bm25 --model my-model --json

      dupmae beir beir/nfcorpus/test --output runs/nfcorpus -k 100

      dupmae beir notes.jsonl --queries questions.tsv --qrels notes.qrels --output runs/notes

      dupmae beir msmarco-passage --split dev --split trec-dl-2019 --output runs/msmarco
    """
    from dupmae_toolkit.collection.fields import Columns
    from dupmae_toolkit.collection.passages import passages_of
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.evaluation.beir import (
        BeirOptions,
        metrics_of,
        open_checked,
        run_beir,
    )
    from dupmae_toolkit.evaluation.card_reading import is_card, without_card
    from dupmae_toolkit.evaluation.cards import FOLDER_CARD
    from dupmae_toolkit.files import make_folder
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    cutting = passages_of(passages, overlap)
    if aggregate is not None and cutting is None:
        raise InputError("--aggregate goes with --passages")
    splits = split or ["test"]
    options = BeirOptions(
        split=splits[0],
        more_splits=splits[1:],
        k=k,
        bm25=bm25,
        words=not no_bm25,
        plain=plain,
        fusion=Fusion(fusion.value, parse_weights(weights)),
        exact=exact,
        faiss=faiss,
        measures=tuple(measure_names(measures)),
        drop_self=drop_self,
        passages=cutting,
        aggregate=aggregate.value if aggregate else None,
        queries=queries,
        qrels=qrels,
        columns=Columns(id_field, title, text, header),
    )
    # Before a model is loaded, which takes seconds.
    open_checked(dataset, options, skip_invalid=skip_invalid)
    stands = output / FOLDER_CARD
    if stands.exists() and not is_card(stands):
        raise InputError.at(stands, None, "is no card; name another folder")
    make_folder(output)
    card = draft()
    console.if_interrupted(lambda: console.kept(output))
    try:
        from dupmae_toolkit.model.loading import load_encoder

        encoder = load_encoder(
            model, device=device, precision=precision.value, query_max_length=query_length
        )
        console.say_remarks(encoder)
        console.say_no_room(query_length, encoder.info.query_max_length, model)
        with without_card(output):
            results = run_beir(
                dataset, encoder, output, options, skip_invalid=skip_invalid, progress=console.bar
            )
    finally:
        with contextlib.suppress(OSError):
            output.rmdir()  # succeeds only if it is empty
    _write_card(card, output, results)
    for result in results:
        console.say(_summary(result, getattr(encoder, "room", None)))
    if json:
        console.print_json(metrics_of(results))
    else:
        _print_table(results)


def _write_card(card: Draft, output: Path, results: list[BeirResult]) -> None:
    """One card for all that the command wrote."""
    from dupmae_toolkit.evaluation.cards import FOLDER_CARD, about_beir, names_of

    runs = [path for result in results for path in result.runs.values()]
    several = len(results) > 1
    figures = {
        f"{name} {mode}" if several else mode: scores.means
        for name, result in zip(names_of(results), results, strict=True)
        for mode, scores in result.scores.items()
    }
    card.write(output / FOLDER_CARD, runs, about_beir(results), figures)


def _summary(result: BeirResult, room: int | None) -> str:
    """room: the tokens that the encoder can read; None: not known."""
    first = next(iter(result.scores.values()))
    topics = first.judged
    size = f"{counted(result.documents, 'document')}, {counted(topics, 'topic')}"
    line = f"{result.dataset}, {result.split}: {size}"
    if first.unjudged:
        line += f"; {counted(first.unjudged, 'topic')} without judgements searched but not measured"
    if result.skipped:
        line += f"; {result.left_out}"
    counts = result.texts["truncated"]
    if counts["documents"]:
        what = "passage" if result.about["passages"] else "document"
        line += f"; {counted(counts['documents'], what)} cut at {counts['max_length']} tokens"
    if counts["queries"]:
        kept = counts["query_max_length"]
        # Each judged topic has a text: the others were searched in addition.
        searched = counted(topics + first.unjudged, "query")
        line += f"; {counts['queries']:,} of {searched} cut at {kept} tokens"
        line += " (--query-length)" if room is None or kept < room else ""
    for said in (result.unknown.said("corpus"), self_matches_line(result.self_matches)):
        line += f"; {said}" if said else ""
    if result.reused:
        line += f"; reused: {', '.join(result.reused)}"
    return line


def _print_table(results: list[BeirResult]) -> None:
    from rich.table import Table
    from rich.text import Text

    from dupmae_toolkit.evaluation.beir import mean_of_means

    by_split: dict[str, list[BeirResult]] = {}
    for result in results:
        by_split.setdefault(result.split, []).append(result)
    titled = {"split": len(by_split) > 1, "data set": len(results) > len(by_split)}
    table = Table(box=None, pad_edge=False)
    columns = list(next(iter(results[0].scores.values())).means)
    for name in [*(title for title, shown in titled.items() if shown), "mode"]:
        table.add_column(name, overflow="fold")
    for name in columns:
        table.add_column(name, justify="right", no_wrap=True)
    for split, of_one in by_split.items():
        blocks = [({m: s.means for m, s in one.scores.items()}, one.dataset) for one in of_one]
        if len(of_one) > 1:
            means = mean_of_means(of_one)
            blocks.append(({mode: means[mode] for mode in of_one[0].scores}, "mean"))
        for modes, dataset in blocks:
            titles = zip((split, dataset), titled.values(), strict=True)
            shown = [Text(title) for title, is_shown in titles if is_shown]
            best = {name: max(values[name] for values in modes.values()) for name in columns}
            for mode, values in modes.items():
                cells = [
                    Text(f"{values[name]:.4f}", style="bold" if values[name] == best[name] else "")
                    for name in columns
                ]
                table.add_row(*shown, mode, *cells)
    console.screen().print(table)
    for result in results:
        for path in result.runs.values():
            console.say(f"wrote {path}")
