"""What the library's messages advise can be done by whoever reads them, at a shell or in Python."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import dupmae_toolkit

#: Whose messages only a command prints, and whose options are Java's.
LEFT_OUT = {"doctor.py", "jvm.py"}


#: Arguments that have other names than the options.
ARGUMENTS = {
    "set": "changes",
    "model": "encoder",
    "dense": "pooling",
    "query-vectors": "encoder",
}


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """The line and the words of every string of a module that is no docstring."""
    tree = ast.parse(path.read_text("utf-8"))
    docs, inner = set(), set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            docs.add(node.value)
        if isinstance(node, ast.JoinedStr):
            inner |= {part for part in node.values if isinstance(part, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [part.value for part in node.values if isinstance(part, ast.Constant)]
            yield node.lineno, "{}".join(map(str, parts))
        elif isinstance(node, ast.Constant) and node not in docs | inner:
            yield node.lineno, str(node.value)


def test_a_message_that_names_an_option_names_the_argument_too() -> None:
    root = Path(dupmae_toolkit.__file__).parent
    one_sided, seen = [], 0
    for path in sorted(root.rglob("*.py")):
        if path.name in LEFT_OUT:
            continue
        for line, text in texts(path):
            shell = re.sub(r"`[^`]*`", "", text)  # a command, which anybody can run
            for option in re.findall(r"(?<![\w-])--([a-z][a-z-]*)", shell):
                seen += 1
                name = ARGUMENTS.get(option, option)
                if not re.search(rf"\b{name.replace('-', '_')}=", shell):
                    one_sided.append(f"{path.relative_to(root)}:{line}: --{option}")
    assert seen > 10
    assert one_sided == []
