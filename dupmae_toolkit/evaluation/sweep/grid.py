"""The runs of a study: every encoder with every index and every score, each ranking once."""

from __future__ import annotations

from dataclasses import dataclass

from dupmae_toolkit.errors import InputError, counted
from dupmae_toolkit.evaluation.experiment import BASELINE
from dupmae_toolkit.evaluation.sweep.study import Study, StudyEncoder, StudyIndex, StudyScore

#: Runs of all collections together. More is a mistake, and would take weeks.
MAX_RUNS = 10_000


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of each collection. score: None: Lucene's own BM25."""

    label: str
    encoder: StudyEncoder
    index: StudyIndex
    score: StudyScore | None


@dataclass(frozen=True, slots=True)
class Grid:
    """cells: in the study's order, encoder by encoder. same: labels that name a cell's ranking too.

    baseline: the label of the cell that the others are compared with.
    """

    cells: tuple[Cell, ...]
    same: dict[str, str]
    baseline: str


def grid_of(study: Study) -> Grid:
    """The cells of a study.

    A ranking does not depend on everything: dense scores not on the words of the index, BM25's
    neither on the encoder nor on FAISS. Cells with the same ranking are one. Raises InputError for
    a grid that is too large, a score without any cell, and a baseline that is no cell.
    """
    size = len(study.encoders) * len(study.indexes) * len(study.scores) * len(study.collections)
    if size > MAX_RUNS:
        raise InputError.at(
            study.path or "the study",
            None,
            f"its grid has {counted(size, 'run')}",
            f"a study has at most {MAX_RUNS:,}; make several of it",
        )
    cells: dict[tuple[object, ...], Cell] = {}
    same: dict[str, str] = {}
    if study.lucene_bm25:
        cells[(BASELINE,)] = Cell(BASELINE, study.encoders[0], study.indexes[0], None)
    for score in study.scores:
        _add_all(study, score, cells, same)
    order = {each.name: place for place, each in enumerate(study.encoders)}
    listed = sorted(cells.values(), key=lambda cell: order[cell.encoder.name])
    return Grid(tuple(listed), same, _baseline(study, listed, same))


def _add_all(
    study: Study, score: StudyScore, cells: dict[tuple[object, ...], Cell], same: dict[str, str]
) -> None:
    made = False
    for encoder in study.encoders:
        for index in study.indexes:
            if score.encoders and encoder.name not in score.encoders:
                continue
            if score.indexes and index.name not in score.indexes:
                continue
            if score.mode == "bm25" and not index.bm25:
                continue  # no words to rank by; another index's ranking is the same
            made = True
            label = f"{encoder.name}.{index.name}.{score.name}"
            if score.mode == "bm25":
                # Passages are cut by the encoder's tokens, so their BM25 is that of one encoder.
                label = label if index.cut else score.name
            cell = Cell(label, encoder, index, score)
            first = cells.setdefault(_ranking(cell), cell)
            if first.label != label:
                same[label] = first.label
    if not made:
        raise InputError.at(
            study.path or "the study", None, f"score {score.name}: no encoder and index is for it"
        )


def _ranking(cell: Cell) -> tuple[object, ...]:
    """What a ranking depends on."""
    score, index = cell.score, cell.index
    assert score is not None
    cut = (index.cut, index.aggregate or "max") if index.cut else None
    if score.mode == "bm25":
        return "bm25", cut, cell.encoder.name if cut else ""
    settings: tuple[object, ...] = (score.mode, score.plain, score.idf_power)
    if score.mode == "hybrid":
        settings += (score.how, score.exact)
    faiss = index.faiss if score.mode != "lexical" else ""
    words = index.bm25 if score.mode != "dense" and not score.plain else None
    return cell.encoder.name, cut, faiss, words, settings


def _baseline(study: Study, cells: list[Cell], same: dict[str, str]) -> str:
    labels = [cell.label for cell in cells]
    if not study.baseline:
        return BASELINE if BASELINE in labels else labels[0]
    label = same.get(study.baseline, study.baseline)
    if label not in labels:
        shown = ", ".join(labels[:20]) + (" …" if len(labels) > 20 else "")
        raise InputError.at(
            study.path or "the study",
            None,
            f"baseline {study.baseline!r} is no run",
            f"choose {shown}",
        )
    return label
