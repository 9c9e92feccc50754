"""The commands whose files get a card, and what each of their options may do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dupmae_toolkit.evaluation.cards import Draft
    from dupmae_toolkit.records import Run


@dataclass(frozen=True, slots=True)
class Repeatable:
    """What the parameters of a command do; parameters have their names in Python.

    reads: those that name what is read. harmless: texts, choices and flags that neither read nor
    write. ``output`` is where the command writes. Numbers are harmless. A command that sets any
    other parameter is not repeated, because it might write elsewhere.
    """

    reads: frozenset[str]
    harmless: frozenset[str]

    def allows(self, name: str, value: Any) -> bool:
        """Whether a card may set a parameter to a value."""
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number or name in self.reads | self.harmless | {"output"}


def _repeatable(reads: str, harmless: str) -> Repeatable:
    return Repeatable(frozenset(reads.split()), frozenset(harmless.split()))


REPEATABLE = {
    "search": _repeatable(
        "index queries among query_vectors model",
        "query split id_field text header format mode fusion norm weights plain exact filter "
        "aggregate fields tag query_encoder device precision json drop_self feedback",
    ),
    "rerank": _repeatable(
        "run corpus queries cross_encoder",
        "split label tag format device precision json id_field title text header",
    ),
    "fuse": _repeatable("runs", "method weights norm low missing tag format json"),
    "beir": _repeatable(
        "dataset queries qrels model",
        "split bm25 no_bm25 plain fusion weights exact faiss measures skip_invalid device "
        "precision json drop_self aggregate id_field title text header",
    ),
    "sweep": _repeatable("study", "data fail_fast device precision json"),
}

#: The words of the running command, and click's context of it.
_words: list[str] = []
_context: Any = None


def begin(words: list[str]) -> None:
    """Remember the command line, as it was typed after ``dupmae``."""
    _words[:] = words


def enter(context: Any) -> None:
    """Remember the parsed parameters of the running command."""
    global _context
    _context = context


def draft() -> Draft:
    """Begin the card of the running command, with the time and the checksums of what it reads."""
    from dupmae_toolkit.evaluation.cards import Draft

    reads = dict(read_by(_context.command, _context.params))
    return Draft(["dupmae", *_words], reads)


def read_by(command: Any, values: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What a command of ``REPEATABLE`` reads: the option, or the argument's name, and the path."""
    from dupmae_toolkit.model.pair_names import labelled_folders

    if command.name == "sweep":
        from dupmae_toolkit.evaluation.sweep.study_file import load_study

        yield from load_study(values["study"], values["data"]).reads().items()
        return
    reads = REPEATABLE[command.name].reads
    for parameter in command.params:
        value = values.get(parameter.name)
        if parameter.name not in reads or value is None:
            continue
        name = parameter.opts[0] if parameter.param_type_name == "option" else parameter.metavar
        if isinstance(value, list | tuple):
            yield from ((f"{name} {n}", str(each)) for n, each in enumerate(value, 1))
        elif parameter.name == "model":
            yield from labelled_folders(name, str(value))
        else:
            yield name, str(value)


def write_run_card(draft: Draft, run: Run, path: Path) -> None:
    """Write the card of a run beside it."""
    from dupmae_toolkit.evaluation.cards import about_run, card_path

    draft.write(card_path(path), [path], about_run(run))
