"""`dupmae export`: write an index for other programs, or upload it to the Hugging Face hub."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from dupmae_cli import console
from dupmae_cli.options import JsonOption
from dupmae_toolkit.errors import counted


class ExportFormat(StrEnum):
    CIFF = "ciff"
    JSONL = "jsonl"
    NPY = "npy"
    PARQUET = "parquet"


class Terms(StrEnum):
    TOKENS = "tokens"
    WORDS = "words"
    BOTH = "both"


def export(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="SOURCE",
            help="An index; for vectors, also a folder written by `dupmae encode`; with --to, also "
            "an encoder's folder or a TREC run.",
        ),
    ],
    format: Annotated[
        ExportFormat | None,
        typer.Option(
            "--format",
            "-f",
            help="ciff: the impacts, for PISA and other engines. jsonl: Pyserini's JSON vectors. "
            "npy: arrays. parquet: a folder that pandas opens.",
            show_default="none: --to uploads SOURCE as it is",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="The file to write, for ciff; else a new folder.",
            show_default="",
        ),
    ] = None,
    terms: Annotated[
        Terms | None,
        typer.Option(
            help="Which terms to write into a file of CIFF: the encoder's tokens, the words of "
            "the texts, or both.",
            show_default="tokens",
        ),
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            "--to",
            metavar="hf:OWNER/NAME",
            help="Upload to this repository of the Hugging Face hub; a missing one is created.",
            show_default="",
        ),
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody read a repository that --to creates.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Write an index for other programs, or upload it.

    Deleted documents are left out, and documents are ordered by id, whatever their segments.
    `dupmae import` builds an index from any format that this command writes.

    An upload needs a token of the hub, from HF_TOKEN or `hf auth login`. It sends the files of an
    index, an encoder or a run, and no others. If interrupted, run the same command to continue.

    [bold]Examples:[/bold]

      dupmae export indexes/notes --format ciff --output notes.ciff

      dupmae export indexes/notes --format parquet --output vectors/notes

      dupmae export indexes/notes --to hf:me/notes-index
    """
    from dupmae_toolkit.errors import InputError

    if (to is None) == (format is None):
        raise InputError("give either --format and --output, or --to hf:OWNER/NAME")
    if to is not None:
        if output is not None or terms is not None:
            raise InputError("--to uploads SOURCE as it is; leave out --output and --terms")
        _upload(source, to, public, json)
        return
    if output is None:
        raise InputError(f"--format {format} writes to --output; name it")
    if public:
        raise InputError("--public goes with --to")
    if terms is not None and format != ExportFormat.CIFF:
        raise InputError("--terms goes with --format ciff; other formats have the tokens")
    console.if_interrupted(lambda: f"{output} was not written")
    summary: dict[str, Any] = {"output": str(output), "format": str(format)}
    if format == ExportFormat.CIFF:
        from dupmae_toolkit.interop.ciff_write import write_ciff

        chosen = (terms or Terms.TOKENS).value
        written = write_ciff(source, output, chosen, console.bar)
        counts = ("documents", "terms", "postings")
        summary |= {"terms_of": chosen} | {name: getattr(written, name) for name in counts}
        summary |= {"passages": written.passages}
        summary["description"] = written.description
        names = ("passages" if written.passages else "documents", *counts[1:])
        said = ", ".join(
            counted(getattr(written, count), name.rstrip("s"))
            for count, name in zip(counts, names, strict=True)
        )
        if written.unused:
            said += f"; {counted(written.unused, 'term')} of no document left out"
    else:
        from dupmae_toolkit.interop.vector_writing import write_vectors

        assert format is not None
        record = write_vectors(source, output, format.value, console.bar)
        summary |= {"documents": record["count"], "scale": record["scale"]}
        summary["files"] = sorted(record["files"])
        name = "document" if record["passages"] is None else "passage"
        said = f"{counted(record['count'], name)} as {format}"
        if record["bm25"] is not None:
            said += "; the words of the texts are not written: an import counts them again"
    console.say(f"{output}: {said}")
    if json:
        console.print_json(summary)


def _upload(source: Path, to: str, public: bool, json: bool) -> None:
    from dupmae_toolkit.interop.hub import push

    console.if_interrupted(lambda: "run the same command to continue")
    done = push(source, to, public=public, bars=console.shows_bars())
    report_exchange(done, str(done.where), json)
    left_out = done.package.left_out
    if left_out:
        named = ", ".join(left_out[:3]) + (" …" if len(left_out) > 3 else "")
        console.say(f"{source}: not uploaded: {counted(len(left_out), 'other file')} ({named})")


def report_exchange(done: Any, output: str, json: bool) -> None:
    """Report an upload or a download. done: an ``Exchanged``. output: where the files are now."""
    package = done.package
    console.say(
        f"{output}: {package.kind}, {counted(len(package.files), 'file')}, "
        f"{package.bytes:,} bytes, checked"
    )
    if json:
        console.print_json(
            {
                "output": output,
                "kind": package.kind,
                "repository": done.where.repository,
                "commit": done.commit,
                "files": len(package.files),
                "bytes": package.bytes,
                "left_out": package.left_out,
            }
        )
