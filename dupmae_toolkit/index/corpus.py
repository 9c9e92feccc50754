"""From a corpus to an index in one go: encode, build, and leave only the index."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.source import Plan, Source, as_source
from dupmae_toolkit.encoding.stream import PART_SIZE, encode_corpus
from dupmae_toolkit.errors import BusyError, InputError
from dupmae_toolkit.index.build import BuildOptions, build_held, building_in
from dupmae_toolkit.index.manifest import BUILDING_FOLDER, Manifest
from dupmae_toolkit.index.staging import check_target
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Encoder

ENCODED_FOLDER = "encoded"


def index_corpus(
    index: str | Path,
    corpus: Source | Iterable[Document] | Iterable[dict[str, Any]],
    encoder: Encoder,
    options: BuildOptions | None = None,
    *,
    part_size: int = PART_SIZE,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Manifest:
    """Encode ``corpus`` and build an index of it in the folder ``index``.

    Both continue where an interrupted call of the same kind stopped. What was encoded lies in
    ``index/.building`` until the index is whole. Where a build of something else was interrupted,
    ``overwrite`` starts over. Raises as ``encode_corpus`` and ``build_index`` do.
    """
    index = Path(index)
    options = options or BuildOptions()
    options.check(encoder.info.dense_dim)
    check_target(index, overwrite)
    source = as_source(corpus)
    with building_in(index):
        folder = index / BUILDING_FOLDER / ENCODED_FOLDER

        def refuse(error: InputError) -> None:
            if not overwrite:
                raise InputError(
                    f"{index}: a build of something else was interrupted there ({error}); finish "
                    "it, or pass --overwrite (overwrite=True) to start over"
                ) from error

        encoded = encode_afresh(
            source, encoder, folder, part_size=part_size, progress=progress, ask=refuse
        )
        return build_held(index, encoded, encoder.vocabulary, options, overwrite, progress)


def encode_afresh(
    source: Source,
    encoder: Encoder,
    folder: Path,
    *,
    part_size: int,
    progress: Progress,
    plan: Plan | None = None,
    ask: Callable[[InputError], None] = lambda error: None,
) -> EncodedCorpus:
    """``encode_corpus`` into ``folder``, where the beginning of something else gives way.

    ask: is told what is wrong with what stands there before it is removed, and may raise. A folder
    that another process writes in does not give way: BusyError.
    """

    def encode() -> EncodedCorpus:
        return encode_corpus(
            source, encoder, folder, part_size=part_size, plan=plan, progress=progress
        )

    stood = folder.exists()
    try:
        return encode()
    except InputError as error:
        at_folder = error.path is not None and Path(error.path).is_relative_to(folder)
        if isinstance(error, BusyError) or not stood or not at_folder:
            raise
        ask(error)
    shutil.rmtree(folder)
    return encode()
