"""The demonstration: its questions, one run of it, and `dupmae demo`."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from dupmae_cli.demo import _hint
from dupmae_toolkit import HybridIndex
from dupmae_toolkit.demo import demonstration
from dupmae_toolkit.demo.demonstration import EXAMPLE_HITS, EXAMPLES, MODES, run_demo
from dupmae_toolkit.demo.questions import load_questions
from dupmae_toolkit.errors import InputError
from dupmae_toolkit.records import Document
from tests import cli_support
from tests.demo_support import demo_documents
from tests.support import HashingEncoder


@pytest.fixture(scope="module")
def documents():
    return demo_documents()


@pytest.fixture(scope="module")
def few(documents):
    """The judged documents and some others."""
    judged = {
        name
        for grades in load_questions({d.id for d in documents}).qrels.values()
        for name in grades
    }
    return [d for number, d in enumerate(documents) if d.id in judged or number % 50 == 0]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "indexes" / "demo"


@pytest.fixture(scope="module")
def first(folder, few):
    """The first run, which builds the index in ``folder``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(demonstration, "read_docstrings", lambda progress: few)
        return run_demo(folder, HashingEncoder())


class TestQuestions:
    def test_there_are_many_and_each_has_a_direct_answer(self, documents):
        asked = load_questions({document.id for document in documents})
        assert len(asked.queries) >= 80
        assert len({query.text for query in asked.queries}) == len(asked.queries)
        assert [query.id for query in asked.queries] == list(asked.qrels)
        grades = [grade for judged in asked.qrels.values() for grade in judged.values()]
        assert set(grades) == {1, 2}
        assert asked.judgements == len(grades)
        with_answer = sum(2 in judged.values() for judged in asked.qrels.values())
        assert with_answer >= 0.95 * len(asked.queries)

    def test_the_running_python_documents_what_is_judged(self, documents):
        asked = load_questions({document.id for document in documents})
        assert len(asked.missing) <= 0.05 * (asked.judgements + len(asked.missing))
        assert len(asked.dropped) <= 2

    def test_a_question_whose_answers_are_all_missing_is_dropped(self, documents):
        known = {document.id for document in documents} - {"math.gcd", "zip"}
        asked = load_questions(known)
        assert asked.missing == ["math.gcd", "zip"]
        assert asked.dropped == ["greatest common divisor"]
        assert len(asked.queries) == len(load_questions(known | {"math.gcd"}).queries) - 1
        zipped = next(q for q in asked.queries if q.text == "go through two lists at the same time")
        assert asked.qrels[zipped.id] == {"itertools.zip_longest": 1, "map": 1}

    def test_a_limit_takes_questions_from_the_whole_list(self, documents):
        known = {document.id for document in documents}
        every = load_questions(known).queries
        assert load_questions(known, 2).queries == [every[0], every[len(every) // 2]]
        assert load_questions(known, 10_000).queries == every
        assert len(load_questions(known, 7).qrels) == 7

    @pytest.mark.parametrize("limit", [0, -1])
    def test_no_questions_are_refused(self, limit):
        with pytest.raises(InputError, match="at least one"):
            load_questions({"math.gcd"}, limit)

    def test_a_python_without_docstrings_is_refused(self):
        with pytest.raises(InputError, match="documents nothing that was judged"):
            load_questions(set())


@pytest.mark.java
class TestRun:
    @pytest.fixture(autouse=True)
    def only_few(self, monkeypatch, few):
        monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: few)

    def test_measures_every_mode_and_bm25(self, first, few):
        assert list(first.modes) == [*MODES, "lucene-bm25"]
        for found in first.modes.values():
            assert list(found.measures) == ["nDCG@10", "R@100", "RR@10"]
            assert all(0 < value <= 1 for value in found.measures.values())
            assert found.milliseconds > 0
        assert first.documents == first.encoded == len(few)
        assert first.words == sum(len(f"{d.title} {d.text}".split()) for d in few)

    def test_the_measures_are_those_of_the_index_that_it_leaves(self, folder, first, few):
        asked = load_questions({document.id for document in few})
        index = HybridIndex.open(folder, HashingEncoder())
        ranks = []
        for query in asked.queries:
            relevant = asked.qrels[query.id]
            hits = [hit for hit in index.search(query.text, k=10) if hit.id in relevant]
            ranks.append(1 / hits[0].rank if hits else 0.0)
        assert math.isclose(first.modes["hybrid"].measures["RR@10"], sum(ranks) / len(ranks))

    def test_shows_the_questions_whose_hits_have_the_highest_grades(self, folder, first, few):
        asked = load_questions({document.id for document in few})
        grades = {}
        with HybridIndex.open(folder, HashingEncoder()) as index:
            for query in asked.queries:
                hits = index.search(query.text, EXAMPLE_HITS)
                grades[query.text] = sum(asked.qrels[query.id].get(hit.id, 0) for hit in hits)
        best = sorted(grades, key=grades.__getitem__, reverse=True)  # of equals, the earlier ones
        assert [question for question, _ in first.examples] == best[:EXAMPLES]
        assert grades[best[0]] > 2

    def test_shows_hits_with_texts(self, first):
        for _, hits in first.examples:
            assert [hit.rank for hit in hits] == [1, 2, 3]
            assert all(hit.title and hit.text for hit in hits)

    def test_says_how_long_it_took(self, first):
        assert all(value is not None and value >= 0 for value in first.seconds.values())
        assert list(first.seconds) == ["reading", "model", "encoding", "indexing"]

    def test_a_second_run_uses_the_index_again_and_finds_the_same(self, folder, first):
        before = (folder / "manifest.json").stat()
        notes = []
        again = run_demo(folder, HashingEncoder(), note=notes.append)
        assert again.reused
        assert (folder / "manifest.json").stat() == before
        assert (again.encoded, again.seconds["encoding"]) == (0, None)
        assert again.examples == first.examples
        for mode, found in again.modes.items():
            assert found.measures == first.modes[mode].measures
        assert any("earlier run" in note for note in notes)

    def test_other_documents_or_another_encoder_replace_it(self, tmp_path, few, monkeypatch):
        folder = tmp_path / "demo"
        monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: few[:400])
        assert run_demo(folder, HashingEncoder(), questions=3).documents == 400
        monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: few[:401])
        report = run_demo(folder, HashingEncoder(), questions=3)
        assert (report.documents, report.reused, report.questions) == (401, False, 3)
        report = run_demo(folder, HashingEncoder(size=300, name="other"), questions=3)
        assert (report.model, report.reused) == ("other", False)
        assert not (folder / ".building").exists()

    def test_an_interrupted_run_is_continued(self, tmp_path, few, monkeypatch):
        monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: few[:600])
        encoder = HashingEncoder()
        encode, calls = encoder.encode_documents, []

        def stop(texts, ids=None):
            calls.append(len(texts))
            if len(calls) == 2:
                raise KeyboardInterrupt
            return encode(texts, ids)

        monkeypatch.setattr(encoder, "encode_documents", stop)
        with pytest.raises(KeyboardInterrupt):
            run_demo(tmp_path / "demo", encoder, questions=2)
        report = run_demo(tmp_path / "demo", encoder, questions=2)
        assert (report.reused, report.documents) == (False, 600)
        assert report.encoded == 600 - calls[0]

    def test_an_index_of_something_else_is_left_alone(self, tmp_path):
        HybridIndex.build(tmp_path / "notes", [Document("1", "", "a note")], HashingEncoder())
        before = (tmp_path / "notes" / "manifest.json").read_bytes()
        with pytest.raises(InputError, match=r"notes: holds an index of .*; name another folder"):
            run_demo(tmp_path / "notes", HashingEncoder())
        assert (tmp_path / "notes" / "manifest.json").read_bytes() == before

    def test_a_folder_with_other_files_is_left_alone(self, tmp_path):
        (tmp_path / "letter.txt").write_text("dear")
        with pytest.raises(InputError, match="not empty"):
            run_demo(tmp_path, HashingEncoder())
        assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


class TestHint:
    """What the demonstration ends with is run by a shell, as people would paste it."""

    @pytest.fixture
    def install(self, monkeypatch, tmp_path):
        """A function that makes a folder with a program `dupmae`, which prints its arguments."""
        monkeypatch.chdir(tmp_path)

        def install(folder):
            path = tmp_path / folder / "dupmae"
            path.parent.mkdir(parents=True)
            path.write_text('#!/bin/sh\nprintf "%s\\n" "$0" "$@"\n')
            path.chmod(0o755)
            return path

        return install

    @pytest.mark.parametrize("called", ["absolute", "relative", "by its name", "python -c"])
    @pytest.mark.parametrize("path", ["", "here", "elsewhere"])
    @pytest.mark.parametrize("folder", [".venv/bin", "my venv/bin"])
    def test_it_calls_the_program_that_printed_it(self, install, monkeypatch, folder, path, called):
        here, elsewhere = install(folder), install("elsewhere")
        paths = {"": [], "here": [here, elsewhere], "elsewhere": [elsewhere, here]}[path]
        monkeypatch.setenv("PATH", ":".join([str(p.parent) for p in paths] + ["/usr/bin:/bin"]))
        if called == "by its name":
            monkeypatch.chdir(here.parent)
        monkeypatch.setattr(sys, "executable", str(here.with_name("python")))
        first = {"absolute": here, "relative": here.relative_to(elsewhere.parents[1])}
        first |= {"by its name": "dupmae", "python -c": "-c"}
        monkeypatch.setattr(sys, "argv", [str(first[called]), "demo"])
        done = subprocess.run(
            _hint(Path("indexes/demo"), "builtin"), shell=True, capture_output=True, text=True
        )
        program, *words = done.stdout.splitlines()
        assert Path(program).samefile(here)
        assert words[:3] == ["search", "--index", "indexes/demo"]
        assert len(words) == 4

    def test_it_is_short_where_the_shell_finds_the_program(self, install, monkeypatch):
        monkeypatch.setenv("PATH", str(install("bin").parent))
        monkeypatch.setattr(sys, "argv", ["bin/dupmae"])
        hint = _hint(Path("my index"), "models/mine")
        assert hint.startswith("dupmae search --index 'my index' --model models/mine ")

    def test_it_runs_the_package_where_no_program_is_installed(self, install, monkeypatch):
        monkeypatch.setenv("PATH", str(install("elsewhere").parent))
        python = install("no program").parent / "python"
        python.with_name("dupmae").rename(python)
        monkeypatch.setattr(sys, "executable", str(python))
        monkeypatch.setattr(sys, "argv", ["dupmae_toolkit/__main__.py", "demo"])
        hint = _hint(Path("indexes/demo"), "builtin")
        done = subprocess.run(["/bin/sh", "-c", hint], capture_output=True, text=True)
        assert done.stdout.splitlines()[:4] == [str(python), "-m", "dupmae_toolkit", "search"]


@pytest.mark.java
class TestCommand:
    @pytest.fixture
    def dupmae(self, capsys, monkeypatch, few, tmp_path):
        """Run `dupmae demo` in an empty folder; gives the exit code, stdout and stderr."""
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(demonstration, "read_docstrings", lambda progress: few)
        monkeypatch.setattr(demonstration, "_load", lambda model: HashingEncoder(name=model))
        return partial(cli_support.run, capsys, "demo")

    def test_prints_hits_measures_times_and_what_to_do_next(self, dupmae, tmp_path):
        code, out, err = dupmae("--questions", 5)
        assert code == 0
        assert "The 3 questions, of 5, with the best-graded hits. The table below" in out
        rows = {line.split()[0]: line.split() for line in out.splitlines() if line.strip()}
        assert rows["mode"][1:4] == ["nDCG@10", "R@100", "RR@10"]
        for mode in [*MODES, "Lucene's"]:
            assert all(0 <= float(value) <= 1 for value in rows[mode][-4:-1])
        assert "encoded by builtin in" in out
        assert "dupmae search --index indexes/demo" in out
        assert (tmp_path / "indexes" / "demo" / "manifest.json").exists()
        assert "docstrings of Python" in err
        code, out, _ = dupmae("--questions", 5)
        assert code == 0
        assert "indexed by an earlier run" in out

    def test_json_is_one_document_and_nothing_else(self, dupmae):
        code, out, err = dupmae("--json", "--questions", 4, "--index", "here", "--model", "mine")
        report = json.loads(out)
        assert (code, err) == (0, "")
        assert (report["index"], report["model"], report["questions"]) == ("here", "mine", 4)
        assert report["modes"].keys() == {*MODES, "lucene-bm25"}
        assert report["examples"][0]["hits"][0]["rank"] == 1

    def test_no_questions_are_refused_in_a_line(self, dupmae, tmp_path):
        code, out, err = dupmae("--questions", 0)
        assert (code, out) == (2, "")
        assert err == "dupmae: 0 questions: ask for at least one\n"
        assert not (tmp_path / "indexes").exists()
