"""`dupmae add`, `dupmae delete` and `dupmae compact`: change an index."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dupmae_cli import console
from dupmae_cli.options import (
    DeviceOption,
    Duplicates,
    DuplicatesOption,
    HeaderOption,
    IdFieldOption,
    IndexModelOption,
    IndexOption,
    JsonOption,
    Precision,
    PrecisionOption,
    SkipInvalidOption,
    TextFieldOption,
    TextsArgument,
    TitleFieldOption,
    VectorsOption,
    WaitOption,
    reading_of,
)
from dupmae_cli.vectors import say_unused, texts_of
from dupmae_toolkit.errors import counted

#: The drift of the mean length beyond which a change says so.
DRIFT = 0.1

if TYPE_CHECKING:
    from dupmae_toolkit.index.updates import Update
    from dupmae_toolkit.records import Encoder


def add(
    source: TextsArgument,
    index: IndexOption,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace documents that have the same ids.")
    ] = False,
    model: IndexModelOption = None,
    vectors: VectorsOption = None,
    device: DeviceOption = None,
    precision: PrecisionOption = Precision.AUTO,
    id_field: IdFieldOption = None,
    title: TitleFieldOption = None,
    text: TextFieldOption = None,
    header: HeaderOption = None,
    duplicates: DuplicatesOption = Duplicates.ERROR,
    skip_invalid: SkipInvalidOption = False,
    wait: WaitOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Add documents to an index, all of them in one step.

    CORPUS is encoded by the index's encoder; ENCODED must come from the same one. An id that is
    already in the index is refused unless --replace is given. With --vectors, nothing is encoded:
    the vectors must be those of the index's encoder. Searchers that are open keep the state that
    they opened. An interrupted run has added nothing: run the same command to continue.

    [bold]Examples:[/bold]

      dupmae add more.jsonl --index indexes/notes

      dupmae add changed.jsonl --index indexes/notes --replace

      dupmae add encoded/more --index indexes/notes --json
    """
    from dupmae_toolkit.encoding.corpus import EncodedCorpus
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.manifest import Manifest
    from dupmae_toolkit.index.updates import add_corpus, add_encoded, adding_folder

    manifest = Manifest.load(index)
    info = manifest.encoder
    reading = reading_of(id_field, title, text, header, duplicates, skip_invalid)
    tell_if_interrupted(index)
    if EncodedCorpus.is_one(source):
        if reading != reading_of() or model or vectors:
            raise InputError(
                f"{source}: is encoded already; leave out --model, --vectors, --skip-invalid, "
                "--duplicates, --id, --title, --text, --header"
            )
        encoded = EncodedCorpus.open(source)
        done = add_encoded(index, encoded, replace=replace, wait=wait, progress=console.bar)
    else:
        from dupmae_toolkit.collection.opening import open_corpus
        from dupmae_toolkit.encoding.source import read_beginning

        corpus = open_corpus(source, **reading)
        tell_if_interrupted(index, adding_folder(index, corpus))
        read_beginning(corpus)
        if vectors is not None:
            if model or device or precision != Precision.AUTO:
                raise InputError(
                    "--vectors encodes nothing; leave out --model, --device, --precision"
                )
            from dupmae_toolkit.encoding.vectors import StoredVectors

            encoder: Encoder = StoredVectors(vectors, info, manifest.vocabulary(index))
            corpus = texts_of(corpus, source, vectors)
        else:
            # Imported late, because it takes seconds: errors in the corpus are reported first.
            from dupmae_toolkit.search.queries import load_encoder

            encoder = load_encoder(
                model or info.name,
                info,
                remembered=model is None,
                device=device,
                precision=precision.value,
            )
        done = add_corpus(index, corpus, encoder, replace=replace, wait=wait, progress=console.bar)
        console.say_notes(corpus)
        if vectors is not None:
            say_unused(encoder, done.added)  # type: ignore[arg-type]
    _report(index, done, json)


def delete(
    index: IndexOption,
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="ID", help="Ids of documents to delete.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", help="A file of ids, one per line; - for stdin.")
    ] = None,
    filter: Annotated[
        str | None,
        typer.Option(
            "--filter", help="Delete the documents that this condition on their metadata matches."
        ),
    ] = None,
    ignore_missing: Annotated[
        bool, typer.Option("--ignore-missing", help="Ignore ids that are not in the index.")
    ] = False,
    wait: WaitOption = 60.0,
    json: JsonOption = False,
) -> None:
    """Delete documents from an index, all of them in one step.

    If an id is not in the index, nothing is deleted, unless --ignore-missing is given. Disk space
    is freed when segments are merged, or by `dupmae compact`. Ids that begin with a dash go after
    `--` at the end, or into a --file.

    [bold]Examples:[/bold]

      dupmae delete note-17 note-18 --index indexes/notes

      dupmae delete --file gone.txt --index indexes/notes --ignore-missing

      dupmae delete --filter "year < 2010" --index indexes/notes

      sqlite3 notes.db "select id from gone" | dupmae delete --file - --index indexes/notes
    """
    from dupmae_toolkit.collection.ids import read_ids
    from dupmae_toolkit.errors import InputError
    from dupmae_toolkit.index.updates import delete_documents

    names = list(ids or [])
    if file is not None:
        names += read_ids(file)
    if not names and filter is None:
        raise InputError("nothing to delete: give ids, or a file of ids with --file, or a --filter")
    if names and filter is not None:
        raise InputError("ids and --filter do not go together; give one of them")
    tell_if_interrupted(index)
    where = None
    if filter is not None:
        from dupmae_toolkit.search.selection import masks_of

        where = partial(masks_of, filter)
    done = delete_documents(index, names, ignore_missing=ignore_missing, where=where, wait=wait)
    _report(index, done, json)


def compact(index: IndexOption, wait: WaitOption = 60.0, json: JsonOption = False) -> None:
    """Rewrite an index without deleted documents, in as few segments as possible.

    This frees the disk space of deleted documents. BM25's mean length becomes that of the
    documents that are left, and an index of an earlier version gets BM25; otherwise, search
    results stay the same. Nothing is encoded again.

    [bold]Examples:[/bold]

      dupmae compact --index indexes/notes
    """
    from dupmae_toolkit.index.updates import compact_index

    tell_if_interrupted(index)
    _report(index, compact_index(index, wait=wait, progress=console.bar), json)


def tell_if_interrupted(index: Path, folder: Path | None = None) -> None:
    """If interrupted, say whether the index was changed; ``folder``: where encoded texts are kept.

    Raises InputError if there is no index.
    """
    from dupmae_toolkit.index.manifest import Manifest

    before = Manifest.load(index)

    def describe_kept_work() -> str:
        if Manifest.load(index) != before:
            return f"{index} was changed, by this command or another: `dupmae info` describes it"
        how = "run the same command to start over"
        if folder is not None and folder.exists():
            how = console.kept(folder)
        return f"{index} is unchanged; {how}"

    console.if_interrupted(describe_kept_work)


def _report(index: Path, done: Update, json: bool) -> None:
    from dataclasses import asdict

    counts = asdict(done)
    error = counts.pop("error")
    if json:
        # As in `dupmae info`; there the error is that of all documents.
        impacts = {"impacts": {"error": error}} if done.added else {}
        console.print_json({"index": str(index), **counts, **impacts})
        return
    words = [
        f"{counts[what]:,} {what}" for what in ("added", "replaced", "deleted") if counts[what]
    ]
    if done.missing:
        words.append(f"{done.missing:,} not in the index")
    if done.merged:
        words.append(f"{done.merged:,} rewritten in merging")
    changes = ", ".join(words) or "nothing to do"
    left = counted(done.documents, "document")
    lossy = f"; added: {console.rounding(done.error)}" if done.added else ""
    if done.truncated:
        lossy += f", {done.truncated:,} cut at the encoder's limit"
    console.say(f"{index}: {changes}; {left}, change {done.generation:,}{lossy}")
    if abs(done.drift) > DRIFT:
        console.say(
            f"documents are {abs(done.drift):.0%} {'longer' if done.drift > 0 else 'shorter'} on "
            "average than when BM25's mean length was fixed; `dupmae compact` renews it"
        )
    if done.put_off:
        console.say(
            f"merging its segments was postponed: {done.put_off}; the next change tries again, or "
            "run `dupmae compact`"
        )
