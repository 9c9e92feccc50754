"""The documents of the demonstration: the docstrings of the running Python's standard library.

One document for each public module, class, function, method and attribute that has a docstring.
Its id is the name as programs spell it (``json.loads``, ``os.path.join``, ``str.split``). Its title
is the short name with its signature and its module or class. Its text is the docstring.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit.demo.inspected_module import InspectedModule
from dupmae_toolkit.demo.stdlib import SUPPLEMENTED, Library
from dupmae_toolkit.demo.symbols import ATTRIBUTE, CLASS, MODULE, Symbol, is_public, merged
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document

#: Docstrings are cut to this many words, about what an encoder of 256 tokens reads or a bit more.
TEXT_WORDS = 250
_TITLE_CHARACTERS = 72
_FEWEST_WORDS = 3
_CUT = " …"


@dataclass(frozen=True, slots=True)
class PublicName:
    """A symbol under one of its public names. ``inherited``: the name has a derived class in it."""

    module: str
    path: str  # inside the module: "" for the module itself, "deque", "deque.append"
    symbol: Symbol
    inherited: bool = False

    @property
    def id(self) -> str:
        if not self.path:
            return self.module
        return self.path if self.module == "builtins" else f"{self.module}.{self.path}"

    @property
    def preference(self) -> tuple[bool, int, bool, bool, bool, int, str]:
        """Sort key for the names of one symbol: the one that programs use comes first."""
        home, path = self.symbol.home
        renamed = path != self.path
        elsewhere = home != self.module
        shown = self.id
        dots = shown.count(".")
        return (
            self.inherited and renamed,
            dots,
            renamed,
            elsewhere,
            self.inherited,
            len(shown),
            shown,
        )


def read_docstrings(folder: Path | None = None, progress: Progress = silent) -> list[Document]:
    """The documents, sorted by id; the same on every call.

    ``folder`` holds the library's source files; by default it is the running Python's.
    """
    library = Library(folder)
    names = library.names()
    found: list[PublicName] = []
    with _without_garbage_collection(), progress("reading docstrings", len(names)) as advance:
        for name in names:
            found += _public_names(library, name)
            advance(1)
    documents: dict[str, Document] = {}
    for named in _distinct(found):
        document = _document(named)
        if document and document.id not in documents:
            documents[document.id] = document
    return [documents[name] for name in sorted(documents)]


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """Syntax trees have many objects and no cycles; collecting garbage would take half the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _public_names(library: Library, name: str) -> Iterator[PublicName]:
    """A module, its exports and their members, each under its public name."""
    module = library.find(name)
    if module is None:
        return
    yield PublicName(name, "", Symbol(name, (name, ""), MODULE, module.doc))
    running = InspectedModule.open(name) if name in SUPPLEMENTED else None
    exports = dict.fromkeys(module.exports()) | dict.fromkeys(running.exports() if running else [])
    for export in filter(is_public, exports):
        candidates = module.lookup(export) + (running.lookup(export) if running else [])
        if symbol := merged(candidates, export):
            yield PublicName(name, export, symbol)
            for key, member in symbol.members.items():
                yield PublicName(name, f"{export}.{key}", member, key in symbol.inherited)


def _distinct(found: list[PublicName]) -> Iterator[PublicName]:
    """Each symbol once, under its preferred name; one of those with equal short name and text."""
    seen: set[object] = set()
    for named in sorted(found, key=lambda item: item.preference):
        symbol = named.symbol
        words = " ".join(symbol.doc.split())
        same_text = (named.path.rpartition(".")[2], words)
        if len(words.split()) < _FEWEST_WORDS or symbol.key in seen or same_text in seen:
            continue
        seen |= {symbol.key, same_text}
        yield named


def _document(named: PublicName) -> Document | None:
    text = _shortened(inspect.cleandoc(named.symbol.doc))
    return Document(named.id, _title(named), text) if text else None


def _title(named: PublicName) -> str:
    """The short name, its signature, and the class or module that it belongs to.

    The short name is a separate word because BM25 takes ``os.path.join`` as one word.
    """
    if not named.path:
        return f"module {named.module}"
    owner, _, name = named.path.rpartition(".")
    kind = {CLASS: "class ", ATTRIBUTE: "attribute "}.get(named.symbol.kind, "")
    place = ".".join(part for part in (named.module, owner) if part)
    place = place.removeprefix("builtins.") if owner else place
    return f"{kind}{name}{_short(named.symbol.signature)} in {place}"


def _short(signature: str) -> str:
    """A signature cut to one line: it loses its defaults first, then its last parameters."""
    if len(signature) <= _TITLE_CHARACTERS:
        return signature
    names = [part.partition("=")[0] for part in signature[1:-1].split(", ")]
    while len(", ".join(names)) > _TITLE_CHARACTERS - 5:
        names.pop()
    return f"({', '.join(names)}, …)"


def was_cut(document: Document) -> bool:
    """Whether its docstring was cut."""
    return document.text.endswith(_CUT)


def _shortened(text: str) -> str:
    """The first ``TEXT_WORDS`` words with their line breaks, and an ellipsis after a cut."""
    kept: list[str] = []
    left = TEXT_WORDS
    for line in text.encode("utf-8", "replace").decode().splitlines():
        words = line.split()
        if len(words) > left:
            return "\n".join([*kept, " ".join(words[:left]) + _CUT]).strip()
        left -= len(words)
        kept.append(line.rstrip())
    return "\n".join(kept).strip()
