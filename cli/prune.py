"""`dupmae prune`: a copy of an index whose documents keep only their largest impacts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption
from dupmae_toolkit.errors import counted


def prune(
    index: Annotated[Path, typer.Argument(metavar="INDEX", help="The folder of the index.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The folder of the new index.")],
    keep: Annotated[
        float | None,
        typer.Option(help="Keep this share of each document's impacts, as in 0.5, rounded up."),
    ] = None,
    terms: Annotated[
        int | None, typer.Option(help="Keep so many of each document's impacts.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Keep the impacts of at least this, an integer from 1.")
    ] = None,
    words: Annotated[
        bool,
        typer.Option("--words", help="Prune BM25's impacts of words too, apart from the tokens'."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write a smaller copy of an index: documents keep only their largest impacts.

    Give one of --keep, --terms and --threshold. Texts, dense vectors, lengths and weights are
    copied as they are; nothing is encoded. Frequencies are counted in what is kept. Documents that
    are added to the copy later are pruned in the same way. INDEX stays as it is. If interrupted,
    there is no copy; run the same command again.

    [bold]Examples:[/bold]

      dupmae prune indexes/notes --output indexes/half --keep 0.5

      dupmae prune indexes/notes --output indexes/small --terms 64 --words
    """
    from dupmae_toolkit.index.prune import prune_index
    from dupmae_toolkit.index.pruning import Pruning

    rule = Pruning(keep, terms, threshold, words)
    console.if_interrupted(lambda: f"{output} was not written; run the same command again")
    done = prune_index(index, output, rule, console.bar)
    if json:
        console.print_json(
            {
                "index": str(index),
                "output": str(output),
                "pruning": rule.to_dict(),
                "documents": done.manifest.documents,
                "tokens": {"kept": done.tokens, "of": done.tokens_before},
                "words": {"kept": done.words, "of": done.words_before},
                "emptied": done.emptied,
                "bytes": {"now": done.bytes, "before": done.bytes_before},
            }
        )
        return
    emptied, row = "", "passage" if done.manifest.passages else "document"
    if done.emptied:
        kept = "keeps" if done.emptied == 1 else "keep"
        emptied = f"{counted(done.emptied, row)} {kept} no impact of tokens; "
    console.say(
        f"{output}: {counted(done.manifest.documents, 'document')}; impacts kept: "
        f"{_share(done.tokens, done.tokens_before)} of tokens, "
        f"{_share(done.words, done.words_before)} of words; {emptied}"
        f"{done.bytes:,} bytes, before {done.bytes_before:,}"
    )


def _share(kept: int, before: int) -> str:
    share = f" ({kept / before:.1%})" if before else ""
    return f"{kept:,} of {before:,}{share}"
