"""The package's face: what `dir` and `help` show, and what importing it costs."""

from __future__ import annotations

import pydoc
import subprocess
import sys

import pytest

import dupmae_toolkit

EXPORTED = sorted(set(dupmae_toolkit.__all__) - {"__version__"})


def python(code: str) -> str:
    """What a fresh Python prints."""
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout


def test_dir_lists_the_exported_names_and_imports_none_of_them():
    names = python(
        "import sys, dupmae_toolkit; print(*dir(dupmae_toolkit))\n"
        "assert 'dupmae_toolkit.records' not in sys.modules"
    ).split()
    assert set(dupmae_toolkit.__all__) <= set(names)


@pytest.mark.parametrize("name", EXPORTED)
def test_the_docstring_tells_each_exported_name_its_home_and_its_use(name):
    [line] = [x for x in dupmae_toolkit.__doc__.splitlines() if x.startswith(f"{name} ")]
    _, home, use = line.split(maxsplit=2)
    found = getattr(dupmae_toolkit, name)
    assert (found.__module__, found.__name__) == (home, name)
    assert len(use.split()) > 3


def test_help_shows_the_table_first_and_then_each_exported_name_with_its_docstring():
    text = pydoc.plain(pydoc.render_doc(dupmae_toolkit))
    head, _, body = text.partition("PACKAGE CONTENTS")
    for name in EXPORTED:
        assert f"    {name} " in head
        found = getattr(dupmae_toolkit, name)
        assert f"    class {name}(" in body or f"\n    {name}(" in body
        assert found.__doc__.splitlines()[0] in body


def test_a_name_that_is_not_exported_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'dupmae_toolkit' has no attribute 'HybridIndx'"):
        dupmae_toolkit.HybridIndx  # noqa: B018


@pytest.mark.parametrize(
    "code", ["import dupmae_toolkit", "from dupmae_cli.main import main\nmain(['--help'])"]
)
def test_importing_the_package_and_the_help_load_nothing_heavy(code):
    heavy = {"torch", "transformers", "faiss", "jnius", "pyserini", "pyarrow", "scipy", "numpy"}
    out = python(f"import sys\ntry: exec({code!r})\nfinally: print('loaded:', *sys.modules)")
    loaded = set(out.rpartition("loaded:")[2].split())
    assert "dupmae_toolkit" in loaded
    assert not heavy & loaded
