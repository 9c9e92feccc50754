"""The documents of the demonstration: the docstrings of the running Python's standard library.

One document for each public module, class, function, method and attribute that has a docstring.
Its id is the name that one types (``json.loads``, ``os.path.join``, ``str.split``), its title the
short name with the signature and the place it is found in, its text the docstring.
"""

from __future__ import annotations

import contextlib
import gc
import inspect
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dupmae_toolkit.demo.inspected import InspectedModule
from dupmae_toolkit.demo.stdlib import SUPPLEMENTED, Library
from dupmae_toolkit.demo.things import ATTRIBUTE, CLASS, MODULE, Thing, is_public, merged
from dupmae_toolkit.progress import Progress, silent
from dupmae_toolkit.records import Document

#: Words of a docstring that are kept: as many as an encoder of 256 tokens or somewhat more reads.
TEXT_WORDS = 250
_TITLE_CHARACTERS = 72
_FEWEST_WORDS = 3
_CUT = " …"


@dataclass(frozen=True, slots=True)
class Named:
    """A thing under one of its public names. ``inherited``: the name is that of a derived class."""

    module: str
    path: str  # inside the module: "" for the module itself, "deque", "deque.append"
    thing: Thing
    inherited: bool = False

    @property
    def id(self) -> str:
        if not self.path:
            return self.module
        return self.path if self.module == "builtins" else f"{self.module}.{self.path}"

    @property
    def preference(self) -> tuple[bool, int, bool, bool, bool, int, str]:
        """Orders the names of one thing: the one that people type comes first."""
        home, path = self.thing.home
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

    ``folder`` holds the library's source files and is the running Python's own by default.
    """
    library = Library(folder)
    names = library.names()
    found: list[Named] = []
    with _without_collection(), progress("reading docstrings", len(names)) as advance:
        for name in names:
            found += _named(library, name)
            advance(1)
    documents: dict[str, Document] = {}
    for named in _distinct(found):
        document = _document(named)
        if document and document.id not in documents:
            documents[document.id] = document
    return [documents[name] for name in sorted(documents)]


@contextlib.contextmanager
def _without_collection() -> Iterator[None]:
    """Syntax trees are many objects without cycles; looking for cycles takes half of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _named(library: Library, name: str) -> Iterator[Named]:
    """All that one module shows under its public names."""
    module = library.find(name)
    if module is None:
        return
    yield Named(name, "", Thing(name, (name, ""), MODULE, module.doc))
    running = InspectedModule.open(name) if name in SUPPLEMENTED else None
    exports = dict.fromkeys(module.exports()) | dict.fromkeys(running.exports() if running else [])
    for export in filter(is_public, exports):
        candidates = module.lookup(export) + (running.lookup(export) if running else [])
        if thing := merged(candidates, export):
            yield Named(name, export, thing)
            for key, member in thing.members.items():
                yield Named(name, f"{export}.{key}", member, key in thing.inherited)


def _distinct(found: list[Named]) -> Iterator[Named]:
    """Each thing once, under the name to prefer; of equal texts under equal names, one."""
    seen: set[object] = set()
    for named in sorted(found, key=lambda item: item.preference):
        thing = named.thing
        words = " ".join(thing.doc.split())
        same_text = (named.path.rpartition(".")[2], words)
        if len(words.split()) < _FEWEST_WORDS or thing.key in seen or same_text in seen:
            continue
        seen |= {thing.key, same_text}
        yield named


def _document(named: Named) -> Document | None:
    text = _shortened(inspect.cleandoc(named.thing.doc))
    return Document(named.id, _title(named), text) if text else None


def _title(named: Named) -> str:
    """The short name, its signature, and the class or module that one finds it in.

    The short name stands alone because word-based search keeps ``os.path.join`` as one word.
    """
    if not named.path:
        return f"module {named.module}"
    owner, _, name = named.path.rpartition(".")
    kind = {CLASS: "class ", ATTRIBUTE: "attribute "}.get(named.thing.kind, "")
    place = ".".join(part for part in (named.module, owner) if part)
    place = place.removeprefix("builtins.") if owner else place
    return f"{kind}{name}{_short(named.thing.signature)} in {place}"


def _short(signature: str) -> str:
    """A signature of one line: without defaults, then without its end, where it is long."""
    if len(signature) <= _TITLE_CHARACTERS:
        return signature
    names = [part.partition("=")[0] for part in signature[1:-1].split(", ")]
    while len(", ".join(names)) > _TITLE_CHARACTERS - 5:
        names.pop()
    return f"({', '.join(names)}, …)"


def was_cut(document: Document) -> bool:
    """Whether only the beginning of its docstring is kept."""
    return document.text.endswith(_CUT)


def _shortened(text: str) -> str:
    """The first ``TEXT_WORDS`` words, lines kept, a dotted end where something was cut."""
    kept: list[str] = []
    left = TEXT_WORDS
    for line in text.encode("utf-8", "replace").decode().splitlines():
        words = line.split()
        if len(words) > left:
            return "\n".join([*kept, " ".join(words[:left]) + _CUT]).strip()
        left -= len(words)
        kept.append(line.rstrip())
    return "\n".join(kept).strip()
