"""The running Python's standard library: which modules it has, and how each is read.

Python modules are read from their source files, because importing some of them opens windows or web
pages. Modules written in C are imported, since their docstrings are in the binary; that has no side
effects. In a distribution without source files, the modules in ``HARMLESS`` are imported.
"""

from __future__ import annotations

import importlib.util
import os.path
import sys
import sysconfig
from importlib.machinery import BuiltinImporter, ExtensionFileLoader
from pathlib import Path

from dupmae_toolkit.demo.inspected_module import InspectedModule
from dupmae_toolkit.demo.source_module import SourceModule
from dupmae_toolkit.demo.symbols import Module, is_public


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


#: Not meant for programs, known by another name (posix is os), or usable only with a screen.
_SKIPPED = _words(
    "antigravity encodings ensurepip genericpath idlelib lib2to3 nt ntpath nturl2path posix "
    "posixpath pydoc_data sre_compile sre_constants sre_parse test this tkinter turtle "
    "turtledemo"
)
#: Removed from newer versions of Python; left out of all versions, so that their corpora agree.
_REMOVED = _words(
    "aifc asynchat asyncore audioop cgi cgitb chunk crypt distutils imghdr imp mailcap msilib nis "
    "nntplib ossaudiodev pipes smtpd sndhdr spwd sunau telnetlib uu xdrlib"
)
_SKIPPED_PARTS = frozenset(["test", "tests", "testing_refleaks", "__main__"])

#: Modules that define some public names or docstrings at run time; importing them is harmless.
SUPPLEMENTED = _words(
    "base64 concurrent.futures hashlib io multiprocessing os os.path pathlib re types"
)

#: Imported if no source file is found; importing them has no side effects.
HARMLESS = _words(
    "abc argparse array ast asyncio base64 bisect builtins bz2 calendar cmath codecs "
    "collections collections.abc colorsys concurrent.futures configparser contextlib "
    "contextvars copy csv dataclasses datetime decimal difflib email.message email.policy "
    "email.utils enum filecmp fileinput fnmatch fractions functools gc getpass gettext "
    "glob gzip hashlib heapq hmac html html.parser http http.client http.cookiejar "
    "http.cookies http.server importlib importlib.metadata importlib.resources "
    "importlib.util inspect io ipaddress itertools json keyword linecache locale logging "
    "logging.config logging.handlers lzma mailbox math mimetypes multiprocessing "
    "multiprocessing.pool multiprocessing.shared_memory numbers operator optparse os "
    "os.path pathlib pickle pkgutil platform plistlib pprint queue random re reprlib "
    "sched secrets select selectors shelve shlex shutil signal smtplib socket "
    "socketserver sqlite3 ssl stat statistics string struct subprocess sys sysconfig "
    "tarfile tempfile textwrap threading time timeit token tokenize tomllib traceback "
    "tracemalloc types typing unicodedata unittest unittest.mock urllib.error "
    "urllib.parse urllib.request urllib.robotparser uuid warnings wave weakref webbrowser "
    "xml.dom.minidom xml.etree.ElementTree xml.sax xml.sax.handler xml.sax.saxutils "
    "xmlrpc.client zipfile zlib zoneinfo"
)

#: Public names of modules whose source has another name.
_ALIASES = {"os.path": os.path.__name__, "collections.abc": "_collections_abc"}


class Library:
    """The modules of one Python installation. ``folder`` holds its source files."""

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = Path(sysconfig.get_paths()["stdlib"]) if folder is None else folder
        self._modules: dict[str, Module | None] = {}

    def names(self) -> list[str]:
        """Its public modules, sorted."""
        names = set()
        for top in sorted(sys.stdlib_module_names):
            if top in _SKIPPED | _REMOVED or not is_public(top):
                continue
            if (self.folder / top / "__init__.py").is_file():
                names |= set(self._submodules(top))
            elif (self.folder / f"{top}.py").is_file() or self._is_native(top):
                names.add(top)
        return sorted(names.union(HARMLESS))

    def _submodules(self, package: str) -> list[str]:
        names = []
        for path in sorted((self.folder / package).rglob("*.py")):
            parts = list(path.relative_to(self.folder).with_suffix("").parts)
            if parts[-1] == "__init__":
                parts.pop()
            name = ".".join(parts)
            if is_public(name) and not _SKIPPED_PARTS.intersection(parts):
                names.append(name)
        return names

    def find(self, name: str) -> Module | None:
        """A module by its name, public or not; None if there is none that can be read."""
        name = _ALIASES.get(name, name)
        if name not in self._modules:
            self._modules[name] = None  # in case modules import each other
            self._modules[name] = self._open(name)
        return self._modules[name]

    def _open(self, name: str) -> Module | None:
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names or top in ("test", "idlelib", "lib2to3"):
            return None
        if path := self._path(name):
            try:
                return SourceModule(name, path, self.find)
            except (OSError, SyntaxError, ValueError):
                return None  # templates and broken files are not documentation
        if self._is_native(name):
            return InspectedModule.open(name, native=True)
        if name in HARMLESS or name in _ALIASES.values():
            return InspectedModule.open(name, hidden_bases=True)
        return None

    def _path(self, name: str) -> Path | None:
        base = self.folder.joinpath(*name.split("."))
        for path in (base / "__init__.py", base.with_name(f"{base.name}.py")):
            if path.is_file():
                return path
        return None

    def _is_native(self, name: str) -> bool:
        if name in sys.builtin_module_names:
            return True
        if "." in name:
            return False
        try:
            found = importlib.util.find_spec(name)
        except (ImportError, ValueError):
            return False
        loader = found.loader if found else None
        return loader is BuiltinImporter or isinstance(loader, ExtensionFileLoader)
