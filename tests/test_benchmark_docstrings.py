"""The training texts about programming: what is read, what is asked."""

from __future__ import annotations

import json
import sys

import pytest

from benchmarks import docstrings
from dupmae_toolkit.records import Document

SOURCE = '''
"""A module."""

class Box:
    """A box that holds things of any kind.

    It can be opened, closed, and looked into at any time.
    """

    def opens(self, key, *, slowly=False):
        """Opens the box with the given key.

        If slowly is true, it takes a second. Raises KeyError for a wrong key.
        """

    def _hidden(self):
        """This one is private and so it is left out of everything."""

def short():
    """Too short."""

def broken(
'''


@pytest.fixture
def folder(tmp_path):
    package = tmp_path / "rich"
    (package / "tests").mkdir(parents=True)
    whole = SOURCE.replace("\ndef broken(\n", "")
    (package / "boxes.py").write_text(whole)
    (package / "__init__.py").write_text("")
    (package / "tests" / "test_boxes.py").write_text(whole)  # tests are left out
    (package / "again.py").write_text(whole)
    (package / "broken.py").write_text(SOURCE)  # as are files that do not parse
    return tmp_path


def test_public_docstrings_are_read_and_nothing_else(folder):
    found = list(docstrings.documented(folder))
    # A function with the same name and text comes once.
    assert sorted(title for title, _ in found) == [
        "class Box in rich.again",
        "class Box in rich.boxes",
        "opens(key, slowly) in rich.again.Box",
    ]
    assert found == list(docstrings.documented(folder))


def test_a_question_has_the_first_sentence_and_its_text_the_rest():
    text = "Opens the box with the given key.\n\nIf slowly is true, it takes a second."
    pair = docstrings.asked("opens(key) in boxes.Box", text)
    assert pair is not None
    query, positive = pair
    assert "open the box with the given key" in query
    assert positive == "opens(key) in boxes.Box\nIf slowly is true, it takes a second."
    assert docstrings.asked("f() in m", "Two words.\n\nAnd a rest of many words here.") is None
    assert docstrings.asked("f() in m", "A sentence without any rest.") is None
    for number in range(20):  # what a class is, is not asked for as something to do
        pair = docstrings.asked(f"class Box{number} in m", text)
        assert pair is not None
        assert not pair[0].startswith(("how", "what", "is there", "I want"))


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("applies", "apply"),
        ("caches", "cache"),
        ("resizes", "resize"),
        ("passes", "pass"),
        ("matches", "match"),
        ("fixes", "fix"),
        ("returns", "return"),
        ("ties", "tie"),
        ("always", "always"),
        ("series", "series"),
        ("process", "process"),
        ("is", "be"),
        ("get", "get"),
    ],
)
def test_verbs_lose_the_ending_of_the_third_person(word, expected):
    assert docstrings.stem(word) == expected


def test_copies_of_the_standard_library_are_left_out(folder, tmp_path, monkeypatch, capsys):
    copied = Document("x", "x", "Opens the box  with the given key.\n\nIf slowly is true, it takes")
    whole = f"{copied.text} a second. Raises KeyError for a wrong key."
    monkeypatch.setattr(docstrings, "read_docstrings", lambda: [Document("x", "x", whole)])
    monkeypatch.setattr(docstrings.sysconfig, "get_paths", lambda: {"purelib": str(folder)})
    monkeypatch.setattr(sys, "argv", ["docstrings", str(tmp_path / "out")])
    docstrings.main()
    assert "2 docstrings" in capsys.readouterr().out


def test_the_files_are_written_as_a_recipe_reads_them(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(docstrings, "read_docstrings", list)
    monkeypatch.setattr(docstrings.sysconfig, "get_paths", lambda: {"purelib": str(folder)})
    monkeypatch.setattr(sys, "argv", ["docstrings", str(tmp_path / "out")])
    docstrings.main()
    assert "3 docstrings, 3 of them as pairs" in capsys.readouterr().out
    for name, keys in (
        ("docstrings", {"title", "text"}),
        ("docstring-pairs", {"query", "positive"}),
    ):
        lines = (tmp_path / "out" / f"{name}.jsonl").read_text("utf-8").splitlines()
        assert [set(json.loads(line)) for line in lines] == [keys] * 3
