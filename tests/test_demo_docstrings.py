"""The demonstration's documents: which ones, under which names, with which texts."""

from __future__ import annotations

import importlib
import inspect
import shlex
import subprocess
import sys
import textwrap
from collections import Counter

import pytest

from dupmae_toolkit.demo import docstrings
from dupmae_toolkit.demo.docstrings import TEXT_WORDS, read_docstrings, was_cut
from dupmae_toolkit.demo.source_module import SourceModule
from dupmae_toolkit.demo.stdlib import Library
from tests.demo_support import demo_documents


@pytest.fixture(scope="module")
def documents():
    return demo_documents()


@pytest.fixture(scope="module")
def by_id(documents):
    return {document.id: document for document in documents}


def test_there_are_thousands_each_with_an_id_a_title_and_a_text(documents):
    assert len(documents) >= 4000
    ids = [document.id for document in documents]
    assert ids == sorted(set(ids))
    assert not any(len(name.split()) != 1 for name in ids)
    assert all(document.title and document.text.strip() for document in documents)


@pytest.mark.parametrize(
    "name",
    [
        "json.loads",
        "os.path.join",
        "os.path.splitext",  # its docstring is assigned while the module runs
        "re.sub",
        "re.Pattern.sub",
        "random.choice",  # a bound method of an object that is made on import
        "str.split",
        "sorted",
        "open",
        "collections.deque.appendleft",
        "collections.abc.MutableMapping.setdefault",
        "datetime.datetime.strptime",
        "datetime.date.today",
        "tempfile.NamedTemporaryFile",
        "threading.Lock",
        "socket.socket.connect",  # inherited from a class without a public name
        "argparse.ArgumentParser.add_argument",
        "functools.lru_cache",
        "hashlib.sha256",
        "heapq.heappush",
        "concurrent.futures.ThreadPoolExecutor",
        "unittest.TestCase.assertEqual",
        "xml.etree.ElementTree.Element.find",
        "multiprocessing.Pool",
        "json",
        "os.path",
    ],
)
def test_things_are_named_as_one_types_them(by_id, name):
    assert name in by_id


@pytest.mark.parametrize(
    "name",
    [
        "IOError",
        "builtins.sorted",
        "io.open",
        "json.decoder.JSONDecoder",
        "posix.listdir",
        "posixpath.join",
        "socket.SocketType.connect",
        "sqlite3.Date.today",
        "unittest.case.TestCase",
    ],
)
def test_other_names_of_the_same_thing_are_left_out(by_id, name):
    assert name not in by_id


def test_private_names_tests_and_jokes_are_left_out(by_id):
    tops = {name.partition(".")[0] for name in by_id}
    assert not tops & {"test", "idlelib", "lib2to3", "antigravity", "this", "turtledemo", "turtle"}
    assert not any(part.startswith("_") for name in by_id for part in name.split("."))


def test_titles_have_the_short_name_the_signature_and_the_place(by_id):
    assert by_id["textwrap.dedent"].title == "dedent(text) in textwrap"
    assert by_id["collections.Counter"].title.startswith("class Counter(")
    assert by_id["json"].title == "module json"
    assert by_id["pathlib.PurePath.suffix"].title == "attribute suffix in pathlib.PurePath"
    assert by_id["str.join"].title == "join(iterable, /) in str"


def test_long_titles_and_texts_are_cut_and_say_so(documents):
    assert max(len(document.title) for document in documents) < 200
    assert max(len(document.text.split()) for document in documents) <= TEXT_WORDS + 1
    cut = [document for document in documents if was_cut(document)]
    assert 0 < len(cut) < len(documents) / 20
    assert all(len(document.text.split()) == TEXT_WORDS + 1 for document in cut)


def test_nothing_comes_twice(documents):
    texts = Counter((d.title.partition("(")[0], d.text) for d in documents if d.title[0] != "m")
    assert max(texts.values()) == 1


def test_the_texts_are_those_of_the_living_objects(by_id):
    """The sources are read and not run; what runs says the same."""
    modules = ["json", "os.path", "itertools", "collections", "re", "statistics", "textwrap"]
    modules += ["math", "shutil", "datetime", "string", "random", "functools", "threading", "csv"]
    seen = 0
    for module in modules:
        living = importlib.import_module(module)
        for name in (key for key in by_id if key.startswith(f"{module}.")):
            value = living
            for part in name[len(module) + 1 :].split("."):
                value = getattr(value, part, None)
            if not (inspect.isclass(value) or inspect.isroutine(value)) or not value.__doc__:
                continue  # a submodule, another platform's, or told where it is constructed
            found = by_id[name].text.removesuffix(" …").split()
            assert inspect.cleandoc(value.__doc__).split()[: len(found)] == found[: len(found)] or (
                found[: len(value.__doc__.split())] == value.__doc__.split()
            ), name
            seen += 1
    assert seen > 400


def test_another_process_reads_the_same_and_runs_nothing_that_can_be_seen(documents):
    code = """
        import sys
        from dupmae_toolkit.demo.docstrings import read_docstrings
        before = set(sys.modules)
        documents = read_docstrings()
        new = {name.partition(".")[0] for name in set(sys.modules) - before}
        assert not new & {"antigravity", "this", "tkinter", "turtle", "idlelib", "pydoc"}, new
        print(ascii(documents))
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"{documents!a}\n"


def test_without_source_files_harmless_modules_are_inspected(tmp_path, by_id):
    found = {document.id: document for document in read_docstrings(tmp_path)}
    assert len(found) > 2500
    for name in ("json.loads", "os.path.join", "str.split", "collections.deque.append"):
        assert found[name] == by_id[name]
    assert {"argparse.ArgumentParser.add_argument", "bisect.bisect_left"} <= found.keys()


def test_broken_source_files_are_passed_over(tmp_path):
    (tmp_path / "textwrap.py").write_text('def fill(text):\n    "Fill a text up."\n  broken')
    (tmp_path / "shlex.py").write_bytes(b"\x00\xff\xfe not a source")
    (tmp_path / "glob.py").write_text('"""Find files by pattern."""\n')
    found = {document.id for document in read_docstrings(tmp_path)}
    assert "glob" in found
    assert not {name for name in found if name.startswith(("textwrap", "shlex"))}


def test_progress_counts_the_modules(monkeypatch, tmp_path):
    steps = []

    class Watch:
        def __init__(self, description, total):
            self.total = total

        def __enter__(self):
            steps.append(self.total)
            return steps.append

        def __exit__(self, *error):
            return None

    monkeypatch.setattr(docstrings.Library, "names", lambda self: ["json", "math"])
    read_docstrings(tmp_path, progress=Watch)
    assert steps == [2, 1, 1]


@pytest.fixture
def module(tmp_path):
    """A function that writes a module and reads it."""
    library = Library(tmp_path)

    def read(text, name="textwrap"):
        path = tmp_path / f"{name}.py"
        path.write_text(textwrap.dedent(text))
        return SourceModule(name, path, library.find)

    return read


def test_declared_exports_are_put_together(module):
    found = module(
        """
        import shlex
        __all__ = ["a"] + ["b"]
        __all__ += ["c"]
        __all__.append("d")
        __all__.extend(["e", "f"])
        __all__.extend(shlex.__all__)
        """
    )
    assert found.exports() == [*"abcdef", *shlex.__all__]


def test_without_declared_exports_public_definitions_are_exported(module):
    found = module(
        """
        import os
        from json import loads
        from _thread import allocate_lock
        def public(): pass
        def _private(): pass
        class Thing: pass
        """
    )
    assert found.exports() == ["allocate_lock", "public", "Thing"]


def test_names_are_followed_to_where_they_are_defined(module):
    found = module(
        '''
        class _Base:
            def inherited(self, x):
                """What the base does."""
        class Thing(_Base):
            """A thing."""
            def __init__(self, a, *, b=1): pass
            @property
            def size(self):
                """How large it is."""
            @staticmethod
            def make(kind): """Make one."""
        _thing = Thing()
        inherited = _thing.inherited
        def old(): """The first."""
        try:
            from no_such_module import old
        except ImportError:
            pass
        '''
    )
    thing = found.lookup("Thing")[0]
    assert (thing.doc, thing.signature) == ("A thing.", "(a, *, b=1)")
    assert thing.members["size"].signature == ""
    assert thing.members["make"].signature == "(kind)"
    assert thing.members["inherited"].signature == "(x)"
    assert thing.inherited == {"inherited"}
    assert found.lookup("inherited") == [thing.members["inherited"]]
    assert found.lookup("old")[0].doc == "The first."
    assert found.lookup("nothing") == []


def test_modules_that_import_each_other_in_a_circle_end(tmp_path):
    (tmp_path / "glob.py").write_text("from shlex import *\nname = other\n")
    (tmp_path / "shlex.py").write_text("from glob import *\nother = name\n")
    found = Library(tmp_path).find("glob")
    assert found is not None
    assert found.lookup("name") == []
