"""Checks an index for damage: files missing, changed or stray, and parts that disagree."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dupmae_toolkit.errors import DupMAEError
from dupmae_toolkit.files import read_json, wrong_contents
from dupmae_toolkit.index.health.comparison import compare_parts
from dupmae_toolkit.index.health.problems import Problem, held_by
from dupmae_toolkit.index.integrity import REPAIR, way_out, wrong_size
from dupmae_toolkit.index.layout import DELETIONS_FOLDER, DOCUMENTS, MANIFEST_FILE
from dupmae_toolkit.index.manifest import Manifest
from dupmae_toolkit.index.vocabulary import lucene_terms
from dupmae_toolkit.progress import Advance, Progress, silent


@dataclass(slots=True)
class Inspection:
    """The findings.

    compared: the segments whose parts were compared. homes: the segment of each live id in them.
    """

    problems: list[Problem] = field(default_factory=list)
    compared: set[str] = field(default_factory=set)
    homes: dict[str, str] = field(default_factory=dict)

    def paths(self, kind: str = "damaged") -> list[str]:
        """The paths of problems of a kind."""
        return [problem.path for problem in self.problems if problem.kind == kind]


def verify_index(
    index: str | Path, deep: bool = True, progress: Progress = silent
) -> list[Problem]:
    """All problems of an index; an empty list for an intact one.

    Always checked: the manifest is unchanged, every file that it names exists with the right size,
    and segments contain no other files. ``deep`` also compares checksums and, in segments whose
    files are unchanged, the parts with each other: the counts; the ids and their order in FAISS,
    Lucene and the documents; and each document's score in Lucene with its score in the forward
    store, for a query of all terms with random weights, which covers every posting.
    """
    index = Path(index)
    try:
        manifest = Manifest.load(index)
    except DupMAEError as error:
        return [Problem.of(MANIFEST_FILE, error, "manifest")]
    return inspect(index, manifest, deep, progress).problems


def inspect(
    index: Path, manifest: Manifest, deep: bool = True, progress: Progress = silent
) -> Inspection:
    """``verify_index`` of an index whose manifest is loaded."""
    found = Inspection(list(_missing_and_changed(index, manifest, deep, progress)))
    problems, bad = found.problems, found.paths()
    texts = {f"{entry.path}/{DOCUMENTS}": entry for entry in manifest.segments}
    for number, problem in enumerate(problems):
        if problem.path in texts and problem.kind == "damaged":
            held = held_by(index, texts[problem.path], bad)
            problems[number] = replace(problem, remedy=problem.remedy + held)
    # Not manifest.to_dict(): an earlier version's manifest lacks some of its keys.
    text = json.dumps(read_json(index / MANIFEST_FILE), indent=2, ensure_ascii=False) + "\n"
    if (index / MANIFEST_FILE).read_bytes() != text.encode():
        message = "was written again in another form, with the same contents"
        problems.append(Problem(MANIFEST_FILE, message, "form", REPAIR))
    if not deep:
        return found
    try:
        terms = lucene_terms(manifest.vocabulary(index))
    except DupMAEError as error:
        if manifest.vocabulary_file not in found.paths():
            problems.append(Problem.of(manifest.vocabulary_file, error))
        return found
    damaged = {problem.path.split("/")[1] for problem in problems if "/" in problem.path}
    lost = set(found.paths())
    with progress("comparing the parts of segments", len(manifest.segments)) as advance:
        for entry in manifest.segments:
            if entry.name not in damaged:
                without = {DELETIONS_FOLDER} if entry.deletions in lost else set()
                problems += compare_parts(index, manifest, entry, terms, found.homes, without)
                found.compared.add(entry.name)
            advance(1)
    return found


def _missing_and_changed(
    index: Path, manifest: Manifest, deep: bool, progress: Progress
) -> Iterator[Problem]:
    for entry in manifest.segments:
        if not (index / entry.path).is_dir():
            yield Problem(entry.path, "is missing")
    if manifest.vocabulary_file not in manifest.checksums:
        message = f"has no checksum of {manifest.vocabulary_file}"
        yield Problem(MANIFEST_FILE, message, "manifest")
    total = sum(int(entry["bytes"]) for entry in manifest.checksums.values())
    with progress("reading every file" if deep else "checking file sizes", total) as advance:
        for name, stated in manifest.checksums.items():
            message = _what_is_wrong(index / name, stated, deep, advance)
            if message:
                yield Problem(name, message, remedy=way_out(name))
    for entry in manifest.segments:
        for path in sorted((index / entry.path).rglob("*")):
            name = path.relative_to(index).as_posix()
            if path.is_file() and name not in manifest.checksums:
                remedy = f"it was put there later: delete it, or {REPAIR}"
                yield Problem(name, "is not in the manifest", "stray", remedy)
        if entry.deletions and entry.deletions not in manifest.checksums:
            yield Problem(MANIFEST_FILE, f"has no checksum of {entry.deletions}", "manifest")


def _what_is_wrong(path: Path, stated: dict[str, Any], deep: bool, advance: Advance) -> str:
    message = wrong_size(path, stated)
    if not message and deep:
        message = wrong_contents(path, stated["sha256"])
    if not message:
        advance(int(stated["bytes"]))
    return message
