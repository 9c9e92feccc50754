"""Changes an index: adds, deletes, compacts. A change takes effect when the manifest is written.

No file that a searcher may have open is ever changed. Documents go into new segments and deletions
into new files, which are not part of the index until the manifest names them. If a change is killed
at any moment, the index is either as before it or as after it; the next change removes leftovers.
After any sequence of changes, results are those of an index built at once from the final documents,
with the same scale of impacts; if the encoder states its largest weight, all its indexes have one.
"""

from __future__ import annotations

import contextlib
import hashlib
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.fields import ROW_NUMBERS, Reading
from dupmae_toolkit.collection.identifiers import id_text
from dupmae_toolkit.collection.passages import Passages, document_of, split_row_id
from dupmae_toolkit.encoding.corpus import EncodedCorpus
from dupmae_toolkit.encoding.passages import PassageSource, documents_in
from dupmae_toolkit.encoding.source import Source, Window, as_source, place_of, survey
from dupmae_toolkit.encoding.stream import PART_SIZE
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.index.build import check_documents, encode_afresh, says_why
from dupmae_toolkit.index.impacts import QuantizationError
from dupmae_toolkit.index.layout import ADDING_FOLDER, BUILDING_FOLDER, ENCODED_FOLDER
from dupmae_toolkit.index.manifest import Manifest, mean_length
from dupmae_toolkit.index.merging import due, new_segments
from dupmae_toolkit.index.rows import regrouped
from dupmae_toolkit.index.scoring import Scoring, with_fitted_weights
from dupmae_toolkit.index.staging import forget_additions
from dupmae_toolkit.index.state import State, Where
from dupmae_toolkit.index.words import Bm25
from dupmae_toolkit.locks import exclusive, working_in
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

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
    """What a change did, in numbers of documents.

    missing: ids to delete that were not in the index. merged: documents rewritten by merging; in an
    index of passages, these are passages, and so are those counted in ``error`` and ``truncated``.
    documents: those that can be found after the change. generation: the number of the change, or of
    the last one if there was nothing to do. put_off: why a merge that was due was not done; the
    change itself was made. drift: how far the documents' mean length is now from BM25's, as a share
    of that. error: of the impacts of the added documents. truncated: how many of them were cut;
    None: not known.
    """

    added: int = 0
    replaced: int = 0
    deleted: int = 0
    missing: int = 0
    merged: int = 0
    documents: int = 0
    generation: int = 0
    put_off: str = ""
    drift: float = 0.0
    error: QuantizationError = field(default_factory=QuantizationError)
    truncated: int | None = 0


@contextlib.contextmanager
def changing(index: Path, wait: float) -> Iterator[State]:
    """Lock the index for a change; raises InputError if it cannot be changed now.

    wait: seconds to wait for another process that is changing it.
    """
    Manifest.load(index)  # refuses what is not an index before anything is locked
    with exclusive(index, wait), says_why(index):
        if (index / BUILDING_FOLDER).exists():
            raise InputError(
                f"{index}: a build was interrupted there; finish it with the same `dupmae index`, "
                f"or remove {index / BUILDING_FOLDER}"
            )
        state = State(index, Manifest.load(index))
        state.tidy()
        try:
            yield state
        except BaseException:
            # Otherwise abandoned files would take up space until the next change.
            with contextlib.suppress(Exception):
                State(index, Manifest.load(index)).tidy()
            raise


def add_corpus(
    index: str | Path,
    corpus: Any,
    encoder: Encoder,
    *,
    replace: bool = False,
    part_size: int = PART_SIZE,
    wait: float = WAIT,
    progress: Progress = silent,
) -> Update:
    """Encode ``corpus``, see ``as_source``, and add it to the index in the folder ``index``.

    An index of passages cuts them as it was built. replace: documents replace those with the same
    ids. Without it, an id that is already in the index is refused before anything is encoded.
    Encoded documents are kept in ``index/.adding`` until they are added, so that the same call
    resumes where it was killed.

    Raises InputError for ids that are already in the index, for bad input, and while another
    process changes the index; EncoderMismatchError unless the encoder is the index's.
    """
    index = Path(index)
    manifest = Manifest.load(index)
    manifest.check_encoder(index, encoder.info)
    source = as_source(corpus)
    if manifest.passages is not None:
        if not hasattr(encoder, "token_offsets"):
            raise InputError.at(
                index,
                None,
                "its documents are cut into passages, so it takes no vectors of whole documents",
                "let its encoder encode them",
            )
        source = PassageSource(source, manifest.passages, encoder)
    plan = None
    if not replace:
        with changing(index, wait) as state:

            def refuse_known_ids(window: Window) -> None:
                for place, name in _known(state, zip(window.places, window.ids, strict=True)):
                    fault = _is_there(name, _numbered(source))
                    raise InputError.at(*place_of(source, place), fault)

            plan = survey(source, part_size, progress, refuse_known_ids)
    # Encoding takes long: the index is not locked, so others may change it meanwhile. The folder is
    # locked, so that they do not remove it.
    folder = adding_folder(index, source)
    with working_in(folder, wait):
        encoded = encode_afresh(
            source,
            encoder,
            folder / ENCODED_FOLDER,
            part_size=part_size,
            plan=plan,
            progress=progress,
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
    """``add_corpus`` with the output of ``dupmae encode``."""
    index = Path(index)
    # The same encoder has the same vocabulary; the index's own is checked when it is read.
    manifest = Manifest.load(index)
    manifest.check_encoder(index, encoded.info)
    check_documents(encoded)
    _check_passages(index, manifest.passages, encoded)
    from dupmae_toolkit.encoding.parquet import read_ids

    numbered = encoded.reading.get("ids") == ROW_NUMBERS
    with changing(index, wait) as state:
        if not replace:
            for path in encoded.files():
                for row, name in _known(state, enumerate(read_ids(path))):
                    fault = _is_there(name, numbered)
                    raise InputError(f"{path}: row {row} (from 0): {fault}")
        return _add(state, encoded, replace, progress)


def delete_documents(
    index: str | Path,
    ids: Iterable[str],
    *,
    ignore_missing: bool = False,
    where: Where | None = None,
    wait: float = WAIT,
) -> Update:
    """Delete documents by id, and those that a condition holds for; all of them or none.

    Raises InputError for an id that is not in the index, unless ``ignore_missing``.
    """
    index = Path(index)
    if isinstance(ids, str):
        raise InputError("give the ids to delete as a list of strings")
    with changing(index, wait) as state:
        found, missing = [], 0
        for name in dict.fromkeys(map(_as_text, ids)):
            locations = state.locations(name)
            if locations:
                found += locations
            elif ignore_missing:
                missing += 1
            else:
                raise InputError(
                    f"{index}: has no document {name!r}; nothing was deleted (pass "
                    "--ignore-missing, ignore_missing=True, to delete the others)"
                )
        if where is not None:
            found += state.matching(where)
        found = list(dict.fromkeys(found))
        if not found:
            return _update(state, missing=missing)
        deleted = len(state.documents_at(found))
        state.kill(found)
        if state.manifest.passages is not None:
            state.manifest.whole -= deleted
        state.commit()
        merged = _merge(state, silent)
        return _update(state, merged, deleted=deleted, missing=missing)


def compact_index(index: str | Path, *, wait: float = WAIT, progress: Progress = silent) -> Update:
    """Rewrite all segments without deleted documents, as few as the segment size allows.

    BM25's mean length becomes that of the documents. An index that an earlier version built gets
    words and the fitted score. An index that is already compact is left unchanged.
    """
    index = Path(index)
    with changing(index, wait) as state:
        forget_additions(index)
        manifest = state.manifest
        fewest = max(1, -(-manifest.live // manifest.segment_size))
        compact = not manifest.dead and len(manifest.segments) <= fewest
        recount = manifest.scoring is None or bool(manifest.drift)
        if manifest.live == 0 or (compact and not recount):
            return _update(state)
        if recount:
            manifest.scoring = _renewed(state, progress)
        everything = range(len(manifest.segments))
        count = _rewrite(state, everything, fewest, progress, recount)
        return _update(state, (count, ""))


def _add(state: State, encoded: EncodedCorpus, replace: bool, progress: Progress) -> Update:
    manifest = state.manifest
    pieces = -(-len(encoded) // manifest.segment_size)
    added, replaced = documents_in(encoded), 0
    made = []
    error = QuantizationError()
    for rows in regrouped(encoded.parts(), -(-len(encoded) // pieces)):
        rows = rows.sorted()
        names = rows.ids
        if manifest.passages is not None:
            names = list(dict.fromkeys(map(document_of, rows.ids)))
        if replace:
            old = list(map(state.locations, names))
            replaced += sum(map(bool, old))
            state.kill(chain.from_iterable(old))
        if manifest.bm25 is not None:
            rows.count_words()
        errors = rows.quantize(manifest.scale, manifest.max_impact, manifest.bm25, manifest.pruning)
        error += errors.tokens
        made.append(state.write(rows, errors, progress))
    state.exchange([], made)
    if manifest.passages is not None:
        manifest.whole += added - replaced
    cut, before = encoded.manifest["truncated"], manifest.truncated
    manifest.truncated = None if cut is None or before is None else before + cut
    manifest.count_precision(encoded.precision, len(encoded))
    state.commit()
    merged = _merge(state, progress)
    return _update(state, merged, added=added, replaced=replaced, error=error, truncated=cut)


def _merge(state: State, progress: Progress) -> tuple[int, str]:
    """Merge the segments that are due, one commit for each merge.

    Returns how many documents were rewritten, and why the merging stopped early, "" if it did not.
    The change itself is already committed, so a full disk, Java that cannot start, or damage that
    only merging finds does not fail it; the next change tries again.
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


def _rewrite(
    state: State, group: Sequence[int], pieces: int, progress: Progress, recount: bool = False
) -> int:
    """Replace the segments in ``group`` with ``pieces`` new ones; returns their document count."""
    count = sum(state.manifest.segments[number].live for number in group)
    state.exchange(group, new_segments(state, group, -(-count // pieces), progress, recount))
    state.commit()
    return count


def _renewed(state: State, progress: Progress) -> Scoring:
    """The fitted score with BM25's mean length as it is now."""
    manifest = state.manifest
    if manifest.scoring is not None and manifest.bm25 is not None:
        renewed = replace(manifest.bm25, mean_length=manifest.mean_length)
        return replace(manifest.scoring, bm25=renewed)
    # Built by an earlier version, which counted no words.
    words = 0
    with progress("counting words", manifest.live) as advance:
        for number, entry in enumerate(manifest.segments):
            words += int(state.rows(number).count_words().lengths.sum())
            advance(entry.live)
    manifest.encoder = with_fitted_weights(manifest.encoder)
    return Scoring.of(manifest.encoder, Bm25(mean_length(words, manifest.live)))


def _update(state: State, merging: tuple[int, str] = (0, ""), **done: Any) -> Update:
    manifest = state.manifest
    merged, put_off = merging
    return Update(
        **done,
        merged=merged,
        documents=manifest.documents,
        generation=manifest.generation,
        put_off=put_off,
        drift=manifest.drift,
    )


def _check_passages(index: Path, passages: Passages | None, encoded: EncodedCorpus) -> None:
    """Raise InputError unless the documents are cut into passages as those of the index are."""
    if passages != encoded.passages:
        ours, theirs = passages or "whole documents", encoded.passages or "whole documents"
        raise InputError(
            f"{encoded.folder}: encoded as {theirs}, but {index} holds {ours}; encode it likewise, "
            "or give its texts"
        )


def _as_text(name: Any) -> str:
    """An id as the index stores it."""
    text = id_text(name)
    if isinstance(text, str):
        return text
    raise InputError(f"the id {name!r} is neither a string nor a whole number")


def adding_folder(index: Path, source: Source) -> Path:
    """Where ``add_corpus`` keeps encoded documents until they are added."""
    digest = hashlib.sha256(str(source.source).encode("utf-8", "surrogatepass")).hexdigest()
    return index / ADDING_FOLDER / digest[:12]


def _known(state: State, rows: Iterable[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Those documents of some rows, by place and id, that the index has already."""
    seen = ""
    for place, row in rows:
        name = row if state.manifest.passages is None else split_row_id(row)[0]
        if name != seen and state.locations(name):  # once for all passages of a document
            yield place, name
        seen = name


def _numbered(source: Source) -> bool:
    """Whether the ids of ``source``, which was read in part, are row numbers for want of others."""
    reading = getattr(source, "reading", None)
    return isinstance(reading, Reading) and reading.numbered


def _is_there(name: str, numbered: bool) -> str:
    if numbered:
        return (
            f"the id {name!r} is in the index already; it is a row number, for want of an id, so "
            "these may be other documents: name the field of their ids with --id "
            "(Columns(id=…)), or overwrite those of the same numbers with --replace (replace=True)"
        )
    return (
        f"the id {name!r} is in the index already; pass --replace (replace=True) to put this one "
        "in its place"
    )
