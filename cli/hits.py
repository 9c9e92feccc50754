"""Hits as a table on the terminal, and texts with their highlights."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from dupmae_cli import console

if TYPE_CHECKING:
    from rich.text import Text

    from dupmae_toolkit.records import Hit
    from dupmae_toolkit.search.snippets import Matcher, Snippet

#: How terms of the query are shown on a terminal.
HIGHLIGHT = "bold yellow"


def print_table(hits: list[Hit], mode: str, matcher: Matcher, fields: Sequence[str] = ()) -> None:
    """Print rank, score and its parts, id, title, and the passage that fits the query best.

    fields: those of the documents to print in columns of their own. Where passages are indexed, the
    number of the document's best one is printed, and what fits best in it.
    """
    from rich.table import Table
    from rich.text import Text

    from dupmae_toolkit.search.answers import PARTS

    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=sys.stdout.isatty())
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    parts = [part for part in PARTS if mode == "hybrid" and getattr(hits[0], part) is not None]
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True, style="dim")
    # Where no terminal shows the table, an id is on one line, for programs that look for it.
    widths = (28, 20) if sys.stdout.isatty() else (None, None)
    table.add_column("id", overflow="fold", max_width=widths[0])
    by_passage = hits[0].passage is not None
    if by_passage:
        table.add_column("passage", justify="right", no_wrap=True)
    for name in fields:
        table.add_column(clean(name), overflow="fold", max_width=widths[1])
    table.add_column("title and text", ratio=1, min_width=24)
    for hit in hits:
        text = Text(clean(hit.title), style="bold")
        if hit.title and hit.text:
            text.append("\n")
        text.append(Text("", style="not bold").append_text(passage(matcher.snippet(hit.text))))
        cells: list[Any] = [str(hit.rank), f"{hit.score:.4f}"]
        cells += [f"{getattr(hit, part):.3f}" for part in parts]
        # Text, not str: rich would read brackets in an id or a title as markup.
        shown = [Text(clean(written(field_of(hit, name)))) for name in fields]
        where = [str(hit.passage.number)] if by_passage and hit.passage else []
        table.add_row(*cells, Text(clean(hit.id)), *where, *shown, text)
    console.screen().print(table)


def field_of(hit: Hit, name: str) -> Any:
    """The value of a field of a hit's document; None if it lacks it."""
    from dupmae_toolkit.collection.metadata import OWN_FIELDS

    return getattr(hit, name) if name in OWN_FIELDS else hit.metadata.get(name)


def written(value: Any) -> str:
    """A value of the metadata for people; nothing for None."""
    if isinstance(value, str):
        return value
    from dupmae_toolkit.records import as_json

    if isinstance(value, list):
        return ", ".join(map(written, value))
    return "" if value is None else json.dumps(as_json(value), ensure_ascii=False).strip("'\"")


def passage(snippet: Snippet) -> Text:
    """A passage on one line, with its highlights, and "…" where the text goes on."""
    from rich.text import Text

    text = Text("… " if snippet.before else "")
    for piece, highlighted in _pieces(snippet.text, snippet.highlights):
        text.append(piece, HIGHLIGHT if highlighted else None)
    text.rstrip()
    return text.append(" …" if snippet.after else "")


def _pieces(text: str, highlights: Sequence[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """A text cleaned as by ``clean``, in pieces that are highlighted or not."""
    place, space = 0, True  # whether white space came last, and more of it is left out
    for start, end in [*highlights, (len(text), len(text))]:
        for piece, highlighted in ((text[place:start], False), (text[start:end], True)):
            kept = ""
            for character in piece:
                shown = character if character.isprintable() else " "
                if not (space and shown.isspace()):
                    kept += " " if shown.isspace() else shown
                space = shown.isspace()
            if kept:
                yield kept, highlighted
        place = end


def clean(text: str) -> str:
    """The text on one line, without control characters, which could manipulate the terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
