"""The runs of a folder, with the judgements and the topics' texts that belong to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.opening import read_real_qrels, read_topics
from dupmae_toolkit.collection.qrels import RealQrels
from dupmae_toolkit.collection.sources import COMPRESSED
from dupmae_toolkit.collection.trec import read_run
from dupmae_toolkit.errors import DupMAEError, InputError, counted
from dupmae_toolkit.evaluation.beir import METRICS_FILE
from dupmae_toolkit.evaluation.experiment import BASELINE, MODES
from dupmae_toolkit.evaluation.measures import evaluate
from dupmae_toolkit.evaluation.report.comparing import Measured, curve_of, measured
from dupmae_toolkit.evaluation.report.found import Kept, kept
from dupmae_toolkit.files import read_json, sha256_file

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
    the topics, as far as they are found. cards: the cards that lie in the folder, by their file.
    notes: what was left out. encoded: of runs by label, the folders of their encoded topics, where
    these lie elsewhere.
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
    encoded: Mapping[str, Path] = field(default_factory=dict)


def read_sections(
    folder: Path,
    qrels: str | None = None,
    split: str | None = None,
    measures: Sequence[str] = ("nDCG@10",),
    baseline: str | None = None,
) -> list[Section]:
    """The runs of a folder as one section; if it has none, its folders of runs, a section each.

    Each split of ``dupmae beir`` is a section, too.

    qrels, split: as for ``read_real_qrels``; without qrels, what ``dupmae beir`` wrote into the
    folder, or its only file that ends in ``.qrels``. baseline: the label of a run. Raises
    InputError if there are no runs or no judgements, for a run that cannot be read, and for a
    baseline that is not among the runs.
    """
    if not folder.is_dir():
        raise InputError.at(folder, None, "no such folder; name one that holds runs")
    if runs_in(folder):
        if qrels is None and (by_split := _splits(folder)):
            return [
                _read(folder, None, None, measures, baseline, about, paths)
                for about, paths in by_split
            ]
        return [_read(folder, qrels, split, measures, baseline, _about(folder), runs_in(folder))]
    inner = [each for each in sorted(folder.iterdir()) if each.is_dir() and runs_in(each)]
    if not inner:
        raise InputError.at(folder, None, "no runs in it: no file that ends in .trec or .run")
    if qrels is not None:
        raise InputError.at(
            folder,
            None,
            f"holds {counted(len(inner), 'folder')} of runs, each with judgements of its own; "
            "leave out --qrels (qrels=…), or name one of them",
        )
    return [
        _read(each, None, None, measures, baseline, _about(each), runs_in(each)) for each in inner
    ]


def runs_in(folder: Path) -> list[Path]:
    """The files that are read as runs, in the order of their names."""
    found = [path for path in folder.iterdir() if path.name.endswith(RUN_ENDINGS)]
    return sorted(path for path in found if path.is_file() and not path.name.startswith("."))


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


def _read(
    folder: Path,
    qrels: str | None,
    split: str | None,
    measures: Sequence[str],
    baseline: str | None,
    about: dict[str, Any],
    paths: Sequence[Path],
) -> Section:
    by_label = dict(zip(labels_of(paths), paths, strict=True))
    return read_section(folder, by_label, measures, qrels, split, baseline, about)


def read_section(
    folder: Path,
    by_label: Mapping[str, Path],
    measures: Sequence[str],
    qrels: str | None = None,
    split: str | None = None,
    baseline: str | None = None,
    about: dict[str, Any] | None = None,
) -> Section:
    """The section of runs by their labels, see ``read_sections``.

    folder: where the runs, their judgements and cards lie. about: as in metrics.json.
    """
    about = about or {}
    judged = _qrels(folder, about, qrels, split)
    scores, curves, runs = {}, {}, {}
    for label in _ordered(list(by_label), baseline, folder):
        run = read_run(by_label[label], ties="trec_eval")
        try:
            scores[label] = evaluate(judged, run, measures)
        except InputError as error:
            raise InputError.at(by_label[label], None, str(error)) from error
        curves[label], runs[label] = curve_of(run, judged), kept(run, judged)
    name = str(about.get("label") or about.get("dataset") or folder.resolve().name)
    section = Section(name, folder, judged, measured(curves, scores), runs, about)
    own = _own_qrels(folder, about) if qrels is None else None
    if own is not None and sha256_file(own) != about["qrels"].get("sha256"):
        section.notes.append(f"{own.name} has changed since the runs were measured.")
    for label, found in scores.items():
        if lacking := found.judged - found.returned:
            section.notes.append(f"{label} lacks {counted(lacking, 'judged topic')}, counted as 0.")
        if found.unjudged:
            unjudged = counted(found.unjudged, "topic")
            section.notes.append(f"{unjudged} of {label} without judgements: ignored.")
    _read_texts(section)
    for path in sorted(folder.glob("*card.json")):
        card = _record(path)
        if isinstance(card.get("command"), list):
            section.cards[path.name] = card
    return section


def _record(path: Path) -> dict[str, Any]:
    """The JSON object in a file; empty if there is none."""
    try:
        found = read_json(path)
    except InputError:
        return {}
    return found if isinstance(found, dict) else {}


def _about(folder: Path) -> dict[str, Any]:
    about = _record(folder / METRICS_FILE).get("about")
    return about if isinstance(about, dict) else {}


def _splits(folder: Path) -> list[tuple[dict[str, Any], list[Path]]]:
    """If ``dupmae beir`` ran several splits: what metrics.json says about each, and its runs."""
    told = _record(folder / METRICS_FILE).get("splits")
    found = []
    for split, values in (told if isinstance(told, dict) else {}).items():
        about = values.get("about") if isinstance(values, dict) else None
        if isinstance(about, dict) and _own_qrels(folder, about) is not None:
            label = f"{about.get('dataset')}.{split}"
            paths = [path for path in runs_in(folder) if path.name.startswith(f"{label}.")]
            if paths:
                found.append(({**about, "label": label}, paths))
    return found


def _own_qrels(folder: Path, about: dict[str, Any]) -> Path | None:
    """The judgements that ``dupmae beir`` wrote into the folder; None if there are none."""
    stated = about.get("qrels")
    name = stated.get("file") if isinstance(stated, dict) else None
    # Only a name, no path: a record must not lead to files elsewhere.
    good = isinstance(name, str) and name == Path(name).name and (folder / name).is_file()
    return folder / str(name) if good else None


def _qrels(folder: Path, about: dict[str, Any], given: str | None, split: str | None) -> RealQrels:
    if given is not None:
        return read_real_qrels(given, split)
    if (own := _own_qrels(folder, about)) is not None:
        return read_real_qrels(own)
    found = sorted(path for path in folder.iterdir() if path.name.endswith(_QRELS_ENDINGS))
    if len(found) == 1:
        return read_real_qrels(found[0])
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


def _read_texts(section: Section) -> None:
    """Read the topics' texts from what ``dupmae beir`` encoded, or the file that a run names."""
    stored = queries_folder(section)
    if stored is not None:
        from dupmae_toolkit.encoding.corpus import EncodedCorpus

        try:
            for part in EncodedCorpus.open(stored).parts():
                section.texts |= dict(zip(part.ids, part.texts, strict=True))
            return
        except DupMAEError as error:
            section.notes.append(f"The topics' texts were not read: {error}")
    named: dict[tuple[str, str | None], None] = {}
    for run in section.runs.values():
        source, split = run.metadata.get("queries"), run.metadata.get("split")
        if isinstance(source, str) and isinstance(split, str | None) and is_here(source):
            named[source, split] = None
    for source, split in named:
        try:
            found = read_topics(source, split).queries
        except DupMAEError as error:
            section.notes.append(f"The topics' texts were not read: {error}")
            continue
        section.texts |= {query.id: query.text for query in found if query.id in section.qrels}


def is_here(source: str) -> bool:
    """Whether a name is that of a file or folder on this machine."""
    try:
        return Path(source).exists()
    except (OSError, ValueError):  # too long, or with a null character
        return False


def queries_folder(section: Section) -> Path | None:
    """The encoded topics that ``dupmae beir`` wrote into the folder; None if there are none."""
    split = section.about.get("split")
    if not isinstance(split, str) or split != Path(split).name:
        return None
    folder = section.folder / "encoded" / f"queries-{split}"
    return folder if folder.is_dir() else None
