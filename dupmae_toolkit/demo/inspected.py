"""Modules written in C, and Python modules without a source file, seen through introspection."""

from __future__ import annotations

import importlib
import inspect
import warnings
from types import ModuleType
from typing import Any

from dupmae_toolkit.demo.things import ATTRIBUTE, CLASS, FUNCTION, Thing, is_public

_NOT_TELLING = ("Initialize self.", "Alias for field number", "x.__contains__")
_LONGEST_SIGNATURE = 400


class InspectedModule:
    """A module that is imported; call it only for modules whose import does nothing else.

    In a ``native`` module, one written in C, all names are its own. ``hidden_bases``: a class shows
    what it inherits from classes without a public name.
    """

    def __init__(
        self, name: str, module: ModuleType, native: bool = False, hidden_bases: bool = False
    ) -> None:
        self.name = name
        self.doc = _doc(module)
        self._module = module
        self._values = vars(module)
        self._native = native
        self._hidden_bases = hidden_bases

    @classmethod
    def open(
        cls, name: str, native: bool = False, hidden_bases: bool = False
    ) -> InspectedModule | None:
        """None where the module is not to be had, as with optional parts of a distribution."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return cls(name, importlib.import_module(name), native, hidden_bases)
        except Exception:
            return None  # whatever an optional module says on import, the corpus does without it

    def exports(self) -> list[str]:
        declared = self._values.get("__all__")
        if declared is not None:
            return [name for name in declared if isinstance(name, str)]
        return [name for name in self._values if is_public(name) and self._is_own(name)]

    def _is_own(self, name: str) -> bool:
        home = getattr(self._values[name], "__module__", None) or ""
        return self._native or home == self.name or (home != "" and not is_public(home))

    def lookup(self, name: str) -> list[Thing]:
        # By getattr, because a module may load a name when it is first asked for it.
        value = getattr(self._module, name, None)
        if self.name == "sys":
            # Programs put hooks of their own there; the original stands beside it.
            value = getattr(self._module, f"__{name}__", value)
        thing = inspected(value, self._hidden_bases)
        return [thing] if thing else []


def inspected(value: Any, hidden_bases: bool = False) -> Thing | None:
    """The thing that an object is; None for data."""
    home = (getattr(value, "__module__", None) or "", getattr(value, "__qualname__", ""))
    if inspect.isclass(value):
        begin = vars(value).get("__init__")
        # A class in Python may describe itself where it is constructed.
        doc = [
            inspect.cleandoc(_doc(value)),
            inspect.cleandoc(_doc(begin)) if inspect.isfunction(begin) else "",
        ]
        text = "\n\n".join(filter(None, doc))
        thing = Thing(id(value), home, CLASS, text, _signature(value))
        for name, raw in vars(value).items():
            if is_public(name) and (member := _member(value, name, raw, home)):
                thing.members[name] = member
        for base in value.__mro__[1:] if hidden_bases else ():
            if not is_public(f"{base.__module__}.{base.__qualname__}"):
                inherited = inspected(base)
                for name, member in inherited.members.items() if inherited else ():
                    if name not in thing.members:
                        thing.members[name] = member
                        thing.inherited.add(name)
        return thing
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.ismethod(value):
        return Thing(id(value), home, FUNCTION, _doc(value), _signature(value))
    return None


def _member(owner: type, name: str, raw: Any, owner_home: tuple[str, str]) -> Thing | None:
    key, home = (id(owner), name), (owner_home[0], f"{owner_home[1]}.{name}")
    if isinstance(raw, property) or inspect.isdatadescriptor(raw):
        return Thing(key, home, ATTRIBUTE, _doc(raw))
    if not isinstance(raw, type) and (inspect.isroutine(raw) or hasattr(raw, "__func__")):
        bound = getattr(owner, name, raw)
        signature = _signature(bound, inspect.isroutine(bound))
        return Thing(key, home, FUNCTION, _doc(bound), signature)
    return None


def _doc(value: Any) -> str:
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or doc.startswith(_NOT_TELLING):
        return ""
    return doc


def _signature(value: Any, is_method: bool = False) -> str:
    try:
        signature = inspect.signature(value)
    except Exception:
        return ""  # it evaluates the defaults, which may refer to what is not there
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    if is_method and parameters and parameters[0].name in ("self", "cls", "type"):
        parameters = parameters[1:]
    text = str(inspect.Signature(parameters))
    return text if len(text) < _LONGEST_SIGNATURE and " at 0x" not in text else ""
