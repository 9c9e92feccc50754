"""A study from beginning to end: runs, record, tables, page.

    DIR/study.json                         the record
    DIR/study.csv, study.md, study.tex     its tables
    DIR/report.html                        the page of `dupmae report` over all runs
    DIR/card.json                          the card, if all runs were made

`running` says what else lies in DIR.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from dupmae_toolkit.collection.beir import all_topics
from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.evaluation.card_reading import is_card, without_card
from dupmae_toolkit.evaluation.cards import FOLDER_CARD, Draft
from dupmae_toolkit.evaluation.development import MemoryDataset
from dupmae_toolkit.evaluation.report.examples import examples_of
from dupmae_toolkit.evaluation.report.explained import explain
from dupmae_toolkit.evaluation.report.folder import Section, read_section, runs_in
from dupmae_toolkit.evaluation.report.named import Named
from dupmae_toolkit.evaluation.report.page import is_page, page
from dupmae_toolkit.evaluation.significance import correct
from dupmae_toolkit.evaluation.sweep.grid import Grid, grid_of
from dupmae_toolkit.evaluation.sweep.results import FORM, Results
from dupmae_toolkit.evaluation.sweep.running import (
    RUNS,
    WORK,
    Made,
    Opened,
    Runner,
    open_collections,
    unused_work,
)
from dupmae_toolkit.evaluation.sweep.study import Study, StudyEncoder
from dupmae_toolkit.evaluation.sweep.tables import latex_tables, lead, long_table, markdown_tables
from dupmae_toolkit.files import atomic_file, make_folder, read_json, write_json
from dupmae_toolkit.locks import exclusive
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Encoder

RECORD_FILE, PAGE_FILE = "study.json", "report.html"
TABLES = ("study.csv", "study.md", "study.tex")
#: Topics with the largest gains, and as many with losses, that the page shows of a collection.
_TOPICS = 3


def run_sweep(
    study: Study,
    output: str | Path,
    *,
    load: Callable[[StudyEncoder], Encoder],
    draft: Draft | None = None,
    demonstration: Callable[[], MemoryDataset] | None = None,
    fail_fast: bool = False,
    say: Callable[[str], None] | None = None,
    progress: Progress = silent,
) -> Results:
    """Make all runs of a study in the folder ``output``, measure and compare them, and report.

    What an earlier call has made there, of this study or of an earlier form of it, is reused. A
    run that fails is left out and stands in ``Results.made.failures``, unless ``fail_fast``, which
    raises DupMAEError for it. load: gives an encoder of the study. draft: of the cards; None: the
    runs get none. demonstration: gives the collection of that kind. say: is told of failures.

    Raises InputError before anything is encoded for collections that are missing or broken, and
    for an ``output`` with a record or a page that is none of this toolkit's.
    """
    grid = grid_of(study)
    folder = Path(output)
    _check_output(folder)
    collections = open_collections(study, draft, demonstration)
    make_folder(folder)
    with exclusive(folder), without_card(folder):
        runner = Runner(study, grid, folder, load, draft, fail_fast, say, progress)
        made = runner.make(collections)
        sections = _sections(study, grid, folder, collections, made)
        results = Results(study, grid, collections, made, sections)
        _write(results, folder, draft)
    return results


def unused(results: Results, folder: Path) -> list[str]:
    """What lies in a study's folder and is no part of it, a line each."""
    lines = []
    for name, by_label in results.made.runs.items():
        place = folder / RUNS / name
        others = set(runs_in(place)) - set(by_label.values()) if place.is_dir() else set()
        if others:
            lines.append(f"{place}: {counted(len(others), 'run')} that this study did not make")
    loaded = set(results.made.encoders)
    if all(cell.encoder.name in loaded for cell in results.grid.cells) and (
        work := list(unused_work(folder, results.made.used))
    ):
        lines.append(
            f"{folder / WORK}: {counted(len(work), 'folder')} of vectors and indexes that this "
            "study did not use"
        )
    return lines


def _check_output(folder: Path) -> None:
    record, place, card = folder / RECORD_FILE, folder / PAGE_FILE, folder / FOLDER_CARD
    if record.exists():
        told = read_json(record)
        if not isinstance(told, dict) or told.get("form") != FORM or "study" not in told:
            raise InputError.at(record, None, "is not the record of a study; name another folder")
    if place.exists() and not is_page(place):
        raise InputError.at(place, None, "is no report; name another folder")
    if card.exists() and not is_card(card):
        raise InputError.at(card, None, "is no card; name another folder")
    if not record.exists() and not (folder / RUNS).is_dir():  # both lack only before the first run
        for name in TABLES:
            if (folder / name).exists():
                raise InputError.at(
                    folder / name, None, "was not written by `dupmae sweep`; name another folder"
                )


def _sections(
    study: Study, grid: Grid, folder: Path, collections: list[Opened], made: Made
) -> dict[str, Section]:
    """Each collection that has runs, measured; p-values are corrected over all of them."""
    sections: dict[str, Section] = {}
    for each in collections:
        by_label = made.runs[each.name]
        if not by_label:
            continue
        place = folder / RUNS / each.name
        first = grid.baseline if grid.baseline in by_label else next(iter(by_label))
        ordered = {
            cell.label: by_label[cell.label] for cell in grid.cells if cell.label in by_label
        }
        section = read_section(
            place, ordered, study.measures, str(place / f"{each.name}.qrels"), baseline=first
        )
        if first != grid.baseline:
            section.measured = replace(section.measured, rows=())
        section.name, section.cards = each.name, {}
        section.about = {"split": each.entry.judged_split} | _documents(each)
        section.texts = {
            query.id: query.text for query in all_topics(each.dataset, each.entry.judged_split)
        }
        section.encoded = made.topics[each.name]
        sections[each.name] = section
    correct([row for section in sections.values() for row in section.measured.rows])
    return sections


def _documents(collection: Opened) -> dict[str, Any]:
    counts = {facts["documents"] for facts in collection.facts.values()}
    return {"documents": counts.pop()} if len(counts) == 1 else {}


def _write(results: Results, folder: Path, draft: Draft | None) -> None:
    """Write the tables and the page, and the record when they are complete."""
    written = (long_table(results), markdown_tables(results), latex_tables(results))
    texts = dict(zip(TABLES, written, strict=True)) | {PAGE_FILE: _page(results)}
    for name, text in texts.items():
        with atomic_file(folder / name) as temporary:
            temporary.write_text(text, "utf-8")
    write_json(folder / RECORD_FILE, results.to_dict())
    if draft is not None and not results.made.failures:
        runs = [path for by_label in results.made.runs.values() for path in by_label.values()]
        figures = {
            f"{name} {label}": scores.means
            for name, section in results.sections.items()
            for label, scores in section.measured.scores.items()
        }
        about = {"study": {"file": results.study.path, "sha256": results.study.sha256}}
        draft.write(folder / FOLDER_CARD, runs, about, figures)


def _page(results: Results) -> str:
    chosen = []
    for section in results.sections.values():
        compared = bool(section.measured.rows) or len(section.measured.scores) == 1
        examples = examples_of(section, _TOPICS if compared else 0)
        explain(section, examples, Named(section.folder, trusted=True))
        chosen.append((section, examples))
    return page(chosen, f"Study {Path(results.study.path).stem}".strip(), lead(results))
