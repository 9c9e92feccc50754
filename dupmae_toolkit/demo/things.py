"""What the readers of modules hand on: things with a docstring, whether read or inspected."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

MODULE, CLASS, FUNCTION, ATTRIBUTE = "module", "class", "function", "attribute"


@dataclass(slots=True)
class Thing:
    """A class, function, method or attribute, told apart from all others by ``key``.

    ``home`` is the module and the path inside it by which it was defined. ``signature`` is in
    parentheses, without annotations, or empty. ``members`` are a class's public members;
    ``inherited`` names those that come from a base class that has no public name.
    """

    key: Hashable
    home: tuple[str, str]
    kind: str
    doc: str = ""
    signature: str = ""
    members: dict[str, Thing] = field(default_factory=dict)
    inherited: set[str] = field(default_factory=set)


class Module(Protocol):
    """A module, whether its source is read or the running module is inspected."""

    name: str

    @property
    def doc(self) -> str: ...

    def exports(self) -> list[str]:
        """Its public names."""
        ...

    def lookup(self, name: str) -> list[Thing]:
        """What a name may be bound to, the likeliest first: a module may rebind it on the way."""
        ...


def is_public(name: str) -> bool:
    """Whether no part of a dotted name begins with an underscore."""
    return not any(part.startswith("_") for part in name.split("."))


def merged(candidates: list[Thing], name: str = "") -> Thing | None:
    """One thing of several that share a name: the first that has a docstring, members of all.

    ``datetime.date`` is written in C and again in Python, and one of them may lack docstrings.
    What was defined under ``name`` goes before what is also called so.
    """
    if not candidates:
        return None
    candidates = sorted(candidates, key=lambda thing: thing.home[1] != name)
    best = next((thing for thing in candidates if thing.doc), candidates[0])
    if best.kind != CLASS:
        return best
    members: dict[str, Thing] = {}
    inherited: set[str] = set()
    for thing in [best, *candidates]:
        for name, member in thing.members.items():
            if name not in members or (member.doc and not members[name].doc):
                members[name] = member
                (inherited.add if name in thing.inherited else inherited.discard)(name)
    signature = best.signature or next((t.signature for t in candidates if t.signature), "")
    return Thing(best.key, best.home, CLASS, best.doc, signature, members, inherited)
