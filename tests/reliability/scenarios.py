"""The changes that are disturbed: the state before, the call, and the state it must lead to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit import Document
from dupmae_toolkit.index.build import BuildOptions, index_corpus
from dupmae_toolkit.index.updates import add_corpus, compact_index, delete_documents
from tests.reliability.children import run_child
from tests.reliability.world import ENCODER, Contents, contents, some

OPTIONS = BuildOptions(segment_size=20)


@dataclass(frozen=True, slots=True)
class Scenario:
    """call: changes the index in a folder. refused: words of the error a second call may get."""

    name: str
    call: Callable[[Path], object]
    new: Contents
    old: Contents | None = None
    prepare: Callable[[Path], object] | None = None
    refused: str = ""


def build(index: Path, documents: list[Document], overwrite: bool = False) -> None:
    index_corpus(index, documents, ENCODER, OPTIONS, part_size=16, overwrite=overwrite)


def add(index: Path, documents: list[Document], replace: bool = False) -> None:
    add_corpus(index, documents, ENCODER, replace=replace, part_size=8)


def _worn(index: Path) -> None:
    """An index of three segments with deleted documents in two of them."""
    build(index, some(0, 30))
    add(index, some(30, 34))
    delete_documents(index, ["d1", "d2", "d31"])


def _nearly_due(index: Path) -> None:
    """An index with three small segments; with one more, the four are merged."""
    build(index, some(0, 30))
    for number in (30, 31, 32):
        add(index, some(number, number + 1))


def scenarios() -> list[Scenario]:
    worn = contents(some(0, 34))
    for name in ("d1", "d2", "d31"):
        del worn[name]
    replaced = some(5, 12, 1) + some(40, 44)
    gone = [f"d{number}" for number in (0, 3, 4, 20, 33)]
    half = [f"d{number}" for number in range(3, 15)]
    there = "is in the index already"
    return [
        Scenario(
            "build", lambda index: build(index, some(0, 30)), contents(some(0, 30)),
            refused="already holds an index",
        ),
        Scenario(
            "build over another", lambda index: build(index, some(0, 30, 1), overwrite=True),
            contents(some(0, 30, 1)), worn, _worn,
        ),
        Scenario(
            "add", lambda index: add(index, some(40, 60)), worn | contents(some(40, 60)), worn,
            _worn, there,
        ),
        Scenario(
            "add and merge", lambda index: add(index, some(33, 34)), contents(some(0, 34)),
            contents(some(0, 33)), _nearly_due, there,
        ),
        Scenario(
            "replace", lambda index: add(index, replaced, True), worn | contents(replaced), worn,
            _worn,
        ),
        Scenario(
            "delete", lambda index: delete_documents(index, gone) and None,
            {name: what for name, what in worn.items() if name not in gone}, worn, _worn,
            "nothing was deleted",
        ),
        Scenario(
            "delete and rewrite", lambda index: delete_documents(index, half) and None,
            {name: what for name, what in worn.items() if name not in half}, worn, _worn,
            "nothing was deleted",
        ),
        Scenario(
            "compact", lambda index: compact_index(index) and None, worn, worn, _worn,
        ),
    ]  # fmt: skip


class Before:
    """The index with which each scenario begins, built when it is first asked for."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[Callable[[Path], object], Path] = {}

    def of(self, scenario: Scenario) -> Path | None:
        prepare = scenario.prepare
        if prepare is None:
            return None
        if prepare not in self._made:
            index = self._folder / f"before-{len(self._made)}"
            outcome = run_child(lambda: prepare(index) and None)
            assert outcome.code == 0, outcome
            self._made[prepare] = index
        return self._made[prepare]
