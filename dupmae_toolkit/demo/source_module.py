"""Python modules read from source: what they define, import and export, without running them."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

from dupmae_toolkit.demo.symbols import (
    ATTRIBUTE,
    CLASS,
    FUNCTION,
    Module,
    Symbol,
    is_public,
    merged,
)

#: Finds a module by its name; None if there is none.
Find = Callable[[str], Module | None]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Assignments of such values are kept: they may be aliases of symbols, or docstrings.
_KEPT_VALUES = (ast.Name, ast.Attribute, ast.Call, ast.Constant)
_DEPTH = 12


class SourceModule:
    """A module's source, read with ``ast``. Names are resolved through other modules on demand."""

    def __init__(self, name: str, path: Path, find: Find) -> None:
        tree = ast.parse(path.read_text("utf-8"), str(path))
        self.name = name
        self._docstring = ast.get_docstring(tree) or ""
        self._package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        self._find = find
        self._declared: list[ast.expr] = []
        # A name may be bound several times: all bindings are kept, in the order of execution.
        self._bindings: list[tuple[str, ast.AST | tuple[str, str]]] = []
        self._resolving = 0
        for statement in _flattened(tree.body):
            self._read(statement)

    def _read(self, node: ast.stmt) -> None:
        if isinstance(node, _Function | ast.ClassDef):
            _strip(node)
            self._bindings.append((node.name, node))
        elif isinstance(node, ast.Import):
            for alias in node.names:
                top = alias.asname or alias.name.partition(".")[0]
                self._bindings.append((top, (alias.name if alias.asname else top, "")))
        elif isinstance(node, ast.ImportFrom):
            module = self._absolute(node)
            for alias in node.names:
                self._bindings.append((alias.asname or alias.name, (module, alias.name)))
        elif isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name) and target.id == "__all__":
                    self._declared = [node.value]
                elif isinstance(target, ast.Name) and isinstance(node.value, _KEPT_VALUES):
                    self._bindings.append((target.id, node.value))
        elif isinstance(node, ast.AugAssign) and _is_all(node.target):
            self._declared.append(node.value)
        elif isinstance(node, ast.Expr) and isinstance(call := node.value, ast.Call):
            method = call.func
            if isinstance(method, ast.Attribute) and _is_all(method.value) and call.args:
                argument = call.args[0]
                is_one = method.attr == "append"
                self._declared.append(ast.List([argument], ast.Load()) if is_one else argument)

    def _absolute(self, node: ast.ImportFrom) -> str:
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        parts = parts[: len(parts) - node.level + 1]
        return ".".join([*parts, node.module] if node.module else parts)

    @property
    def doc(self) -> str:
        """Its docstring, which may also be assigned, or be that of the part written in C."""
        for binding in () if self._docstring else self._bound("__doc__"):
            if isinstance(binding, ast.Constant) and isinstance(binding.value, str):
                return binding.value
            module = self._find(binding[0]) if isinstance(binding, tuple) else None
            if module and module.doc:
                return module.doc
        return self._docstring

    def exports(self) -> list[str]:
        names: dict[str, None] = {}
        unknown = not self._declared
        for expression in self._declared:
            found = self._names(expression)
            unknown = unknown or found is None
            names |= dict.fromkeys(found or [])
        for name, binding in self._bindings:
            if name == "__all__" and isinstance(binding, tuple):
                module = self._find(binding[0])
                names |= dict.fromkeys(module.exports() if module else [])
                unknown = False
        if unknown:
            for name, binding in self._bindings:
                if name == "*" and isinstance(binding, tuple):
                    module = self._find(binding[0])
                    names |= dict.fromkeys(module.exports() if module else [])
                elif is_public(name) and self._is_own(binding):
                    names[name] = None
        return list(names)

    def _is_own(self, binding: ast.AST | tuple[str, str]) -> bool:
        if not isinstance(binding, tuple):
            return True
        module, name = binding
        inner = module.startswith(f"{self._package}.") and bool(self._package)
        hidden = not is_public(module) and module != "_collections_abc"
        return bool(name) and (inner or hidden)

    def _names(self, node: ast.expr) -> list[str] | None:
        """The strings of an expression that builds ``__all__``; None if they are not constant."""
        if isinstance(node, ast.List | ast.Tuple):
            values = [item.value for item in node.elts if isinstance(item, ast.Constant)]
            names = [value for value in values if isinstance(value, str)]
            return names if len(names) == len(node.elts) else None
        if isinstance(node, ast.BinOp):
            left, right = self._names(node.left), self._names(node.right)
            return None if left is None or right is None else left + right
        module: Module | None = None
        if isinstance(node, ast.Attribute) and node.attr == "__all__":
            module = self._module(node.value)
        elif isinstance(node, ast.Call) and len(node.args) == 1:
            module = self._module(node.args[0])
        return module.exports() if module else None

    def lookup(self, name: str) -> list[Symbol]:
        if self._resolving > _DEPTH:
            return []  # modules that import each other
        self._resolving += 1
        try:
            found = [symbol for binding in self._bound(name) for symbol in self._symbols(binding)]
        finally:
            self._resolving -= 1
        return found

    def _bound(self, name: str) -> Iterator[ast.AST | tuple[str, str]]:
        for bound, binding in reversed(self._bindings):
            if bound == name:
                yield binding
            elif bound == "*" and isinstance(binding, tuple):
                yield (binding[0], name)

    def _symbols(self, binding: ast.AST | tuple[str, str]) -> list[Symbol]:
        if isinstance(binding, tuple):
            module = self._find(binding[0]) if binding[1] else None
            return module.lookup(binding[1]) if module else []
        if isinstance(binding, _Function):
            return [_function(binding, self.name)]
        if isinstance(binding, ast.ClassDef):
            return [self._class(binding)]
        if isinstance(binding, ast.Name):
            return self.lookup(binding.id)
        if isinstance(binding, ast.Attribute):
            return self._attribute(binding)
        return []

    def _attribute(self, node: ast.Attribute) -> list[Symbol]:
        if module := self._module(node.value):
            return module.lookup(node.attr)
        owner: ast.expr = node.value
        instance = next(self._bound(owner.id), None) if isinstance(owner, ast.Name) else None
        if isinstance(instance, ast.Call):
            owner = instance.func  # `_inst = Random()` and then `choice = _inst.choice`
        symbol = merged(self._symbols(owner))
        member = symbol.members.get(node.attr) if symbol else None
        return [member] if member else []

    def _module(self, node: ast.expr) -> Module | None:
        """The module that an expression names, as `os` and `concurrent.futures` do."""
        if isinstance(node, ast.Attribute):
            parent = self._module(node.value)
            return self._find(f"{parent.name}.{node.attr}") if parent else None
        if not isinstance(node, ast.Name):
            return None
        for binding in self._bound(node.id):
            if isinstance(binding, tuple):
                module, name = binding
                found = self._find(f"{module}.{name}" if name else module)
                if found is not None:
                    return found
        return None

    def _class(self, node: ast.ClassDef) -> Symbol:
        home = (self.name, node.name)
        symbol = Symbol(home, home, CLASS, ast.get_docstring(node) or "")
        for statement in _flattened(node.body):
            if not isinstance(statement, _Function):
                continue
            member = _function(statement, self.name, f"{node.name}.")
            if statement.name in ("__init__", "__new__"):
                symbol.signature = symbol.signature or member.signature
                if member.doc and statement.name == "__init__":
                    symbol.doc = f"{symbol.doc}\n\n{member.doc}".strip()
            elif is_public(statement.name):
                present = symbol.members.get(statement.name)
                if present is None or not present.doc:
                    symbol.members[statement.name] = member
        for expression in node.bases:
            if self._is_hidden(expression):
                base = merged(self._symbols(expression))
                for name, member in base.members.items() if base else ():
                    if name not in symbol.members:
                        symbol.members[name] = member
                        symbol.inherited.add(name)
        return symbol

    def _is_hidden(self, base: ast.expr) -> bool:
        """Whether a base class has a private name or comes from a private module."""
        text = ast.unparse(base)
        if not is_public(text):
            return True
        binding = next(self._bound(text), None) if isinstance(base, ast.Name) else None
        return isinstance(binding, tuple) and not is_public(binding[0])


def _is_all(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "__all__"


def _strip(node: _Function | ast.ClassDef) -> None:
    """Drop the bodies of functions, which would take hundreds of megabytes for all modules."""
    if isinstance(node, ast.ClassDef):
        for statement in _flattened(node.body):
            if isinstance(statement, _Function):
                _strip(statement)
    else:
        del node.body[1:]


def _flattened(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """All statements, ordered so that the last binding of a name is usually the valid one."""
    for node in body:
        if isinstance(node, ast.If):
            yield from _flattened(node.orelse)
            yield from _flattened(node.body)
        elif isinstance(node, ast.Try):
            for handler in node.handlers:
                yield from _flattened(handler.body)
            yield from _flattened(node.body)
            yield from _flattened(node.orelse)
        else:
            yield node


def _function(node: _Function, module: str, owner: str = "") -> Symbol:
    home = (module, f"{owner}{node.name}")
    decorators = {ast.unparse(item).rpartition(".")[2] for item in node.decorator_list}
    doc = ast.get_docstring(node) or ""
    if any(name.endswith("property") for name in decorators):
        return Symbol(home, home, ATTRIBUTE, doc)
    signature = _signature(node, bool(owner) and "staticmethod" not in decorators)
    return Symbol(home, home, FUNCTION, doc, signature)


def _signature(node: _Function, drop_first: bool) -> str:
    arguments = node.args
    bare = ast.arguments(
        posonlyargs=[ast.arg(item.arg) for item in arguments.posonlyargs],
        args=[ast.arg(item.arg) for item in arguments.args],
        vararg=ast.arg(arguments.vararg.arg) if arguments.vararg else None,
        kwonlyargs=[ast.arg(item.arg) for item in arguments.kwonlyargs],
        kw_defaults=arguments.kw_defaults,
        kwarg=ast.arg(arguments.kwarg.arg) if arguments.kwarg else None,
        defaults=arguments.defaults,
    )
    if drop_first:
        first = bare.posonlyargs or bare.args
        if len(bare.defaults) < len(bare.posonlyargs) + len(bare.args):
            del first[:1]
    text = ast.unparse(bare)
    return f"({text.removeprefix('/, ')})"
