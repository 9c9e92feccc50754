"""`dupmae import`: build an index from vectors, or download from the Hugging Face hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dupmae_cli import console
from dupmae_cli.export import report_exchange
from dupmae_cli.options import DeviceOption, JsonOption, faiss_option, model_option
from dupmae_toolkit.errors import counted


def import_(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="A file of CIFF, a folder that `dupmae export` wrote, or "
            "hf:OWNER/NAME[@REVISION].",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            help="The folder of the index to build; for hf:, a new folder for what is downloaded.",
        ),
    ],
    model: Annotated[
        str | None, model_option("none: an index from CIFF is then searched with --query-vectors")
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="The number by which the impacts in a file of CIFF are divided to give weights.",
            show_default="the scale of --model, else 1",
        ),
    ] = None,
    faiss: Annotated[str | None, faiss_option("the exported index's, else Flat")] = None,
    device: DeviceOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the existing index.")
    ] = False,
    json: JsonOption = False,
) -> None:
    """Build an index from another program's file, or download one.

    What `dupmae export` wrote as jsonl, npy or parquet becomes an index with the same scores. A
    file of CIFF becomes an index of lexical vectors alone, without texts: search it with
    --query-vectors or, if --model made its impacts, with texts. For vectors in other files, and
    for texts with them, see `dupmae index --vectors`.

    A download is checked against the checksums in the repository. If interrupted, run the same
    command to continue.

    [bold]Examples:[/bold]

      dupmae import notes.ciff --output indexes/notes

      dupmae import vectors/notes --output indexes/notes --faiss HNSW32

      dupmae import hf:me/notes-index --output indexes/notes
    """
    import time

    from dupmae_toolkit.errors import InputError

    if source.startswith("hf:"):
        given = {"--model": model, "--scale": scale, "--faiss": faiss, "--device": device}
        named = [name for name, value in given.items() if value is not None]
        if named or overwrite:
            named += ["--overwrite"] * overwrite
            raise InputError(f"{source}: is downloaded as it is, so leave out {', '.join(named)}")
        from dupmae_toolkit.interop.hub import pull

        console.if_interrupted(lambda: "run the same command to continue")
        done = pull(source, output, bars=console.shows_bars())
        report_exchange(done, str(output), json)
        return
    from dupmae_toolkit.index.info import index_info
    from dupmae_toolkit.interop.importing import import_index

    if model is None and device is not None:
        raise InputError("--device is where --model runs; nothing is encoded, so leave it out")
    began = time.perf_counter()
    encoder = None
    if model is not None:
        from dupmae_toolkit.model.loading import load_encoder

        encoder = load_encoder(model, device=device, pooling="none")
        console.say_remarks(encoder)
    console.if_interrupted(lambda: console.kept(output))
    made, notes = import_index(
        source,
        output,
        encoder=encoder,
        scale=scale,
        faiss_spec=faiss,
        overwrite=overwrite,
        progress=console.bar,
    )
    for note in notes:
        console.say(note)
    seconds = time.perf_counter() - began
    parts = ", ".join(made.parts)
    documents = counted(made.documents, "document")
    console.say(f"{output}: {documents} with {parts}, indexed in {seconds:,.1f} s")
    if json:
        console.print_json(index_info(output) | {"seconds": round(seconds, 3)})
