"""`dupmae search`: search an index for one question, or for many queries into a TREC run."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.formats import (
    STANDARD_OUTPUT,
    Format,
    check_run_form,
    form_of,
    format_option,
    gets_card,
)
from dupmae_cli.options import (
    AggregateOption,
    AmongOption,
    DeviceOption,
    DropSelfOption,
    ExactOption,
    FeedbackDocumentsOption,
    FeedbackOption,
    FeedbackTermsOption,
    FeedbackWeightOption,
    FilterOption,
    FusionOption,
    HeaderOption,
    HybridWeightsOption,
    IdFieldOption,
    IdfPowerOption,
    IndexModelOption,
    JsonOption,
    Method,
    Mode,
    NormOption,
    OffsetOption,
    PlainOption,
    Precision,
    PrecisionOption,
    QueryEncoder,
    QueryLengthOption,
    QueryTermsOption,
    RrfOption,
    TagOption,
    TextFieldOption,
    feedback_of,
    k_option,
    reading_of,
    split_option,
)
from dupmae_cli.questions import check_fuses, one_question
from dupmae_cli.recording import draft
from dupmae_cli.runs import check_run
from dupmae_cli.searching import search_many, search_one

if TYPE_CHECKING:
    from dupmae_toolkit.encoding.vectors import StoredVectors
    from dupmae_toolkit.records import Encoder


def search(
    index: Annotated[
        Path,
        typer.Option(
            "--index",
            "-i",
            help="The index to search, or a FAISS or Lucene folder that Pyserini built.",
        ),
    ],
    query: Annotated[
        str | None,
        typer.Argument(metavar="QUESTION", help="One question, in quotes; - for standard input."),
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            help="Many queries: JSON, CSV, TSV, text (a query per line), a BEIR folder or zip, an "
            "ir_datasets id, - for standard input, or what `dupmae encode --queries` wrote. "
            "With --split, only the queries that are judged in that split."
        ),
    ] = None,
    split: Annotated[str | None, split_option("all queries")] = None,
    id_field: IdFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write: the run for --queries, or the hits of a question with a "
            "--format other than table; - for standard output.",
        ),
    ] = None,
    format: Annotated[
        Format | None,
        format_option(
            "table for a question, trec for --queries",
            "How hits are written: a table, JSON, JSON lines, CSV, or TREC's columns.",
        ),
    ] = None,
    k: Annotated[int | None, k_option("10 for a question, 1000 for --queries")] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(
            help="Which scores to rank by.",
            show_default="hybrid; for a Pyserini index, the only one it has",
        ),
    ] = None,
    fusion: FusionOption = Method.SUM,
    norm: NormOption = None,
    weights: HybridWeightsOption = None,
    plain: PlainOption = False,
    idf_power: IdfPowerOption = None,
    rrf_k: RrfOption = 60.0,
    depth: Annotated[
        int | None,
        typer.Option(
            help="Hits to take for each part of the score before fusion.",
            show_default="4 × k, but within 100 to 1000, and at least k",
        ),
    ] = None,
    exact: ExactOption = False,
    filter: FilterOption = None,
    among: AmongOption = None,
    offset: OffsetOption = None,
    aggregate: AggregateOption = None,
    drop_self: DropSelfOption = None,
    feedback: FeedbackOption = None,
    fb_docs: FeedbackDocumentsOption = None,
    fb_terms: FeedbackTermsOption = None,
    fb_weight: FeedbackWeightOption = None,
    query_terms: QueryTermsOption = None,
    fields: Annotated[
        str | None,
        typer.Option(
            "--fields", help="Further fields to show in the table or CSV, as in year,dept."
        ),
    ] = None,
    tag: TagOption = None,
    model: IndexModelOption = None,
    query_vectors: Annotated[
        Path | None,
        typer.Option(
            "--query-vectors", help="Vectors of --queries, by id, in a format of `index --vectors`."
        ),
    ] = None,
    query_length: QueryLengthOption = None,
    query_encoder: Annotated[
        QueryEncoder,
        typer.Option(
            help="lookup: take the vectors of a query from a table (see `dupmae "
            "derive-lookup`), not from the network, for speed. lookup-terms: its term weights "
            "only; the score then has no dense part, as with a table that was fitted to no texts."
        ),
    ] = QueryEncoder.NETWORK,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Search an index: a question prints a table of hits; --queries writes a run.

    All parts of the score are searched: dense, lexical and bm25. If only some of
    them return a document, its other scores are computed from what is stored.
    Documents are ranked by the weighted sum of all parts, unless --mode or
    --fusion says otherwise. Ties break by document id.

    With --queries, the run is written to OUTPUT. If that is a file with a TREC run,
    OUTPUT.json holds the settings that made it, and OUTPUT.card.json holds what
    `dupmae reproduce` needs to repeat the search. `dupmae eval` measures a TREC run. For a
    question, --json is --format json; with --queries, it prints a summary.

    [bold]Examples:[/bold]

      dupmae search --index indexes/notes "how do I parse a date"

      dupmae search --index indexes/notes "how do I parse a date" --mode lexical -k 3 --json

      dupmae search --index indexes/notes "parse a date" --filter "year >= 2020" --fields year

      dupmae search --index indexes/notes "parse a date" -k 10 --offset 10

      dupmae search --index indexes/scifact --queries scifact.zip --split test --output run.trec

      dupmae search --index indexes/scifact --queries encoded/queries --output run.trec --exact

      dupmae search --index indexes/notes --queries queries.tsv --output - --format jsonl

      dupmae search --index indexes/notes "how do I parse a date" --query-encoder lookup

      dupmae search --index indexes/notes "parse a date" --feedback rm3 --fb-docs 5

      dupmae search --index lucene-index.impact --model my-model "an index of stock Pyserini"
    """
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.interop.pyserini_index import open_searcher
    from dupmae_toolkit.records import is_blank
    from dupmae_toolkit.search.fusion import Fusion, parse_weights

    if query is not None and queries is not None:
        raise InputError(
            f"the question {query!r} and --queries {queries} do not go together; give one of them"
        )
    if query is None and queries is None:
        raise InputError('give a question in quotes, as in "how do I parse a date", or --queries')
    typed = query != "-"
    if not typed:
        query = one_question()
    if query is not None and is_blank(query):
        raise InputError("the question has no text; give it some words")
    if query is not None and drop_self is not None:
        raise InputError("a question has no id; --drop-self and --keep-self go with --queries")
    if query is not None:
        form = form_of(format, json, Format.TABLE)
        if split is not None:
            raise InputError("--split goes with --queries; a question has no split")
        if output is not None and form == Format.TABLE:
            raise InputError(
                "--output writes a run of --queries, or a question's hits with --format json, "
                "jsonl, csv or trec; a question's table goes to the screen"
            )
        if tag is not None and form != Format.TREC:
            raise InputError("--tag names a run; for a question, choose --format trec too")
    else:
        form = format or Format.TREC
    if fields is not None and (queries is not None or form not in (Format.TABLE, Format.CSV)):
        raise InputError("--fields goes with the table or CSV of a question; JSON has all metadata")
    if queries is not None:
        if output is None:
            raise InputError(
                "--queries writes a TREC run; name its file with --output, or - for standard output"
            )
        check_run_form(output, form, json)
    again = feedback_of(feedback, fb_docs, fb_terms, fb_weight)
    how = Fusion(fusion.value, parse_weights(weights), norm.value if norm else None, rrf_k=rrf_k)
    if output is not None:
        check_run(output, tag, form)
    fuses = how != Fusion(rrf_k=rrf_k) or depth is not None
    if mode is not None:
        check_fuses(mode.value, fuses)
    if query_length is not None and queries is not None and EncodedCorpus.is_one(queries):
        raise InputError(
            f"{queries}: holds encoded queries; leave out --query-length, or encode them again "
            "with another --max-length"
        )
    if query_encoder != QueryEncoder.NETWORK:
        if queries is not None and EncodedCorpus.is_one(queries):
            raise InputError(
                f"{queries}: holds encoded queries, which a lookup table cannot encode; leave out "
                "--query-encoder, or give their texts"
            )
        if device is not None or precision != Precision.AUTO:
            raise InputError(
                f"--query-encoder {query_encoder} runs no network; leave out --device and "
                "--precision"
            )
    if mode == Mode.BM25:
        _say_unused(model, query_length, device, precision)
        model = None
    card = draft() if typed and gets_card(output, form) else None
    if not typed and gets_card(output, form):
        console.say(f"{output}: gets no card, since a question from standard input is in no file")
    given: Encoder | None = None
    if query_vectors is not None:
        given = _given_vectors(index, query_vectors, queries, model)
    opened = open_searcher(
        index,
        model if given is None else given,
        device=device,
        precision=precision.value,
        query_max_length=query_length,
        query_encoder=query_encoder.value,
    )
    chosen = mode.value if mode else opened.mode
    check_fuses(chosen, fuses)
    hits = k if k is not None else (10 if query is not None else 1000)
    ids = None
    if among is not None:
        from dupmae_toolkit.collection.ids import read_ids

        ids = read_ids(among)
    request = opened.request(
        hits,
        chosen,
        how,
        depth,
        exact,
        plain,
        idf_power,
        filter,
        ids,
        offset,
        aggregate=aggregate.value if aggregate else None,
        feedback=again,
        query_terms=query_terms,
    )
    if query is not None:
        shown = [name.strip() for name in fields.split(",")] if fields else []
        place = output or STANDARD_OUTPUT
        search_one(opened, query, request, query_length, form, shown, place, tag, card)
        return
    assert queries is not None
    assert output is not None
    columns = reading_of(id_field, None, text, header)["columns"]
    search_many(
        opened,
        queries,
        split,
        columns,
        request,
        output,
        tag,
        query_length,
        json,
        form,
        card,
        drop_self,
    )


def _say_unused(
    model: str | None, query_length: int | None, device: str | None, precision: Precision
) -> None:
    """Say which of these options were given: BM25 has no use for them, and no model is loaded."""
    options = {
        "--model": model,
        "--query-length": query_length,
        "--device": device,
        "--precision": None if precision == Precision.AUTO else precision,
    }
    given = ", ".join(name for name, value in options.items() if value is not None)
    if given:
        console.say(f"mode bm25 encodes nothing: {given} not used")


def _given_vectors(
    index: Path, vectors: Path, queries: str | None, model: str | None
) -> StoredVectors:
    """The vectors of queries in a file, as the encoder of an index."""
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.encoding.vectors import StoredVectors
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.manifest import Manifest

    if queries is None or EncodedCorpus.is_one(queries) or model is not None:
        raise InputError("--query-vectors goes with --queries of ids and texts, without --model")
    manifest = Manifest.load(index)
    vocabulary = manifest.vocabulary(index)
    stored = StoredVectors(vectors, manifest.encoder, vocabulary, queries=True)
    if stored.dropped:
        console.say(f"{vectors}: {stored.dropped:,} weights of terms that no document has")
    return stored
