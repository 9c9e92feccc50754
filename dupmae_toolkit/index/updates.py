"""Changing an index: adding, deleting, compacting. Each is one step, the writing of the manifest.

Nothing that a searcher may have open is ever changed: documents come in new segments, deletions in
new files. Before the manifest names them they do not exist; killed at any moment, an index is what
it was before the step or what it is after it, and what lies about goes with the next change. After
any sequence of changes the results are those of an index of the final documents with the same
scale of impacts.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.lines import id_text
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.source import Source, Window, as_source, survey
from dupmae_toolkit.encoding.stream import PART_SIZE
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.build import check_documents, says_why
from dupmae_toolkit.index.corpus import encode_afresh
from dupmae_toolkit.index.impacts import quantize
from dupmae_toolkit.index.manifest import ADDING_FOLDER, BUILDING_FOLDER, Manifest
from dupmae_toolkit.index.merging import due, new_segments
from dupmae_toolkit.index.rows import windows
from dupmae_toolkit.index.staging import forget_additions
from dupmae_toolkit.index.state import State
from dupmae_toolkit.locks import exclusive, working_in
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document, Encoder

#: Seconds to wait for another process that is changing the index.
WAIT = 60.0

__all__ = [
    "Update",
    "add_corpus",
    "add_encoded",
    "adding_folder",
    "compact_index",
    "delete_documents",
]


@dataclass(frozen=True, slots=True)
class Update:
    """What a change did. documents: those that can be found after it. merged: rewritten on the way.

    missing: ids to delete that were not there. generation: which change of the index it was; the
    same as before where nothing was to do. put_off: why small segments were not merged, though they
    should have been; the change is made all the same.
    """

    added: int = 0
    replaced: int = 0
    deleted: int = 0
    missing: int = 0
    merged: int = 0
    documents: int = 0
    generation: int = 0
    put_off: str = ""


@contextlib.contextmanager
def changing(index: Path, wait: float) -> Iterator[State]:
    """Hold the index alone, as it stands; raises InputError if it cannot be changed now.

    wait: seconds that another process may take until it is done.
    """
    Manifest.load(index)  # what is no index is told before anything is locked
    with exclusive(index, wait), says_why(index):
        if (index / BUILDING_FOLDER).exists():
            raise InputError(
                f"{index}: a build was interrupted there; finish it by the same `dupmae index`, "
                f"or remove {index / BUILDING_FOLDER}"
            )
        state = State(index, Manifest.load(index))
        state.tidy()
        try:
            yield state
        except BaseException:
            # What was written in vain must not take room until the next change.
            with contextlib.suppress(Exception):
                State(index, Manifest.load(index)).tidy()
            raise


def add_corpus(
    index: str | Path,
    corpus: Source | Iterable[Document] | Iterable[dict[str, Any]],
    encoder: Encoder,
    *,
    replace: bool = False,
    part_size: int = PART_SIZE,
    wait: float = WAIT,
    progress: Progress = silent,
) -> Update:
    """Encode ``corpus`` and add it to the index in the folder ``index``.

    replace: documents whose ids are in the index take the place of those; without it they are
    refused, all of them, before anything is encoded. What was encoded lies in ``index/.adding``
    until the step is done: the same call continues where it was killed.

    Raises InputError for ids that are there, bad input, and while another process changes the
    index; EncoderMismatchError for another encoder than the index was built with.
    """
    index = Path(index)
    Manifest.load(index).check_encoder(index, encoder.info)
    source = as_source(corpus)
    plan = None
    if not replace:
        with changing(index, wait) as state:

            def look(window: Window) -> None:
                for place, name in zip(window.places, window.ids, strict=True):
                    if state.find(name) is not None:
                        raise InputError.at(source.source, place, _is_there(name))

            plan = survey(source, part_size, progress, look)
    # Encoding takes long, and others may change the index meanwhile; but they must leave alone what
    # is encoded here, until it is added.
    folder = adding_folder(index, source)
    with working_in(folder, wait):
        encoded = encode_afresh(
            source, encoder, folder / "encoded", part_size=part_size, plan=plan, progress=progress
        )
        done = add_encoded(index, encoded, replace=replace, wait=wait, progress=progress)
        shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
        folder.parent.rmdir()
    return done


def add_encoded(
    index: str | Path,
    encoded: EncodedCorpus,
    *,
    replace: bool = False,
    wait: float = WAIT,
    progress: Progress = silent,
) -> Update:
    """``add_corpus`` with what ``dupmae encode`` wrote."""
    index = Path(index)
    # The same encoder has the same vocabulary; that of the index is looked at when it is used.
    Manifest.load(index).check_encoder(index, encoded.info)
    check_documents(encoded)
    from dupmae_toolkit.encoding.parquet import read_ids

    with changing(index, wait) as state:
        if not replace:
            for path in encoded.files():
                for row, name in enumerate(read_ids(path)):
                    if state.find(name) is not None:
                        raise InputError(f"{path}: row {row} (from 0): {_is_there(name)}")
        return _add(state, encoded, replace, progress)


def delete_documents(
    index: str | Path, ids: Iterable[str], *, ignore_missing: bool = False, wait: float = WAIT
) -> Update:
    """Delete documents by id, all of them or none.

    Raises InputError for an id that is not in the index, unless ``ignore_missing``.
    """
    index = Path(index)
    if isinstance(ids, str):
        raise InputError("ids to delete come as a list of strings")
    with changing(index, wait) as state:
        places, missing = [], 0
        for name in dict.fromkeys(map(_as_text, ids)):
            place = state.find(name)
            if place is not None:
                places.append(place)
            elif ignore_missing:
                missing += 1
            else:
                raise InputError(
                    f"{index}: no document {name!r} is in it; nothing was deleted (pass "
                    "--ignore-missing, ignore_missing=True, to delete the others)"
                )
        if not places:
            return _update(state, missing=missing)
        state.kill(places)
        state.commit()
        merged = _merge(state, silent)
        return _update(state, merged, deleted=len(places), missing=missing)


def compact_index(index: str | Path, *, wait: float = WAIT, progress: Progress = silent) -> Update:
    """Write all segments anew, as few as their size allows, without the deleted documents.

    An index that is compact already is left as it is.
    """
    index = Path(index)
    with changing(index, wait) as state:
        forget_additions(index)
        manifest = state.manifest
        fewest = max(1, -(-manifest.live // manifest.segment_size))
        if manifest.live == 0 or (not manifest.dead and len(manifest.segments) <= fewest):
            return _update(state)
        count = _rewrite(state, range(len(manifest.segments)), fewest, progress)
        return _update(state, (count, ""))


def _add(state: State, encoded: EncodedCorpus, replace: bool, progress: Progress) -> Update:
    manifest = state.manifest
    pieces = -(-len(encoded) // manifest.segment_size)
    replaced = 0
    made = []
    for rows in windows(encoded.parts(), -(-len(encoded) // pieces)):
        rows = rows.sorted()
        if replace:
            places = [place for name in rows.ids if (place := state.find(name)) is not None]
            replaced += len(places)
            state.kill(places)
        rows.lexical, error = quantize(rows.lexical, manifest.scale, manifest.max_impact)
        made.append(state.write(rows, error, progress))
    state.exchange([], made)
    if manifest.truncated is not None:
        manifest.truncated += int(encoded.manifest["truncated"] or 0)
    state.commit()
    merged = _merge(state, progress)
    return _update(state, merged, added=len(encoded), replaced=replaced)


def _merge(state: State, progress: Progress) -> tuple[int, str]:
    """Merge what has become too many or too dead, a step for each merge.

    Returns how many documents were rewritten, and why the merging stopped before its end. The
    change is made by then, and stays made: a full disk, Java that cannot start, or damage that only
    merging meets are no reason to say that it was not. The next change tries again.
    """
    merged, why = 0, ""
    try:
        while group := due(state.manifest):
            merged += _rewrite(state, group, 1, progress)
    except (DupMAEError, OSError) as error:
        why = getattr(error, "strerror", None) or str(error)
        state.manifest = Manifest.load(state.index)
        with contextlib.suppress(OSError):
            state.tidy()
    return merged, why


def _rewrite(state: State, group: Sequence[int], pieces: int, progress: Progress) -> int:
    """Put so many new segments in the place of those in ``group``, in a step; their documents."""
    count = sum(state.manifest.segments[number].live for number in group)
    state.exchange(group, new_segments(state, group, -(-count // pieces), progress))
    state.commit()
    return count


def _update(state: State, merging: tuple[int, str] = (0, ""), **counts: int) -> Update:
    manifest = state.manifest
    merged, put_off = merging
    return Update(
        **counts,
        merged=merged,
        documents=manifest.live,
        generation=manifest.generation,
        put_off=put_off,
    )


def _as_text(name: Any) -> str:
    """An id as the index has it."""
    text = id_text(name)
    if isinstance(text, str):
        return text
    raise InputError(f"the id {name!r} is neither a string nor a whole number")


def adding_folder(index: Path, source: Source) -> Path:
    """Where ``add_corpus`` keeps what it has encoded, until the step is done."""
    digest = hashlib.sha256(str(source.source).encode("utf-8", "surrogatepass")).hexdigest()
    return index / ADDING_FOLDER / digest[:12]


def _is_there(name: str) -> str:
    return (
        f"the id {name!r} is in the index already; pass --replace (replace=True) to put this one "
        "in its place"
    )
