"""The commands whose files get a card, and what each of their options may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.cards import Draft
    from dupmae_toolkit.records import Run

#: Types of values that can name no file: their names in click.
_HARMLESS_TYPES = {"integer", "float", "integer range", "float range", "choice"}


@dataclass(frozen=True, slots=True)
class Repeatable:
    """The parameters of a command by what they do, by their names in Python.

    reads: those that name what is read. harmless: texts and flags that neither read nor write.
    ``output`` is where it writes. Numbers and choices are harmless. A command with any other
    parameter is not repeated.
    """

    reads: frozenset[str]
    harmless: frozenset[str]

    def allows(self, parameter: Any) -> bool:
        """Whether a card may set a parameter of click."""
        known = self.reads | self.harmless | {"output"}
        return parameter.name in known or parameter.type.name in _HARMLESS_TYPES


REPEATABLE = {
    "search": Repeatable(
        frozenset({"index", "queries", "among", "query_vectors", "model"}),
        frozenset(
            {"query", "split", "id_field", "text", "header", "weights", "plain", "exact"}
            | {"filter", "fields", "tag", "device", "json"}
        ),
    ),
    "fuse": Repeatable(frozenset({"runs"}), frozenset({"weights", "tag", "json"})),
    "beir": Repeatable(
        frozenset({"dataset", "model"}),
        frozenset(
            {"split", "bm25", "no_bm25", "plain", "weights", "exact", "faiss", "measures"}
            | {"skip_invalid", "device", "json"}
        ),
    ),
}

#: The words of the command that runs, and click's context of it.
_words: list[str] = []
_context: Any = None


def begin(words: list[str]) -> None:
    """Remember the command line, as it is typed after ``dupmae``."""
    _words[:] = words


def enter(context: Any) -> None:
    """Remember the parsed parameters of the command that runs."""
    global _context
    _context = context


def draft() -> Draft:
    """The card of the command that runs; it takes the checksums of what is read, and the time."""
    from dupmae_toolkit.evaluation.cards import Draft

    reads = dict(read_by(_context.command, _context.params))
    return Draft(["dupmae", *_words], reads)


def read_by(command: Any, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a command of ``REPEATABLE`` reads: the option, or the argument's name, and the path."""
    reads = REPEATABLE[command.name].reads
    for parameter in command.params:
        value = values.get(parameter.name)
        if parameter.name not in reads or value is None:
            continue
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        if isinstance(value, list | tuple):
            yield from ((f"{name} {n}", str(each)) for n, each in enumerate(value, 1))
        elif parameter.name != "model" or Path(str(value)).is_dir():  # a name is no path
            yield name, str(value)


def write_run_card(draft: Draft, run: Run, path: Path) -> None:
    """Write the card of a run beside it."""
    from dupmae_toolkit.evaluation.cards import about_run, card_path

    draft.write(card_path(path), [path], about_run(run))
