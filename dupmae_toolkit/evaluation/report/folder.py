"""The runs of a folder, with the judgements and the topics' texts that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.beir import drops_self_matches
from dupmae_toolkit.collection.opening import read_topics
from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.collection.sources import COMPRESSED
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.evaluation.experiment import BASELINE, MODES
from dupmae_toolkit.evaluation.judging import Judging, read_judging
from dupmae_toolkit.evaluation.report.beir_runs import about_of, measured_runs, own_qrels
from dupmae_toolkit.evaluation.report.cards import cards_of
from dupmae_toolkit.evaluation.report.comparing import Measured, curve_of, measured
from dupmae_toolkit.evaluation.report.found import Kept, kept
from dupmae_toolkit.evaluation.report.named import Named, is_here
from dupmae_toolkit.evaluation.self_matches import SelfMatches
from dupmae_toolkit.files import sha256_file
from dupmae_toolkit.records import Run

#: Files whose names end like this are read as runs.
RUN_ENDINGS = tuple(name + packed for name in (".trec", ".run") for packed in ("", *COMPRESSED))
#: Files whose names end like this are read as judgements.
_QRELS_ENDINGS = tuple(f".qrels{packed}" for packed in ("", *COMPRESSED))
#: The baseline, unless another run is named: the first of these that exists.
_BASELINES = (BASELINE, "bm25")


@dataclass(slots=True)
class Section:
    """One set of topics: its runs, measured and compared, and what is known about it.

    runs: what is kept of each, by label. about: as in metrics.json, empty without one. texts: of
    the topics, as far as they are found. cards: the cards of its runs, by the names of their files.
    notes: what was left out. read: what was read besides runs and judgements. encoded: of runs by
    label, the folders of their encoded topics, where these lie elsewhere.
    """

    name: str
    folder: Path
    qrels: RealQrels
    measured: Measured
    runs: dict[str, Kept]
    about: dict[str, Any]
    texts: dict[str, str] = field(default_factory=dict)
    cards: dict[str, dict[str, Any]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    read: list[str] = field(default_factory=list)
    encoded: Mapping[str, Path] = field(default_factory=dict)


def read_sections(
    folder: Path,
    qrels: str | None = None,
    split: str | None = None,
    measures: Sequence[str] = ("nDCG@10",),
    baseline: str | None = None,
    drop_self: bool | None = None,
    named: Named | None = None,
) -> list[Section]:
    """The runs of a folder as one section; if it has none, its folders of runs, a section each.

    Each split of ``dupmae beir`` is a section, too. Of a folder that it wrote, without qrels, only
    the runs that metrics.json measured are read.

    qrels, split: as for ``read_judging``; without qrels, what ``dupmae beir`` wrote into the
    folder, or its only file that ends in ``.qrels``. baseline: the label of a run. drop_self:
    whether documents with their topic's own id are left out; None: as metrics.json says, else as
    the data set calls for. named: what may be read besides; None: as for ``Named(folder)``. Raises
    InputError if there are no runs or no judgements, for a run that cannot be read, and for a
    baseline that is not among the runs.
    """
    if not folder.is_dir():
        raise InputError.at(folder, None, "no such folder; name one that holds runs")
    named = named or Named(folder)
    how = _How(qrels, split, measures, baseline, drop_self, named)
    if runs_in(folder):
        return _sections(folder, how)
    inner = folders_of_runs(folder)
    if not inner:
        study = [each for each in (folder / "runs",) if each.is_dir()]
        raise InputError.at(
            folder,
            None,
            "no runs in it: no file that ends in .trec or .run",
            *(f"those of a study are in {each}" for each in study),
        )
    options = {
        "--qrels (qrels=…)": qrels,
        "--queries (queries=…)": named.queries,
        "--index (index=…)": named.index,
    }
    for option in (name for name, value in options.items() if value is not None):
        raise InputError.at(
            folder,
            None,
            f"holds {counted(len(inner), 'folder')} of runs, each with judgements, topics and an "
            f"index of its own; leave out {option}, or name one of them",
        )
    return [section for each in inner for section in _sections(each, how, folder)]


@dataclass(frozen=True, slots=True)
class _How:
    """What ``read_sections`` was asked for."""

    qrels: str | None
    split: str | None
    measures: Sequence[str]
    baseline: str | None
    drop_self: bool | None
    named: Named


def _sections(folder: Path, how: _How, group: Path | None = None) -> list[Section]:
    """The sections of a folder with runs. group: the folder of a group of data sets above it."""
    found = measured_runs(folder) if how.qrels is None else []
    found = [each for each in found if own_qrels(folder, each[0]) is not None]
    if not found:
        found = [(about_of(folder), runs_in(folder))]
    sections = [_read(folder, how, about, paths) for about, paths in found]
    used = {path for _, paths in found for path in paths}
    if others := [path.name for path in runs_in(folder) if path not in used]:
        sections[0].notes.append(
            f"Left out, because metrics.json does not name them: {', '.join(others)}. "
            "--qrels (qrels=…) reads every run."
        )
    for section, (_, paths) in zip(sections, found, strict=True):
        section.cards, notes = cards_of(folder, paths, group)
        section.notes += notes
    return sections


def runs_in(folder: Path) -> list[Path]:
    """The files that are read as runs, in the order of their names."""
    found = [path for path in folder.iterdir() if path.name.endswith(RUN_ENDINGS)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


def folders_of_runs(folder: Path) -> list[Path]:
    """The folders directly in ``folder`` that hold runs, in the order of their names."""
    return [each for each in sorted(folder.iterdir()) if each.is_dir() and runs_in(each)]


def labels_of(paths: Sequence[Path]) -> list[str]:
    """Short names for runs: the files' names without their endings; for ``dupmae beir``, the modes.

    If two paths would get the same name, all keep their whole paths; a path that comes twice gets
    a number, too.
    """
    stems = []
    for path in paths:
        ending = max((end for end in RUN_ENDINGS if path.name.endswith(end)), key=len, default="")
        stems.append(path.name.removesuffix(ending) or path.name)
    if len(set(stems)) < len(stems):
        whole = list(map(str, paths))
        return [
            f"{name} ({whole[:place].count(name) + 1})" if name in whole[:place] else name
            for place, name in enumerate(whole)
        ]
    heads = {stem.rpartition(".")[0] for stem in stems}
    rests = [stem.rpartition(".")[2] for stem in stems]
    by_mode = len(heads) == 1 and all(heads) and not {*MODES, BASELINE}.isdisjoint(rests)
    return rests if by_mode else stems


def _read(folder: Path, how: _How, about: dict[str, Any], paths: Sequence[Path]) -> Section:
    by_label = dict(zip(labels_of(paths), paths, strict=True))
    return _section(folder, how, about, by_label)


def read_section(
    folder: Path,
    by_label: Mapping[str, Path],
    measures: Sequence[str],
    qrels: str | None = None,
    split: str | None = None,
    baseline: str | None = None,
    about: dict[str, Any] | None = None,
) -> Section:
    """The section of runs that the caller made, by their labels, see ``read_sections``.

    folder: where the runs and their judgements lie. about: as in metrics.json. Whatever the runs
    name may be read.
    """
    how = _How(qrels, split, measures, baseline, None, Named(folder, trusted=True))
    return _section(folder, how, about or {}, by_label)


def _section(
    folder: Path, how: _How, about: dict[str, Any], by_label: Mapping[str, Path]
) -> Section:
    judging = _judging(folder, how, about)
    scores, curves, runs = {}, {}, {}
    notes: list[str] = []
    for label in _ordered(list(by_label), how.baseline, folder):
        run = read_run(by_label[label])
        try:
            scores[label], _, matches = judging.measured(run)
        except InputError as error:
            raise InputError.at(by_label[label], None, str(error)) from error
        notes += _noted(label, run, matches, about)
        run = judging.kept(run)
        curves[label], runs[label] = curve_of(run, judging.qrels), kept(run, judging.qrels)
    name = str(about.get("label") or about.get("dataset") or folder.resolve().name)
    section = Section(name, folder, judging.qrels, measured(curves, scores), runs, about)
    own = own_qrels(folder, about) if how.qrels is None else None
    if own is not None and sha256_file(own) != about["qrels"].get("sha256"):
        section.notes.append(f"{own.name} has changed since the runs were measured.")
    section.notes += notes
    lacking, judged = (about.get(f"judged_{what}") for what in ("not_in_corpus", "documents"))
    own_judgements = how.qrels is None and isinstance(lacking, int)
    if own_judgements and lacking and isinstance(judged, int):
        documents = counted(judged, "judged document")
        are = "is" if lacking == 1 else "are"
        section.notes.append(f"{lacking:,} of {documents} {are} not in the corpus.")
    for label, found in scores.items():
        if lacking := found.judged - found.returned:
            section.notes.append(f"{label} lacks {counted(lacking, 'judged topic')}, counted as 0.")
        if found.unjudged:
            unjudged = counted(found.unjudged, "topic")
            section.notes.append(f"{unjudged} of {label} without judgements: ignored.")
    _read_texts(section, how.named)
    return section


def _noted(label: str, run: Run, matches: SelfMatches, about: dict[str, Any]) -> list[str]:
    """What is said of a run: left-out documents, and hits kept of another number."""
    notes = []
    number = matches.found if matches.dropped else 0
    if not number and str(run.metadata.get("self_matches")).startswith("removed"):
        stated = run.metadata.get("topics_with_self_match")  # when the run was made
        number = stated if isinstance(stated, int) else 0
    if number:
        topics = counted(number, "topic")
        notes.append(f"{label}: the document with the topic's own id is left out in {topics}.")
    elif matches.suspicious:
        topics = f"{matches.leading:,} of {counted(matches.searched, 'topic')}"
        notes.append(
            f"{label}: the first hit of {topics} is the document with the topic's own id, which "
            "--drop-self (drop_self=True) leaves out."
        )
    k, whole = run.metadata.get("k"), about.get("k")
    if k != whole and isinstance(k, int) and isinstance(whole, int):
        notes.append(f"{label} was made with {k:,} hits for each topic, not with {whole:,}.")
    return notes


def _judging(folder: Path, how: _How, about: dict[str, Any]) -> Judging:
    drops = how.drop_self
    if how.qrels is not None:
        return read_judging(how.qrels, how.split, how.measures, drops)
    if drops is None and (stated := about.get("self_matches")) in ("removed", "kept"):
        drops = stated == "removed"
    if drops is None and isinstance(about.get("dataset"), str):
        drops = drops_self_matches(about["dataset"])
    if (own := own_qrels(folder, about)) is not None:
        return read_judging(own, None, how.measures, drops)
    found = sorted(path for path in folder.iterdir() if path.name.endswith(_QRELS_ENDINGS))
    if len(found) == 1:
        return read_judging(found[0], None, how.measures, drops)
    what = "no file of judgements" if not found else f"{len(found)} files that end in .qrels"
    raise InputError.at(folder, None, f"{what} in it; name one with --qrels (qrels=…)")


def _ordered(labels: list[str], baseline: str | None, folder: Path) -> list[str]:
    """The labels, the baseline first."""
    if baseline is not None and baseline not in labels:
        names = ", ".join(labels)
        raise InputError.at(folder, None, f"no run {baseline!r} in it; its runs are {names}")
    usual = next((name for name in _BASELINES if name in labels), labels[0])
    first = baseline or usual
    return [first, *(label for label in labels if label != first)]


def _read_texts(section: Section, named: Named) -> None:
    """Read the topics' texts: from what the user or a run names, or ``dupmae beir`` encoded."""
    sources: dict[tuple[str, str | None], None] = {}
    stored = queries_folder(section)
    if named.queries is not None:
        sources[named.queries, None] = None
    elif stored is not None and (why := named.refusal(str(stored))) is not None:
        section.notes.append(f"The topics' texts were not read: {why}.")
    elif stored is not None:
        from dupmae_toolkit.encoding.corpus import EncodedCorpus

        try:
            for part in EncodedCorpus.open(stored).parts():
                section.texts |= dict(zip(part.ids, part.texts, strict=True))
        except DupMAEError as error:
            section.notes.append(f"The topics' texts were not read: {error}")
        section.read.append(str(stored))
        return
    else:
        for run in section.runs.values():
            source, split = run.metadata.get("queries"), run.metadata.get("split")
            if isinstance(source, str) and isinstance(split, str | None) and is_here(source):
                sources[source, split] = None
    for source, split in sources:
        why = None if source == named.queries else named.refusal(source)
        if why is not None:
            section.notes.append(
                f"The topics' texts were not read: {why}; name the file with --queries (queries=…)."
            )
            continue
        try:
            found = read_topics(source, split).queries
        except DupMAEError as error:
            if source == named.queries:
                raise
            section.notes.append(f"The topics' texts were not read: {error}")
            continue
        section.read.append(source)
        section.texts |= {query.id: query.text for query in found if query.id in section.qrels}


def queries_folder(section: Section) -> Path | None:
    """The encoded topics that ``dupmae beir`` wrote into the folder; None if there are none."""
    split = section.about.get("split")
    if not isinstance(split, str) or split != Path(split).name:
        return None
    folder = section.folder / "encoded" / f"queries-{split}"
    return folder if folder.is_dir() else None


def readable_queries(section: Section, named: Named) -> Path | None:
    """``queries_folder``, unless it leads out of the folder of runs."""
    folder = queries_folder(section)
    return None if folder is None or named.refusal(str(folder)) else folder
