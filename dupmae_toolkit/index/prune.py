"""Writes a pruned copy of an index: documents keep only their largest impacts."""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dupmae_toolkit.errors import InputError
from dupmae_toolkit.files import atomic_folder
from dupmae_toolkit.index.build import says_why
from dupmae_toolkit.index.holding import held
from dupmae_toolkit.index.manifest import Manifest, SegmentEntry, checksum
from dupmae_toolkit.index.pruning import Pruning
from dupmae_toolkit.index.rows import Errors
from dupmae_toolkit.index.state import State
from dupmae_toolkit.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Pruned:
    """What ``prune_index`` wrote.

    tokens, words: how many impacts of each the new index has. tokens_before, words_before: how many
    these documents had. emptied: how many documents, or passages, had impacts of tokens, and keep
    none. bytes, bytes_before: the size of all files.
    """

    manifest: Manifest
    tokens: int
    tokens_before: int
    words: int
    words_before: int
    emptied: int
    bytes: int
    bytes_before: int


def prune_index(
    index: str | Path, output: str | Path, pruning: Pruning, progress: Progress = silent
) -> Pruned:
    """Write a copy of ``index`` in the new folder ``output``, with fewer impacts.

    All else is copied: texts, metadata, dense vectors, the lengths of documents, scale and weights.
    Deleted documents are left out. Frequencies count the impacts that are kept, so the factors of
    tokens change with them, and those of words if these are pruned. The manifest names the rule,
    which documents added later follow. The folder appears in one step, when all is written; one
    segment at a time is in memory.

    Raises InputError for a folder that exists, an index without impacts to prune or without
    documents, and one that is pruned already.
    """
    index, output = Path(index), Path(output)
    Manifest.load(index)  # refuses what is no index before anything else
    _check_output(index, output)
    with held(index) as manifest:
        _check_index(index, manifest, pruning)
        tokens = words = emptied = 0
        with says_why(output), atomic_folder(output) as folder:
            vocabulary = folder / manifest.vocabulary_file
            shutil.copyfile(index / manifest.vocabulary_file, vocabulary)
            old = State(index, manifest)
            copy = dataclasses.replace(
                manifest,
                segments=[],
                generation=0,
                checksums={manifest.vocabulary_file: checksum(vocabulary)},
                pruning=pruning,
            )
            old.manifest.vocabulary(index)  # refuses one that was damaged
            new = State(folder, copy)
            entries: list[SegmentEntry] = []
            with progress("pruning", manifest.live) as advance:
                for number, entry in enumerate(manifest.segments):
                    if not entry.live:
                        continue
                    rows = old.rows(number)
                    tokens += int(rows.lexical.nnz)
                    words += 0 if rows.words is None else int(rows.words.impacts.nnz)
                    had = np.diff(rows.lexical.indptr) > 0
                    rows.prune(pruning)
                    emptied += int(np.count_nonzero(had & (np.diff(rows.lexical.indptr) == 0)))
                    kept = 0 if rows.words is None else rows.words.impacts.nnz
                    errors = Errors(
                        entry.error.of_some(rows.lexical.nnz), entry.word_error.of_some(kept)
                    )
                    entries.append(new.write(rows, errors))
                    advance(entry.live)
            copy.segments = entries
            copy.checksums = dict(sorted(copy.checksums.items()))
            copy.save(folder)
    return Pruned(
        copy,
        sum(entry.weights for entry in entries),
        tokens,
        sum(entry.word_error.weights for entry in entries),
        words,
        emptied,
        _bytes(copy),
        _bytes(manifest),
    )


def _bytes(manifest: Manifest) -> int:
    """The size of all files of an index but the manifest."""
    return sum(int(stated["bytes"]) for stated in manifest.checksums.values())


def _check_output(index: Path, output: Path) -> None:
    if output.exists() and index.exists() and output.samefile(index):
        raise InputError.at(
            output, None, "an index is not pruned in place", "name a new folder for the copy"
        )
    if output.exists() or output.is_symlink():
        raise InputError.at(output, None, "exists already", "name a new folder for the pruned copy")
    if index.resolve() in output.resolve().parents:
        raise InputError.at(output, None, "lies in the index itself", "name a folder beside it")


def _check_index(index: Path, manifest: Manifest, pruning: Pruning) -> None:
    if manifest.pruning is not None:
        raise InputError.at(
            index, None, f"is pruned already, to {manifest.pruning}", "prune what it was made of"
        )
    if not manifest.live:
        raise InputError.at(index, None, "all its documents are deleted", "add some first")
    if pruning.words and manifest.bm25 is None:
        raise InputError.at(
            index, None, "has no words, as BM25 counts them", "leave out --words (words=True)"
        )
    if not pruning.words and "lexical" not in manifest.parts:
        raise InputError.at(
            index,
            None,
            "has no lexical vectors, and words are not pruned",
            "give --words (words=True) if it has BM25",
        )
