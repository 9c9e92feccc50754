"""Hits as a table on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.records import Hit


def print_table(query: str, hits: list[Hit], mode: str) -> None:
    """Print rank, score and its parts, id, title, and the excerpt that fits the query best."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dupmae_toolkit.search.answers import PARTS

    table = Table(box=None, padding=(0, 1), pad_edge=False, expand=True)
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("score", justify="right", no_wrap=True)
    parts = [part for part in PARTS if mode == "hybrid" and getattr(hits[0], part) is not None]
    for part in parts:
        table.add_column(part, justify="right", no_wrap=True, style="dim")
    table.add_column("id", overflow="fold", max_width=28)
    table.add_column("title and text", ratio=1)
    for hit in hits:
        text = Text(clean(hit.title), style="bold")
        if hit.title and hit.text:
            text.append("\n")
        text.append(snippet(hit.text, query), style="not bold")
        cells: list[Any] = [str(hit.rank), f"{hit.score:.4f}"]
        cells += [f"{getattr(hit, part):.3f}" for part in parts]
        # Text, not str: rich would read brackets in an id or a title as markup.
        table.add_row(*cells, Text(clean(hit.id)), text)
    Console().print(table)


def snippet(text: str, query: str, length: int = 160) -> str:
    """An excerpt of a text, on one line, from where most of the query's longer words are found."""
    line = clean(text)
    if len(line) <= length:
        return line
    lower = line.lower()
    words = {word for word in query.lower().split() if len(word) > 3}
    starts = [0]
    for word in words:
        place = lower.find(word)
        if place > length // 3:
            starts.append(lower.rfind(" ", 0, place - length // 3) + 1)
    seen = {start: lower[start : start + length] for start in starts}
    start = max(sorted(starts), key=lambda one: sum(word in seen[one] for word in words))
    piece = line[start : start + length]
    if start + length < len(line):
        piece = piece.rsplit(" ", 1)[0] + " …"
    return ("… " if start else "") + piece


def clean(text: str) -> str:
    """The text on one line, without control characters, which could manipulate the terminal."""
    return "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
