"""`dupmae explain`: why documents have their scores for a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.hits import clean, passage
from dupmae_cli.options import (
    AggregateOption,
    DeviceOption,
    ExactOption,
    FeedbackDocumentsOption,
    FeedbackOption,
    FeedbackTermsOption,
    FeedbackWeightOption,
    FusionOption,
    HybridWeightsOption,
    IdfPowerOption,
    IndexModelOption,
    IndexOption,
    JsonOption,
    KOption,
    Method,
    Mode,
    NormOption,
    PlainOption,
    Precision,
    PrecisionOption,
    QueryLengthOption,
    QueryTermsOption,
    RrfOption,
    feedback_of,
)
from dupmae_cli.questions import check_fuses, one_question

if TYPE_CHECKING:
    from rich.text import Text

    from dupmae_toolkit.search.answers import Request
    from dupmae_toolkit.search.explanation import Explanation, Term

#: Terms that are shown for each document; one line has the sum of the smaller shares.
_TERMS = 20


def explain(
    index: IndexOption,
    query: Annotated[
        str,
        typer.Argument(metavar="QUESTION", help="One question, in quotes; - for standard input."),
    ],
    ids: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="ID", help="The documents to explain.", show_default="the best hits"
        ),
    ] = None,
    k: KOption = 10,
    mode: Annotated[Mode, typer.Option(help="Which scores to explain.")] = Mode.HYBRID,
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
    aggregate: AggregateOption = None,
    feedback: FeedbackOption = None,
    fb_docs: FeedbackDocumentsOption = None,
    fb_terms: FeedbackTermsOption = None,
    fb_weight: FeedbackWeightOption = None,
    query_terms: QueryTermsOption = None,
    terms: Annotated[
        int, typer.Option(min=0, help="Terms to show for each document; 0: all.")
    ] = _TERMS,
    model: IndexModelOption = None,
    query_length: QueryLengthOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    json: JsonOption = False,
) -> None:
    """Explain scores: what each term and each part adds, and each rank.

    The dense share and the shares of all terms sum to the score. A share is the
    part's weight × the term's weight in the query × its impact / scale. The
    term's weight in the query is shown as weight × factor; the factor depends on
    how many documents of the index have the term. A token that does not stand in
    the title or text is an expansion. The whole text is looked through, also
    beyond the length that was encoded.

    Ranks are exact: the place among all documents, by the part alone and by the
    score. Where only a search can tell, it looks down to rank 10,000 of a part
    and 1,000 of the score. With a --fusion that reads ranks or normalised
    scores, the contributions of the lists sum to the score.

    With --feedback, the second query is explained: the weight of a term in it is
    that of the mixture, and terms that feedback added are marked.

    [bold]Examples:[/bold]

      dupmae explain --index indexes/notes "how do I parse a date" 1 2

      dupmae explain --index indexes/notes "how do I parse a date" -k 3 --json

      dupmae explain --index indexes/notes "how do I parse a date" --fusion rrf
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.records import Query, is_blank
    from dupmae_toolkit.search.fusion import Fusion, parse_weights
    from dupmae_toolkit.search.hybrid_index import HybridIndex
    from dupmae_toolkit.search.queries import said_cut

    if query == "-":
        query = one_question()
    if is_blank(query):
        raise InputError("the question has no text; give it some words")
    again = feedback_of(feedback, fb_docs, fb_terms, fb_weight)
    how = Fusion(fusion.value, parse_weights(weights), norm.value if norm else None, rrf_k=rrf_k)
    check_fuses(mode.value, how != Fusion(rrf_k=rrf_k) or depth is not None)
    with HybridIndex.open(
        index, model, query_max_length=query_length, device=device, precision=precision.value
    ) as opened:
        way = aggregate.value if aggregate else None
        request = opened.request(
            k,
            mode.value,
            how,
            depth,
            exact,
            plain,
            idf_power,
            aggregate=way,
            feedback=again,
            query_terms=query_terms,
        )
        vectors = opened.vectors([Query("0", query)], request.parts)
        explained = opened.explanations(vectors, request, ids or None)
    console.say_no_room(query_length, vectors.max_length, opened.manifest.encoder.name)
    if json:
        hits = [each.to_dict() for each in explained]
        console.print_json({"query": query, **_described(request), "hits": hits})
        return
    for each in explained:
        _print(each, terms)
    if not explained:
        console.say("no document matches")
    if line := said_cut(vectors, "--query-length"):
        console.say(line)


def _described(request: Request) -> dict[str, Any]:
    """How the scores were computed."""
    fused = request.mode == "hybrid"
    return {
        "mode": request.mode,
        "parts": list(request.parts),
        "idf_power": request.idf_power,
        "fusion": request.fusion.describe(len(request.parts), True) if fused else None,
        "feedback": request.feedback.to_dict() if request.feedback else None,
        "query_terms": request.query_terms,
        "depth": request.depth if fused and not request.fusion.is_sum else None,
    }


def _print(each: Explanation, most: int) -> None:
    """Print one explanation: score and ranks, the parts, the terms, and the passage."""
    from rich.text import Text

    from dupmae_toolkit.search.explanation import FUSED, shown_rank

    out = console.screen()
    heading = Text(clean(each.id), style="bold")
    if each.summed:
        heading.append(f"  passages {', '.join(map(str, each.summed))}", "not bold")
    elif each.passage is not None:
        heading.append(f"  passage {each.passage.number}", "not bold")
    if each.title.text:
        heading.append("  ").append(passage(each.title))
    out.print(heading)
    if each.score is None:
        out.print(
            "no score: it is in none of the lists that were fused; --depth reads more of them"
        )
    else:
        out.print(f"score {each.score:.4f}, rank {shown_rank(each.ranks[FUSED])}")
    parts = _table("part", "weight", "score", "contributes", "rank")
    for part, own in each.lists.items():
        added = "–" if own.contribution is None else f"{own.contribution:.4f}"
        rank = shown_rank(each.ranks[part])
        parts.add_row(part, f"{own.weight:g}", f"{own.score:.4f}", added, rank)
    out.print(parts)
    if each.terms:
        terms = _table("term", "kind", "in the query", "impact", "share", "")
        shown = each.terms[: most or None]
        for term in shown:
            terms.add_row(*_cells(term))
        left = each.terms[len(shown) :]
        if left:
            more = f"{len(left):,} more"
            terms.add_row(Text(more), "", "", "", f"{sum(t.share for t in left):.4f}", "")
        out.print(terms)
    if each.snippet.text:
        out.print(passage(each.snippet))
    out.print()


def _table(*columns: str) -> Any:
    from rich.table import Table

    table = Table(box=None, padding=(0, 1), pad_edge=False)
    for column in columns:
        text = column in ("part", "term", "kind", "")
        table.add_column(column, justify="left" if text else "right", no_wrap=column != "term")
    return table


def _cells(term: Term) -> list[str | Text]:
    from rich.text import Text

    origin = {True: "", False: "expansion", None: "in the text or an expansion"}[term.in_text]
    if term.added:
        origin = f"{origin}, by feedback" if origin else "by feedback"
    weight = f"{term.weight:.3g} × {term.factor:.3g} = {term.query_weight:.3g}"
    share = f"{term.share:.4f}"
    # Text, not str: rich would read brackets in a token as markup.
    return [Text(clean(term.term)), term.kind, weight, f"{term.impact:,}", share, origin]
