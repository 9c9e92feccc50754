"""Symbols and modules of Python, whether read from source or by introspection."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

MODULE, CLASS, FUNCTION, ATTRIBUTE = "module", "class", "function", "attribute"


@dataclass(slots=True)
class Symbol:
    """A module, class, function, method or attribute, identified by ``key``.

    ``home``: the module that defines it, and its path inside that module. ``signature``: in
    parentheses, without annotations, or empty. ``members``: a class's public members.
    ``inherited``: the names of those that come from a base class without a public name.
    """

    key: Hashable
    home: tuple[str, str]
    kind: str
    doc: str = ""
    signature: str = ""
    members: dict[str, Symbol] = field(default_factory=dict)
    inherited: set[str] = field(default_factory=set)


class Module(Protocol):
    """A module, whether its source is read or the running module is inspected."""

    name: str

    @property
    def doc(self) -> str: ...

    def exports(self) -> list[str]:
        """Its public names."""
        ...

    def lookup(self, name: str) -> list[Symbol]:
        """What a name may be bound to, the likeliest first; a module may bind it several times."""
        ...


def is_public(name: str) -> bool:
    """Whether no part of a dotted name begins with an underscore."""
    return not any(part.startswith("_") for part in name.split("."))


def merged(candidates: list[Symbol], name: str = "") -> Symbol | None:
    """Merge symbols that share a name: the first with a docstring, with the members of all.

    ``datetime.date``, for example, is written in C and again in Python, and one of them may lack
    docstrings. A symbol that was defined as ``name`` comes before one that was bound to it later.
    """
    if not candidates:
        return None
    candidates = sorted(candidates, key=lambda symbol: symbol.home[1] != name)
    best = next((symbol for symbol in candidates if symbol.doc), candidates[0])
    if best.kind != CLASS:
        return best
    members: dict[str, Symbol] = {}
    inherited: set[str] = set()
    for symbol in [best, *candidates]:
        for name, member in symbol.members.items():
            if name not in members or (member.doc and not members[name].doc):
                members[name] = member
                (inherited.add if name in symbol.inherited else inherited.discard)(name)
    signature = best.signature or next((t.signature for t in candidates if t.signature), "")
    return Symbol(best.key, best.home, CLASS, best.doc, signature, members, inherited)
