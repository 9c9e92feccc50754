"""`dupmae add`, `dupmae delete`, `dupmae compact`: change an index."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.index import IndexFolder, Json, SkipInvalid, Texts

if TYPE_CHECKING:
    from dupmae_toolkit.index.updates import Update

Wait = Annotated[
    float, typer.Option(help="Seconds to wait while another process changes the index.")
]


def register(app: typer.Typer) -> None:
    """Add this file's commands to the application."""
    app.command("add")(add)
    app.command("delete")(delete)
    app.command("compact")(compact)


def add(
    source: Texts,
    index: IndexFolder,
    replace: Annotated[
        bool,
        typer.Option("--replace", help="Put documents in the place of those with the same ids."),
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", help="Default: the encoder that the index names.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, mps …")] = None,
    precision: Annotated[str, typer.Option(help="auto, fp32 or bf16.")] = "auto",
    skip_invalid: SkipInvalid = False,
    wait: Wait = 60.0,
    json: Json = False,
) -> None:
    """Add documents to an index, all of them in one step.

    Searches that are under way see the index as it was. A run that was interrupted has added
    nothing, and continues when it is called again in the same way.

    [bold]Examples:[/bold]

      dupmae add more.jsonl --index indexes/notes

      dupmae add changed.jsonl --index indexes/notes --replace

      dupmae add encoded/more --index indexes/notes --json
    """
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.index.updates import add_corpus, add_encoded, adding_folder

    info = Manifest.load(index).encoder
    tell_if_interrupted(index)
    if EncodedCorpus.is_one(source):
        if skip_invalid or model:
            raise InputError(f"{source}: is encoded already; leave out --model, --skip-invalid")
        encoded = EncodedCorpus.open(source)
        done = add_encoded(index, encoded, replace=replace, wait=wait, progress=console.bar)
    else:
        from dupmae_toolkit.collection.opening import open_corpus
        from dupmae_toolkit.encoding.source import read_beginning

        corpus = open_corpus(source, skip_invalid=skip_invalid)
        tell_if_interrupted(index, adding_folder(index, corpus))
        read_beginning(corpus)
        # Only now, because it takes seconds: what is wrong with the corpus is said at once.
        from dupmae_toolkit.search.queries import load_encoder

        encoder = load_encoder(
            model or info.name, info, remembered=model is None, device=device, precision=precision
        )
        done = add_corpus(index, corpus, encoder, replace=replace, wait=wait, progress=console.bar)
        console.say_left_out(corpus)
    _tell(index, done, json)


def delete(
    index: IndexFolder,
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID…]", help="Ids.")] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file with an id on each line; - for stdin.")
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Pass over ids that are not in the index.")
    ] = False,
    wait: Wait = 60.0,
    json: Json = False,
) -> None:
    """Delete documents from an index, all of them in one step.

    All or none: an id that is not in the index is refused, unless --ignore-missing. The room of the
    others is free again when their segment is merged, or with `dupmae compact`.

    [bold]Examples:[/bold]

      dupmae delete note-17 note-18 --index indexes/notes

      dupmae delete --file gone.txt --index indexes/notes --ignore-missing

      sqlite3 notes.db "select id from gone" | dupmae delete --file - --index indexes/notes
    """
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.updates import delete_documents

    names = list(ids or [])
    if file is not None:
        names += _read_ids(file)
    if not names:
        raise InputError("nothing to delete: give ids, or a file of ids with --file")
    tell_if_interrupted(index)
    _tell(index, delete_documents(index, names, ignore_missing=ignore_missing, wait=wait), json)


def compact(index: IndexFolder, wait: Wait = 60.0, json: Json = False) -> None:
    """Write an index anew without deleted documents, in as few segments as can be.

    The results of searches stay the same. Nothing is encoded again.

    [bold]Examples:[/bold]

      dupmae compact --index indexes/notes
    """
    from dupmae_toolkit.index.updates import compact_index

    tell_if_interrupted(index)
    _tell(index, compact_index(index, wait=wait, progress=console.bar), json)


def tell_if_interrupted(index: Path, folder: Path | None = None) -> None:
    """Let Ctrl-C say whether a change of the index was made; ``folder``: where it keeps its work.

    Raises InputError where there is no index.
    """
    from dupmae_toolkit.index.manifest import Manifest

    before = Manifest.load(index)

    def tell() -> str:
        if Manifest.load(index) != before:
            return f"{index} was changed, by this command or another: `dupmae info` describes it"
        how = "the same command begins again"
        if folder is not None and folder.exists():
            how = console.kept(folder)
        return f"{index} is as it was; {how}"

    console.if_interrupted(tell)


def _read_ids(file: Path) -> list[str]:
    """The ids in a file, one on each line; white space around them is no part of any id."""
    import codecs
    import sys

    from dupmae_toolkit.errors import InputError

    name = "standard input" if str(file) == "-" else str(file)
    if file.is_dir():
        raise InputError(f"{name}: is a folder; name a file of ids")
    try:
        data = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise InputError(f"{name}: cannot be read ({error.strerror})") from error
    marked = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    encoding = "utf-16" if marked else "utf-8-sig"
    try:
        lines = data.decode(encoding).split("\n")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: not {'UTF-16' if marked else 'UTF-8'} ({error.reason} at byte {error.start})"
        ) from error
    ids = []
    for number, line in enumerate(lines, 1):
        words = line.split()
        if len(words) > 1 or "\0" in line:
            raise InputError.at(name, number, "more than an id; put one on each line")
        ids += words
    if not ids:
        raise InputError(f"{name}: no ids in it")
    return ids


def _tell(index: Path, done: Update, json: bool) -> None:
    from dataclasses import asdict

    counts = asdict(done)
    if json:
        console.print_json({"index": str(index), **counts})
        return
    words = [
        f"{counts[what]:,} {what}" for what in ("added", "replaced", "deleted") if counts[what]
    ]
    if done.missing:
        words.append(f"{done.missing:,} not in the index")
    if done.merged:
        words.append(f"{done.merged:,} rewritten in merging")
    said = ", ".join(words) or "nothing to do"
    left = "1 document" if done.documents == 1 else f"{done.documents:,} documents"
    console.say(f"{index}: {said}; {left}, change {done.generation:,}")
    if done.put_off:
        console.say(
            f"merging its segments was put off: {done.put_off}; the next change tries again, and "
            "so does `dupmae compact`"
        )
