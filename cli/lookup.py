"""`dupmae derive-lookup`: a table of weights and vectors, for queries without the network."""

from __future__ import annotations

from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import DeviceOption, JsonOption


def derive_lookup(
    model: Annotated[
        str,
        typer.Argument(metavar="MODEL", help="The encoder: builtin, a folder or a hub id."),
    ],
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="CORPUS",
            help="Texts to fit dense vectors to, in any format of `dupmae index`: titles, "
            "sentences and phrases are cut out of them. May be given several times.",
        ),
    ] = None,
    queries: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE", help="Queries to fit dense vectors to. May be given several times."
        ),
    ] = None,
    most: Annotated[
        int,
        typer.Option(min=1, help="Fit to at most this many texts: queries first."),
    ] = 100_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed for cutting and sampling.")] = 1,
    device: DeviceOption = None,
    json: JsonOption = False,
) -> None:
    """Make a table for `dupmae search --query-encoder lookup`.

    Each token of the vocabulary gets the weight that the network gives it in a
    query of this token alone. With texts or queries, each token also gets a
    vector, and the dense vector of a query is computed from those of its tokens.
    The table is written beside the model's weights, as lookup.safetensors, and
    replaces an earlier one.

    [bold]Examples:[/bold]

      dupmae derive-lookup builtin

      dupmae derive-lookup builtin --texts notes.jsonl --texts more.csv

      dupmae derive-lookup my-model --texts corpus.jsonl --queries topics.tsv --json
    """
    from dupmae_toolkit.model.lookup_derivation import derive_lookup as derive

    def read() -> list[str]:
        from dupmae_toolkit.training.data.query_texts import query_texts

        return query_texts(texts or [], queries or [], most, seed)

    wanted = read if texts or queries else ()
    made = derive(model, wanted, device=device, progress=console.bar)
    if json:
        console.print_json(
            {
                "table": str(made.path),
                "tokens": made.tokens,
                "without_weight": made.without,
                "mean_weight": made.mean,
                "fitted_texts": made.texts,
                "held_out_texts": made.held_out,
                "held_out_cosine": made.cosine if made.held_out else None,
            }
        )
        return
    console.say(
        f"wrote {made.path}: {made.tokens:,} tokens, {made.without:,} of them without a weight; "
        f"mean weight {made.mean:.3g}"
    )
    if not made.texts:
        console.say("no dense vectors; --texts CORPUS fits them")
        return
    seen = "no text was held out"
    if made.held_out:
        seen = (
            f"the mean cosine with the network's vectors is {made.cosine:.3f} on {made.held_out:,} "
            "held-out texts"
        )
    console.say(f"dense vectors fitted to {made.texts:,} texts; {seen}")
