"""Repairs a damaged index: rebuilds what it holds twice, and reports what it holds only once.

A repaired segment is a new one under a new name. It replaces the damaged one when the manifest is
written, as in every change: nothing that a searcher has open is touched, and a repair that is
killed before that leaves the index as it was. Texts, deletions and the manifest exist only once:
they cannot be rebuilt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from dupmae_toolkit import jvm
from dupmae_toolkit.errors import DupMAEError, InputError
from dupmae_toolkit.files import atomic_folder, sha256_lines
from dupmae_toolkit.index.health.comparison import compare_parts
from dupmae_toolkit.index.health.problems import Problem, held_by
from dupmae_toolkit.index.health.salvage import LostError, Rebuilt, Salvage
from dupmae_toolkit.index.health.verify import inspect
from dupmae_toolkit.index.layout import (
    DELETIONS_FOLDER,
    DOCUMENTS,
    IDS,
    IMPACTS,
    LENGTHS,
    LUCENE,
    MANIFEST_FILE,
    SEGMENTS_FOLDER,
    VECTORS,
    part_of,
)
from dupmae_toolkit.index.manifest import (
    COPY,
    REBUILD,
    Manifest,
    SegmentEntry,
    checksum,
    require_folder,
)
from dupmae_toolkit.index.state import State
from dupmae_toolkit.index.updates import WAIT, changing
from dupmae_toolkit.index.vocabulary import lucene_terms, write_vocabulary
from dupmae_toolkit.locks import remove_folder
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

__all__ = ["Rebuilt", "Repair", "repair_index"]

_NEEDED = {IDS, VECTORS, LUCENE, IMPACTS, DOCUMENTS}


@dataclass(slots=True)
class Repair:
    """What a repair found, what it did, and what is left to do.

    found: the problems that ``verify_index`` returns. removed: files that the manifest did not
    name. remaining: what could not be repaired, one problem for each part of a segment, with what
    to do.
    """

    found: list[Problem] = field(default_factory=list)
    rebuilt: list[Rebuilt] = field(default_factory=list)
    removed: list[str] = field(default_factory=list)
    remaining: list[Problem] = field(default_factory=list)

    @property
    def whole(self) -> bool:
        """Whether the index has no damage now."""
        return not self.remaining


def repair_index(
    index: str | Path,
    encoder: Encoder | Callable[[], Encoder] | None = None,
    *,
    wait: float = WAIT,
    progress: Progress = silent,
) -> Repair:
    """Verify an index, and rebuild what can be rebuilt, in one step.

    encoder: the index's own, or a function that loads it, called only if it is needed: for the
    vocabulary, and for vectors that are lost everywhere, whose texts are then encoded again. wait:
    seconds to wait for another process that is changing the index.

    Parts of a segment that disagree although all their checksums are right are left alone: nothing
    shows which of them is wrong. Raises InputError if there is no index, and while another process
    changes it; EncoderMismatchError for another encoder.
    """
    index = Path(index)
    try:
        manifest = Manifest.load(index)
    except InputError as error:
        require_folder(index)
        problem = Problem.of(MANIFEST_FILE, error, "manifest")
        if problem.remedy != COPY:
            remedy = f"{problem.remedy}; {COPY}" if problem.remedy else COPY
            problem = replace(problem, remedy=remedy)
        return Repair([problem], remaining=[problem])
    _check_names(index, manifest)
    if encoder is not None and not callable(encoder):
        manifest.check_encoder(index, encoder.info)
    jvm.start()  # verifying needs Java: without it, fail now and with Java's own message
    with changing(index, wait) as state:
        _check_names(index, state.manifest)
        work = _Work(state, encoder, progress)
        work.run()
        return work.report


class _Work:
    """One repair of an index that this process has locked."""

    def __init__(
        self, state: State, encoder: Encoder | Callable[[], Encoder] | None, progress: Progress
    ) -> None:
        self._state, self._manifest, self._index = state, state.manifest, state.index
        self._given = encoder
        self._encoder: Encoder | LostError | None = None
        self._progress = progress
        self._found = inspect(self._index, self._manifest, True, progress)
        self._bad = set(self._found.paths())
        self.report = Repair(list(self._found.problems))

    def run(self) -> None:
        if not self._found.problems:
            return
        for problem in self._found.problems:
            if problem.kind in ("manifest", "apart"):
                self._leave(problem)
            elif problem.path.startswith(f"{DELETIONS_FOLDER}/"):
                self.report.remaining.append(problem)
        stated = self._manifest.checksums.get(self._manifest.vocabulary_file)
        self._remove_strays()
        self._terms = self._vocabulary()
        old, new = [], []
        for number, entry in enumerate(self._manifest.segments):
            made = self._mend(entry)
            if made is not None:
                old.append(number)
                new.append(made)
        if old:
            self._state.exchange(old, new)
            self._state.commit()
        elif (
            "form" in {problem.kind for problem in self._found.problems}
            or self._manifest.checksums.get(self._manifest.vocabulary_file) != stated
        ):
            self._manifest.save(self._index)

    def _leave(self, problem: Problem) -> None:
        """Report a problem that is not repaired, since nothing shows what is right."""
        message = problem.message
        if problem.kind == "apart":
            message += "; no file has changed, and nothing shows which is wrong"
        message += f"; {REBUILD}"
        self.report.remaining.append(Problem(problem.path, message, problem.kind))

    def _remove_strays(self) -> None:
        """Remove files that the manifest does not name: they could be taken for parts."""
        needed = _NEEDED if self._manifest.bm25 is None else _NEEDED | {LENGTHS}
        named: dict[str, set[str]] = {}
        for name in self._manifest.checksums:
            if name.startswith(f"{SEGMENTS_FOLDER}/"):
                _, segment, inner = name.split("/", 2)
                named.setdefault(segment, set()).add(part_of(inner))
        for problem in self._found.problems:
            if problem.kind != "stray":
                continue
            if not named.get(problem.path.split("/")[1], set()) >= needed:
                # The manifest itself is wrong: it lacks a part, and this may be the only copy.
                self._leave(Problem(problem.path, "is not in the manifest", "stray"))
                continue
            (self._index / problem.path).unlink()
            self.report.removed.append(problem.path)

    def _vocabulary(self) -> list[str] | None:
        """Lucene's terms, from the vocabulary, which is written again if it is damaged."""
        name, manifest = self._manifest.vocabulary_file, self._manifest
        try:
            if name not in self._bad:
                return lucene_terms(manifest.vocabulary(self._index))
            try:
                # The manifest has a digest of the tokens too: a changed file can have them right.
                tokens, source = manifest.vocabulary(self._index), "its own tokens"
            except DupMAEError:
                tokens, source = self._load_encoder().vocabulary, "the encoder's tokenizer"
            if sha256_lines(tokens) != manifest.encoder.vocabulary_sha256:
                raise LostError("the encoder's tokenizer has other tokens than the index")
        except LostError as why:
            self.report.remaining.append(Problem(name, f"is lost: {why}"))
            return None
        except DupMAEError as error:
            self._leave(Problem.of(name, error, "manifest"))
            return None
        if (self._index / name).is_dir():  # a file cannot replace a folder
            remove_folder(self._index / name, self._index)
        write_vocabulary(self._index / name, tokens)
        manifest.checksums[name] = checksum(self._index / name)
        self.report.rebuilt.append(Rebuilt(name, name, source))
        return lucene_terms(tokens)

    def _mend(self, entry: SegmentEntry) -> SegmentEntry | None:
        """A new segment in place of a damaged one; None if it is intact or cannot be mended."""
        start = f"{entry.path}/"
        lost = {part_of(name.removeprefix(start)) for name in self._bad if name.startswith(start)}
        without = {DELETIONS_FOLDER} if entry.deletions in self._bad else set()
        if not lost:
            if entry.name not in self._found.compared:
                for problem in self._compare(entry, without):
                    self._leave(problem)
            return None
        if lost >= _NEEDED:
            message = (
                f"all its parts are damaged, and its {entry.live:,} documents are lost: {COPY}"
            )
            self.report.remaining.append(Problem(entry.path, message))
            return None
        salvage = Salvage(
            self._index,
            self._manifest,
            entry,
            lost,
            self._terms,
            self._load_encoder,
            self._progress,
        )
        folder = self._state.free_folder()
        with atomic_folder(folder) as temporary:
            made = salvage.write(temporary)
        if not made:
            remove_folder(folder, self._index)
        fresh, sums = salvage.settle(folder) if made else (entry, {})
        if made:
            apart = self._compare(fresh, without | set(salvage.remaining))
            if apart:
                remove_folder(folder, self._index)
                for problem in apart:
                    path = problem.path.replace(folder.name, entry.name)
                    self._leave(Problem(path, f"rebuilt, {problem.message}", problem.kind))
                fresh, made = entry, False
            else:
                self.report.rebuilt += salvage.report(folder)
                self._manifest.checksums |= sums
                if precision := salvage.encoded_in():
                    self._manifest.count_precision(precision, entry.count)
        for part, why in salvage.remaining.items():
            if part == DOCUMENTS:
                why += held_by(self._index, fresh, self._bad)
            self.report.remaining.append(Problem(f"{fresh.path}/{part}", f"is lost: {why}"))
        return fresh if made else None

    def _compare(self, entry: SegmentEntry, without: set[str]) -> list[Problem]:
        homes = self._found.homes
        return compare_parts(self._index, self._manifest, entry, self._terms, homes, without)

    def _load_encoder(self) -> Encoder:
        """The index's encoder, loaded once; LostError if it was not given or cannot be loaded."""
        if self._encoder is None:
            self._encoder = self._loaded()
        if isinstance(self._encoder, LostError):
            raise self._encoder
        return self._encoder

    def _loaded(self) -> Encoder | LostError:
        name = self._manifest.encoder.name
        if self._given is None:
            return LostError(f"its encoder {name!r} could rebuild it, but was not given")
        try:
            encoder = self._given() if callable(self._given) else self._given
            self._manifest.check_encoder(self._index, encoder.info)
        except DupMAEError as error:
            return LostError(f"its encoder {name!r} could rebuild it, but cannot be used: {error}")
        return encoder


def _check_names(index: Path, manifest: Manifest) -> None:
    """Refuse a manifest that would make a repair write or remove files outside the index."""
    for name in _names(manifest):
        if PurePosixPath(name).is_absolute() or {"..", "", "."} & set(name.split("/")):
            raise InputError(
                f"{index}: its manifest names {name!r}, which is outside the index; the index is "
                "not repaired: do not trust it"
            )


def _names(manifest: Manifest) -> Iterator[str]:
    yield manifest.vocabulary_file
    yield from manifest.checksums
    yield from (entry.path for entry in manifest.segments)
    yield from (entry.deletions for entry in manifest.segments if entry.deletions)
