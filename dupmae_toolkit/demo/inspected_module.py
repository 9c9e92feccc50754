"""Modules written in C, and Python modules without a source file, read by introspection."""

from __future__ import annotations

import importlib
import inspect
import warnings
from types import ModuleType
from typing import Any

from dupmae_toolkit.demo.symbols import ATTRIBUTE, CLASS, FUNCTION, Symbol, is_public

_UNINFORMATIVE = ("Initialize self.", "Alias for field number", "x.__contains__")
_LONGEST_SIGNATURE = 400


class InspectedModule:
    """A module that is imported and inspected; only for modules that can be imported safely.

    ``native``: the module is written in C, so all its names are defined in it. ``hidden_bases``:
    members that a class inherits from classes without a public name count as its own.
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
        """None if the module cannot be imported; some distributions leave modules out."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return cls(name, importlib.import_module(name), native, hidden_bases)
        except Exception:
            return None  # an optional module may raise anything; the corpus does without it

    def exports(self) -> list[str]:
        declared = self._values.get("__all__")
        if declared is not None:
            return [name for name in declared if isinstance(name, str)]
        return [name for name in self._values if is_public(name) and self._is_own(name)]

    def _is_own(self, name: str) -> bool:
        home = getattr(self._values[name], "__module__", None) or ""
        return self._native or home == self.name or (home != "" and not is_public(home))

    def lookup(self, name: str) -> list[Symbol]:
        # getattr, because a module may load a name only on first use.
        value = getattr(self._module, name, None)
        if self.name == "sys":
            # Programs replace hooks such as sys.excepthook; the original is sys.__excepthook__.
            value = getattr(self._module, f"__{name}__", value)
        symbol = symbol_of(value, self._hidden_bases)
        return [symbol] if symbol else []


def symbol_of(value: Any, hidden_bases: bool = False) -> Symbol | None:
    """The symbol of a class, function or method; None for any other object."""
    home = (getattr(value, "__module__", None) or "", getattr(value, "__qualname__", ""))
    if inspect.isclass(value):
        begin = vars(value).get("__init__")
        # Some classes written in Python are documented in __init__.
        doc = [
            inspect.cleandoc(_doc(value)),
            inspect.cleandoc(_doc(begin)) if inspect.isfunction(begin) else "",
        ]
        text = "\n\n".join(filter(None, doc))
        symbol = Symbol(id(value), home, CLASS, text, _signature(value))
        for name, raw in vars(value).items():
            if is_public(name) and (member := _member(value, name, raw, home)):
                symbol.members[name] = member
        for base in value.__mro__[1:] if hidden_bases else ():
            if not is_public(f"{base.__module__}.{base.__qualname__}"):
                inherited = symbol_of(base)
                for name, member in inherited.members.items() if inherited else ():
                    if name not in symbol.members:
                        symbol.members[name] = member
                        symbol.inherited.add(name)
        return symbol
    if inspect.isfunction(value) or inspect.isbuiltin(value) or inspect.ismethod(value):
        return Symbol(id(value), home, FUNCTION, _doc(value), _signature(value))
    return None


def _member(owner: type, name: str, raw: Any, owner_home: tuple[str, str]) -> Symbol | None:
    key, home = (id(owner), name), (owner_home[0], f"{owner_home[1]}.{name}")
    if isinstance(raw, property) or inspect.isdatadescriptor(raw):
        return Symbol(key, home, ATTRIBUTE, _doc(raw))
    if not isinstance(raw, type) and (inspect.isroutine(raw) or hasattr(raw, "__func__")):
        bound = getattr(owner, name, raw)
        signature = _signature(bound, inspect.isroutine(bound))
        return Symbol(key, home, FUNCTION, _doc(bound), signature)
    return None


def _doc(value: Any) -> str:
    doc = getattr(value, "__doc__", None)
    if not isinstance(doc, str) or doc.startswith(_UNINFORMATIVE):
        return ""
    return doc


def _signature(value: Any, is_method: bool = False) -> str:
    try:
        signature = inspect.signature(value)
    except Exception:
        return ""  # evaluating a default may fail
    parameters = [
        parameter.replace(annotation=inspect.Parameter.empty)
        for parameter in signature.parameters.values()
    ]
    if is_method and parameters and parameters[0].name in ("self", "cls", "type"):
        parameters = parameters[1:]
    text = str(inspect.Signature(parameters))
    return text if len(text) < _LONGEST_SIGNATURE and " at 0x" not in text else ""
