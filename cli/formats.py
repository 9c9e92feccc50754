"""The forms of results: tables for people; JSON, JSON lines, CSV, TREC's columns for programs."""

from __future__ import annotations

import contextlib
import csv
import json
from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from io import StringIO, TextIOWrapper
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from dupmae_cli import console
from dupmae_cli.recording import write_run_card

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.cards import Draft
    from dupmae_toolkit.records import Hit, Run

#: The name that stands for standard output.
STANDARD_OUTPUT = Path("-")


Form = TypeVar("Form", bound=StrEnum)


class Format(StrEnum):
    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TREC = "trec"


def format_option(default: str, help: str) -> Any:
    """``--format``; ``default``: the text that the help shows as the default."""
    return typer.Option("--format", "-f", help=help, show_default=default)


FormatOption = Annotated[
    Format | None,
    format_option(
        "table", "How results are written: a table, JSON, JSON lines, CSV, or TREC's columns."
    ),
]
RunFormatOption = Annotated[
    Format | None,
    format_option("trec", "The form of OUTPUT: TREC's columns, JSON, JSON lines, or CSV."),
]


def form_of(form: Form | None, as_json: bool, default: Form) -> Form:
    """The form of what goes to stdout; ``--json`` is ``--format json``."""
    from dupmae_toolkit.errors import InputError

    if not as_json:
        return form or default
    json_form = type(default)("json")
    if form not in (None, json_form):
        raise InputError(f"--json and --format {form} do not go together; give one of them")
    return json_form


def check_run_form(output: Path, form: Format, as_json: bool) -> None:
    """Refuse options that contradict each other where OUTPUT gets a run."""
    from dupmae_toolkit.errors import InputError

    if form == Format.TABLE:
        raise InputError("a run is no table; choose --format trec, json, jsonl or csv")
    if as_json and output == STANDARD_OUTPUT:
        raise InputError(
            "--json prints a summary on standard output, where the run goes; leave it out, or "
            "choose --format json"
        )


def gets_card(output: Path | None, form: Format) -> bool:
    """Whether settings and a card are written beside the output: only for a TREC run in a file."""
    return form == Format.TREC and output not in (None, STANDARD_OUTPUT)


def write_found(run: Run, output: Path, form: Format, draft: Draft | None = None) -> None:
    """Write a run in a form. draft: of the card that is written beside a TREC run in a file.

    The card of an earlier run of that name does not stay, since it would not be this run's.
    """
    from dupmae_toolkit.collection import trec
    from dupmae_toolkit.evaluation.card_reading import remove_card

    if gets_card(output, form):
        trec.write_run(run, output)
        if draft is not None:
            write_run_card(draft, run, output)
            return
    elif form == Format.TREC:
        trec.stream_run(run, console.results().buffer)
    else:
        with opened(output) as file:
            _write_run(run, file, form)
    if output != STANDARD_OUTPUT:
        remove_card(output)


def _write_run(run: Run, file: IO[str], form: Format) -> None:
    names = ("topic", "rank", "id", "score")
    rows = (
        (topic, ranking.offset + place, name, score)
        for topic, ranking in run.topics.items()
        for place, (name, score) in enumerate(
            zip(ranking.ids, ranking.scores.tolist(), strict=True), 1
        )
    )
    if form == Format.CSV:
        write_csv(file, names, rows)
    elif form == Format.JSONL:
        for row in rows:
            write_line(file, dict(zip(names, row, strict=True)))
    else:
        found: dict[str, list[dict[str, Any]]] = {topic: [] for topic in run.topics}
        for topic, *rest in rows:
            found[topic].append(dict(zip(names[1:], rest, strict=True)))
        rankings = [{"topic": topic, "hits": hits} for topic, hits in found.items()]
        whole = {"tag": run.tag} | run.metadata | {"rankings": rankings}
        json.dump(whole, file, ensure_ascii=False, indent=2)
        file.write("\n")


def write_hits(hits: Sequence[Hit], output: Path, form: Format, fields: Sequence[str]) -> None:
    """Write the hits of a question as JSON lines or CSV. fields: further columns, for CSV."""
    from dupmae_cli.hits import field_of, written
    from dupmae_toolkit.search.answers import PARTS

    with opened(output) as file:
        if form == Format.JSONL:
            for hit in hits:
                write_line(file, hit.to_dict())
            return
        parts = [part for part in PARTS if hits and getattr(hits[0], part) is not None]
        names = ("rank", "id", "score", *parts, "title", "text")
        fields = [name for name in fields if name not in names]
        places: tuple[str, ...] = ()
        if hits and hits[0].passage is not None:
            places = ("passage", "start", "end")
        rows = (
            [getattr(hit, name) for name in names]
            + list(hit.passage or ())
            + [written(field_of(hit, name)) for name in fields]
            for hit in hits
        )
        write_csv(file, (*names, *places, *fields), rows)


def write_json(output: Path, value: Any) -> None:
    """Write the one document of ``--format json``."""
    if output == STANDARD_OUTPUT:
        console.print_json(value)
        return
    with opened(output) as file:
        json.dump(value, file, ensure_ascii=False, indent=2)
        file.write("\n")


def write_line(file: IO[str], value: Any) -> None:
    """Write a value as one line of JSON."""
    file.write(json.dumps(value, ensure_ascii=False) + "\n")


def write_csv(file: IO[str], names: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a header and rows, as RFC 4180 has them but with line feeds alone."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(names)
    writer.writerows(rows)


@contextlib.contextmanager
def opened(output: Path) -> Iterator[IO[str]]:
    """A UTF-8 text file that gets its name once all is written; or standard output."""
    if output == STANDARD_OUTPUT:
        text = StringIO()
        yield text
        console.results().write(text.getvalue())
        return
    from dupmae_toolkit.files import atomic_file, open_packed

    with atomic_file(output) as temporary, open_packed(temporary, output) as raw:
        file = TextIOWrapper(raw, "utf-8", newline="\n")
        yield file
        file.flush()
        file.detach()
